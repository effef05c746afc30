//go:build integration && linux

package main

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// made makes the packages of this host with that binary, and returns their directory.
func made(t *testing.T, binary, runs string) string {
	t.Helper()
	out := t.TempDir()
	b := build{root: "../../..", binary: binary, runs: runs, version: "1.2.3", arch: runtime.GOARCH, at: time.Unix(1767323045, 0).UTC(), out: out}
	if names, err := b.packages(t.Context()); err != nil || len(names) != 2 {
		t.Fatalf("%q: %v", names, err)
	}
	return out
}

// TestPackages makes the packages, installs and removes them, has linters check them, and compares two of the same files.
func TestPackages(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "perdure")
	run(t, []string{"GOWORK=", "CGO_ENABLED=0"}, "go", "-C", "../../..", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.release=1.2.3", "-o", binary, "./cmd/perdure")
	dir := made(t, binary, binary)
	t.Run("install and remove", func(t *testing.T) { installAndRemove(t, dir) })
	t.Run("linters", func(t *testing.T) { lintersAgree(t, dir) })
	t.Run("the same bytes", func(t *testing.T) {
		one, other := made(t, "main.go", binary), made(t, "main.go", binary) // any file is quicker than the command
		files, err := filepath.Glob(filepath.Join(one, "*"))
		if err != nil || len(files) != 2 {
			t.Fatalf("%q: %v", files, err)
		}
		for _, file := range files {
			a, err1 := os.ReadFile(file)                                      //nolint:gosec // a file of the test
			b, err2 := os.ReadFile(filepath.Join(other, filepath.Base(file))) //nolint:gosec // a file of the test
			if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
				t.Errorf("two packages %s of the same files differ (%v, %v)", filepath.Base(file), err1, err2)
			}
		}
	})
}

// run runs a program and returns what it prints.
func run(t *testing.T, env []string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), args[0], args[1:]...) //nolint:gosec // the test's own
	c.Env = append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// one returns the file of that ending in dir.
func one(t *testing.T, dir, ending string) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*"+ending))
	if err != nil || len(all) != 1 {
		t.Fatalf("%q: %v", all, err)
	}
	return all[0]
}

func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed (`make integration` installs it, as root on Debian)", program)
	}
}

// installAndRemove installs each package into an empty root, runs the command from there, reads its manual, and
// removes the package: no file of it stays.
func installAndRemove(t *testing.T, dir string) {
	t.Helper()
	for ending, steps := range map[string]struct{ install, remove []string }{
		".deb": {[]string{"dpkg", "--root=ROOT", "--force-not-root", "--log=/dev/null", "-i", "FILE"}, []string{"dpkg", "--root=ROOT", "--force-not-root", "--log=/dev/null", "--purge", "perdure"}},
		".rpm": {[]string{"rpm", "--root=ROOT", "--nodeps", "-i", "FILE"}, []string{"rpm", "--root=ROOT", "-e", "perdure"}},
	} {
		t.Run(ending, func(t *testing.T) {
			needs(t, steps.install[0])
			root, file := t.TempDir(), one(t, dir, ending)
			if err := os.MkdirAll(filepath.Join(root, "var/lib/dpkg/info"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			fill := func(args []string) []string {
				return strings.Split(strings.NewReplacer("ROOT", root, "FILE", file).Replace(strings.Join(args, "\n")), "\n")
			}
			run(t, nil, fill(steps.install)...)
			if got := run(t, nil, filepath.Join(root, "usr/bin/perdure"), "version"); !strings.HasPrefix(got, "perdure 1.2.3 ") {
				t.Errorf("version: %q", got)
			}
			page := filepath.Join(root, "usr/share/man/man1/perdure-copy.1.gz")
			if _, err := exec.LookPath("mandoc"); err == nil {
				if text := run(t, nil, "mandoc", "-T", "utf8", page); !strings.Contains(text, "2026-01-02") {
					t.Errorf("the manual page has no date:\n%s", text)
				}
				copies := filepath.Join(t.TempDir(), "man")
				run(t, nil, "cp", "-r", filepath.Join(root, "usr/share/man"), copies)
				run(t, nil, "gzip", "-dr", copies)
				pages, err := filepath.Glob(filepath.Join(copies, "man?", "*"))
				if err != nil || len(pages) < 20 {
					t.Fatalf("%d pages: %v", len(pages), err)
				}
				run(t, nil, append([]string{"mandoc", "-T", "lint", "-W", "warning"}, pages...)...)
			}
			if n := len(installed(t, root)); n < 30 {
				t.Errorf("%d files are installed", n)
			}
			run(t, nil, fill(steps.remove)...)
			if left := installed(t, root); len(left) > 0 {
				t.Errorf("removed, and %q are left", left)
			}
		})
	}
}

// installed returns the files below root/usr that belong to a package.
func installed(t *testing.T, root string) (all []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), "usr", func(name string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err == nil && !d.IsDir() && !strings.HasPrefix(name, "usr/lib/sysimage") {
			all = append(all, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// lintersAgree runs the linters of Debian and of rpm. rpmlint of Debian has the rules of no distribution of rpm: it
// wants a signature, which comes with a release, bz2, and that a package of one static binary depend on a library.
func lintersAgree(t *testing.T, dir string) {
	t.Helper()
	t.Run("lintian", func(t *testing.T) {
		needs(t, "lintian")
		if found := run(t, nil, "lintian", "--allow-root", "--fail-on", "error,warning", one(t, dir, ".deb")); strings.Contains(found, "perdure:") {
			t.Error(found)
		}
	})
	t.Run("rpmlint", func(t *testing.T) {
		needs(t, "rpmlint")
		known := regexp.MustCompile(`: (no-signature|manpage-not-compressed bz2|statically-linked-binary|invalid-license Apache-2.0|no-changelogname-tag|no-binary|no-manual-page-for-binary)\b`)
		out, _ := exec.CommandContext(t.Context(), "rpmlint", one(t, dir, ".rpm")).Output() //nolint:gosec // a file of the test
		for line := range strings.Lines(string(out)) {
			if regexp.MustCompile(`: [EW]: `).MatchString(line) && !known.MatchString(line) {
				t.Error(line)
			}
		}
		if !strings.Contains(string(out), "1 packages and 0 specfiles checked") {
			t.Errorf("rpmlint: %s", out)
		}
	})
}
