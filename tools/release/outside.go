package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/tools/tree"
)

//go:embed testdata/consumer/main.go
var consumer []byte

// An outside is the environment of a user who has only the proxy.
type outside struct {
	proxy string // our modules, as a directory
	tmp   string
	env   []string
}

func newOutside(ctx context.Context, tmp string) (*outside, error) {
	o := &outside{proxy: filepath.Join(tmp, "proxy"), tmp: tmp, env: os.Environ()}
	known, err := o.goCommand(ctx, tmp, "env", "GOMODCACHE", "GOPROXY")
	if err != nil {
		return nil, err
	}
	cache, upstream, _ := strings.Cut(strings.TrimSpace(known), "\n")
	o.env = append(o.env,
		// Ours first, then what was downloaded before, then where this user's modules come from.
		"GOPROXY="+strings.Join([]string{fileURL(o.proxy), fileURL(filepath.Join(cache, "cache", "download")), upstream}, ","),
		"GONOSUMDB="+tree.Own+","+tree.Own+"/*", // no checksum database knows an unpublished version
		"GOPRIVATE=", "GONOPROXY=", // our modules come from our proxy
		"GOMODCACHE="+filepath.Join(tmp, "modcache"),
		"GOBIN="+filepath.Join(tmp, "bin"),
		"GOWORK=off",
		// -trimpath: the build cache then serves the next run, whose directories have other names.
		"GOFLAGS=-modcacherw -trimpath",
	)
	return o, nil
}

func fileURL(dir string) string {
	return "file:///" + strings.TrimPrefix(filepath.ToSlash(dir), "/")
}

func (o *outside) check(ctx context.Context, mods []tree.Module, version string) error {
	if err := o.installCommand(ctx, version); err != nil {
		return fmt.Errorf("installing the command: %w", err)
	}
	if err := o.buildConsumer(ctx, version); err != nil {
		return fmt.Errorf("a module that uses the library: %w", err)
	}
	for _, m := range mods {
		if !m.Published() || m.Path == tree.Own || strings.HasPrefix(m.Rel, "cmd/") {
			continue
		}
		if err := o.buildLibrary(ctx, m, version); err != nil {
			return fmt.Errorf("a module that uses %s: %w", m.Rel, err)
		}
	}
	return nil
}

// installCommand installs the command as the README says.
func (o *outside) installCommand(ctx context.Context, version string) error {
	dir, err := o.emptyDir("install")
	if err != nil {
		return err
	}
	if err := o.download(ctx, dir, "install", tree.Own+"/cmd/perdure@"+version); err != nil {
		return err
	}
	out, err := o.output(ctx, dir, filepath.Join(o.tmp, "bin", "perdure"), "version")
	if err != nil {
		return err
	}
	fmt.Printf("go install .../cmd/perdure@%s, then perdure version: %s\n", version, firstLine(out))
	if !strings.Contains(out, version) {
		return fmt.Errorf("perdure version says %q, want %s in it", out, version)
	}
	return nil
}

// buildConsumer builds and runs a user's program, which must require only our module.
func (o *outside) buildConsumer(ctx context.Context, version string) error {
	dir, err := o.emptyDir("consumer")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), consumer, 0o600); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"mod", "init", "example.com/consumer"},
		{"get", tree.Own + "@" + version},
		{"mod", "tidy"},
		{"vet", "./..."},
	} {
		if err := o.download(ctx, dir, args...); err != nil {
			return err
		}
	}
	out, err := o.goCommand(ctx, dir, "run", ".")
	if err != nil {
		return err
	}
	list, err := o.goCommand(ctx, dir, "list", "-m", "all")
	if err != nil {
		return err
	}
	if want := "example.com/consumer\n" + tree.Own + " " + version + "\n"; list != want {
		return fmt.Errorf("it gets the modules\n%swant\n%s", list, want)
	}
	fmt.Printf("outside module with retry, circuit, httpretry: runs (%s), and `go list -m all` holds no third party\n", firstLine(out))
	return nil
}

// buildLibrary builds a program that imports one of our nested modules.
func (o *outside) buildLibrary(ctx context.Context, m tree.Module, version string) error {
	dir, err := o.emptyDir("uses-" + strings.ReplaceAll(m.Rel, "/", "-"))
	if err != nil {
		return err
	}
	program := fmt.Sprintf("package main\n\nimport _ %q\n\nfunc main() {}\n", m.Path)
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o600); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"mod", "init", "example.com/user"},
		{"get", m.Path + "@" + version},
		{"build", "-o", os.DevNull, "."},
	} {
		if err := o.download(ctx, dir, args...); err != nil {
			return err
		}
	}
	fmt.Printf("outside module with %s: builds\n", m.Rel)
	return nil
}

func (o *outside) emptyDir(name string) (string, error) {
	dir := filepath.Join(o.tmp, name)
	return dir, os.Mkdir(dir, 0o700)
}

// download runs a go command that may download modules, or ask the checksum database for their sums, which this
// environment has not cached. It runs the command again, up to twice, if that fails: networks do now and then.
func (o *outside) download(ctx context.Context, dir string, args ...string) (err error) {
	for tries := range 3 {
		select {
		case <-time.After(time.Duration(tries) * 5 * time.Second):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
		if _, err = o.goCommand(ctx, dir, args...); err == nil {
			return nil
		}
	}
	return err
}

func (o *outside) goCommand(ctx context.Context, dir string, args ...string) (string, error) {
	return o.output(ctx, dir, "go", args...)
}

// output runs a command and returns its standard output; an error contains its standard error.
func (o *outside) output(ctx context.Context, dir, name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, o.env
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", errors.Join(fmt.Errorf("%s %s: %w", filepath.Base(name), strings.Join(args, " "), err), errors.New(stderr.String()))
	}
	return stdout.String(), nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
