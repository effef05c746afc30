package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"

	"github.com/seed-0f2c7998/perdure/tools/tree"
)

// publish adds m as version to the directory tree proxy, laid out as the go command reads it.
func publish(ctx context.Context, proxy string, m tree.Module, version string) error {
	if len(m.File.Replace) > 0 {
		return errors.New("its go.mod has a replace: `go install` would refuse it")
	}
	for _, req := range m.File.Require {
		if strings.HasPrefix(req.Mod.Path, tree.Own) && req.Mod.Version != version {
			return fmt.Errorf("it requires %s, want %s: all modules are published together", req.Mod, version)
		}
	}
	files, err := filesOf(ctx, m)
	if err != nil {
		return err
	}
	escaped, err := module.EscapePath(m.Path)
	if err != nil {
		return err
	}
	base := filepath.Join(proxy, filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(base, 0o700); err != nil {
		return err
	}
	zipFile, err := os.Create(filepath.Join(base, version+".zip"))
	if err != nil {
		return err
	}
	return errors.Join(
		modzip.Create(zipFile, module.Version{Path: m.Path, Version: version}, files),
		zipFile.Close(),
		os.WriteFile(filepath.Join(base, version+".mod"), m.Text, 0o600),
		os.WriteFile(filepath.Join(base, version+".info"), fmt.Appendf(nil, "{\"Version\":%q,\"Time\":\"2000-01-01T00:00:00Z\"}\n", version), 0o600),
		os.WriteFile(filepath.Join(base, "list"), []byte(version+"\n"), 0o600),
	)
}

// filesOf returns the files of m that git does not ignore. Files of modules nested in m are among them; they are left
// out when the zip is made.
func filesOf(ctx context.Context, m tree.Module) ([]modzip.File, error) {
	// A CI checkout may belong to another user, which git refuses by default.
	cmd := exec.CommandContext(ctx, "git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = m.Dir
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	var files []modzip.File
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		f := file{dir: m.Dir, name: name}
		if info, err := f.Lstat(); err == nil && info.Mode().IsRegular() {
			files = append(files, f)
		}
	}
	return files, nil
}

// A file is one file of a module, in the form that package zip needs.
type file struct{ dir, name string }

func (f file) Path() string                 { return f.name }
func (f file) full() string                 { return filepath.Join(f.dir, filepath.FromSlash(f.name)) }
func (f file) Lstat() (os.FileInfo, error)  { return os.Lstat(f.full()) }
func (f file) Open() (io.ReadCloser, error) { return os.Open(f.full()) }
