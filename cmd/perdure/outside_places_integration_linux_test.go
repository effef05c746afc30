//go:build integration

package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// shell runs copy by a shell, which first does what redirect says. The paths of
// the command and of the arguments are "$0" and "$@".
func shell(t *testing.T, environ []string, redirect string, args ...string) ending {
	t.Helper()
	c := command(t, environ)
	script := exec.CommandContext(t.Context(), "/bin/sh", append([]string{"-c", `exec "$0" copy "$@" ` + redirect, c.Path}, args...)...)
	script.Env = c.Env
	return endOf(t, script)
}

// python runs copy by Python, whose subprocess.run gets what redirect says.
func python(t *testing.T, environ []string, redirect string, args ...string) ending {
	t.Helper()
	interpreter, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	c := command(t, environ)
	script := exec.CommandContext(t.Context(), interpreter, append([]string{"-c", `import sys
from subprocess import DEVNULL, run
sys.exit(run([sys.argv[1], "copy", *sys.argv[2:]], ` + redirect + `).returncode)`, c.Path}, args...)...)
	script.Env = c.Env
	return endOf(t, script)
}

// A standard descriptor that is closed is an error where the copy needs it, and
// what is there stays; an empty one is a source of no bytes, as ever. The null
// device, opened for both reading and writing, can't be told from a closed one.
func TestClosedDescriptors(t *testing.T) {
	s := newScene(t)
	old, web, object := filepath.Join(s.dir, "old"), s.from(t, "http", "x", mib20()), s.from(t, "s3", "x", mib20())
	file := s.from(t, "file", "x", mib20())
	for _, c := range []struct {
		redirect string
		args     []string
		code     int
	}{
		{"<&-", []string{"-", old}, 1},
		{"<&-", []string{"-", "s3://bikes/old"}, 1},
		{"<&-", []string{"-", "-"}, 1},
		{">&-", []string{web, "-"}, 1},
		{">&-", []string{object, "-"}, 1},
		{">&-", []string{file, "-"}, 1},
		{"<&- >&-", []string{"-", "-"}, 1},
		{"<&- >&- 2>&-", []string{"-", old}, 1},
		{"2>&- >&-", []string{web, "-"}, 1},
		{"<&-", []string{"-r", s.dir, "s3://bikes/all", "--manifest", "-"}, 0},
		{">&-", []string{"-r", s.dir, "s3://bikes/all", "--manifest", "-"}, 1},
		{"<&- >&-", []string{file, filepath.Join(s.dir, "copied")}, 0},
		{"<&- >&- 2>&-", []string{web, filepath.Join(s.dir, "copied")}, 0},
		{"</dev/null", []string{"-", filepath.Join(s.dir, "empty")}, 0},
		{">/dev/null", []string{web, "-"}, 0},
		{"<>/dev/null", []string{"-", old}, 1},
		{"<>/dev/null", []string{"-", "s3://bikes/old"}, 1},
		{"1<>/dev/null", []string{web, "-"}, 1},
		{"1<>/dev/null", []string{file, filepath.Join(s.dir, "copied")}, 0},
		{"<>/dev/null", []string{web, "-"}, 0},
		{"stdin=DEVNULL", []string{"-", old}, 1},
		{"stdin=DEVNULL", []string{"-", "s3://bikes/old"}, 1},
		{"stdout=DEVNULL", []string{web, "-"}, 1},
		{"stdin=DEVNULL, stdout=DEVNULL", []string{web, filepath.Join(s.dir, "copied")}, 0},
		{"stdin=open('/dev/null'), stdout=open('/dev/null', 'w')", []string{"-", filepath.Join(s.dir, "empty")}, 0},
		{"stdout=open('/dev/null', 'w')", []string{web, "-"}, 0},
	} {
		t.Run(strings.Join(append(c.args, c.redirect), " "), func(t *testing.T) {
			write(t, old, []byte("old"))
			_ = s.store.Store("bikes", "old", []byte("old"))
			run := shell
			if strings.HasPrefix(c.redirect, "std") {
				run = python
			}
			e := run(t, s.environ, c.redirect, c.args...)
			if e.code != c.code {
				t.Errorf("want exit code %d, got %v", c.code, e)
			}
			if why := "bad file descriptor: it is closed, or is the null device opened for both"; c.code != 0 && !strings.Contains(c.redirect, "2>&-") && !strings.Contains(e.log, why) {
				t.Errorf("it does not say %q: %v", why, e)
			}
			if content, _ := os.ReadFile(old); string(content) != "old" {
				t.Errorf("%s has %d bytes", old, len(content))
			}
			if content, _ := s.store.Object("bikes", "old"); string(content) != "old" {
				t.Errorf("the object has %d bytes", len(content))
			}
		})
	}
	if got := below(t, s.dir); got["copied"] != string(mib20()) || got["empty"] != "" || len(got) != 3 {
		t.Errorf("there are %d files", len(got))
	}
}

// As another user, a file that may be written in a directory that may not: the
// error says how to do it.
func TestFileInADirectoryThatIsNotOurs(t *testing.T) {
	dir := shortDir(t)
	file, binary, home := filepath.Join(dir, "d", "file"), filepath.Join(dir, "perdure"), filepath.Join(dir, "home")
	for _, err := range []error{os.Mkdir(filepath.Dir(file), 0o755), os.Mkdir(home, 0o755), os.WriteFile(file, []byte("old"), 0o600), os.Chmod(dir, 0o755), os.Chmod(file, 0o666), os.Chmod(home, 0o777)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	to, err := os.OpenFile(binary, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil || to.Close() != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"http", "s3", "file"} {
		s := newScene(t)
		content := generated(17 << 20)
		source := s.from(t, kind, "x", content)
		if kind == "file" {
			source = filepath.Join(home, "x")
			write(t, source, content)
			_ = os.Chmod(source, 0o644)
		}
		c := exec.CommandContext(t.Context(), binary, "copy", source, file)
		c.Env, c.Dir = append(os.Environ(), append(s.environ, "HOME="+home, "PERDURE_STATE="+filepath.Join(home, "state"))...), home
		if os.Getuid() == 0 {
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		} else {
			_ = os.Chmod(filepath.Dir(file), 0o555)
			t.Cleanup(func() { _ = os.Chmod(filepath.Dir(file), 0o755) })
		}
		saysTheWay(t, endOf(t, c), file)
	}
}

// saysTheWay checks that a copy that can't put another file in the place of one
// says how it can be done.
func saysTheWay(t *testing.T, e ending, file string) {
	t.Helper()
	if content, err := os.ReadFile(file); err != nil || string(content) != "old" {
		t.Errorf("the file has %d bytes (%v)", len(content), err)
	}
	if e.code != 1 || !strings.Contains(e.log, " - >") || !strings.Contains(e.log, file) {
		t.Errorf("want exit code 1, and the way: copy SRC - > %s; got %v", file, e)
	}
}

// What becomes of links in a source is said by --links: they are followed, or
// left out, which is no failure, or failures, as where nothing is said.
func TestLinksOfASource(t *testing.T) {
	for name, link := range map[string]struct {
		to     string
		follow map[string]string // what comes of it; nil: a failure, or a directory, which may be one
	}{
		"to a file":           {"good", map[string]string{"link": "good"}},
		"to a file outside":   {"OUTSIDE/a", map[string]string{"link": "precious"}},
		"to a directory":      {"sub", nil},
		"to a dir outside":    {"OUTSIDE", nil},
		"to nothing":          {"none", nil},
		"to itself":           {"link", nil},
		"to where it stands":  {".", nil},
		"to what is above it": {"..", nil},
	} {
		for _, flags := range [][]string{nil, {"--links", "fail"}, {"--links", "skip"}, {"--links", "follow"}} {
			t.Run(fmt.Sprint(name, flags), func(t *testing.T) {
				t.Parallel()
				s := newScene(t)
				outside, check := victims(t)
				want := map[string]string{"good": "good", "sub/b": "b"}
				if err := os.Mkdir(filepath.Join(s.dir, "sub"), 0o700); err != nil {
					t.Fatal(err)
				}
				for path, content := range want {
					write(t, filepath.Join(s.dir, path), []byte(content))
				}
				if err := os.Symlink(strings.Replace(link.to, "OUTSIDE", outside, 1), filepath.Join(s.dir, "link")); err != nil {
					t.Fatal(err)
				}
				how, code := strings.Join(flags, " "), 1
				if how == "--links skip" || how == "--links follow" && link.follow != nil {
					code = 0
				}
				if how == "--links follow" {
					maps.Copy(want, link.follow)
				}
				e := s.run(t, append(append([]string{"-r"}, flags...), s.dir, "s3://bikes/up")...)
				if directory := how == "--links follow" && strings.Contains(name, "dir"); e.code != code && (!directory || e.code != 0) {
					t.Errorf("want exit code %d, got %v", code, e)
				}
				if e.code == 1 && !strings.Contains(e.log, filepath.Join(s.dir, "link")) {
					t.Errorf("it does not name the link: %v", e)
				}
				if how != "--links follow" && code == 1 && !strings.Contains(e.log, "--links skip") { // a second check would refuse it when it is opened
					t.Errorf("it does not say what to do: %v", e)
				}
				got := s.objects("up/")
				if how == "--links follow" && link.follow == nil { // a directory may be followed, and a loop be found out late
					for path := range got {
						if strings.HasPrefix(path, "link/") {
							delete(got, path)
						}
					}
				}
				sameAs(t, "up", got, want)
				check()
			})
		}
	}
	s := newScene(t)
	s.runs(t, 64, "-r", "--links", "maybe", s.dir, "s3://bikes/up")
}

// Two commands at a time that fetch other things to one place: it has one of
// them, whole.
func TestTwoSourcesOfOneFile(t *testing.T) {
	for range 3 {
		s := newScene(t)
		one, two := generated(17<<20), bytes.Repeat([]byte("two."), 5<<20)
		from := []string{s.from(t, "http", "one", one), s.from(t, "s3", "two", two)}
		var both []*exec.Cmd
		for _, source := range from {
			both = append(both, start(t, command(t, s.environ, "copy", source, s.to("file", "x"))))
		}
		ok := 0
		for _, c := range both {
			if _ = c.Wait(); c.ProcessState.ExitCode() == 0 { // its code tells
				ok++
			}
		}
		if got := s.came("file", "x", ending{}); ok == 0 || !bytes.Equal(got, one) && !bytes.Equal(got, two) {
			t.Errorf("%d of two succeeded, there are %d bytes", ok, len(got))
		}
		onlyFile(t, s.dir, "x")
	}
}
