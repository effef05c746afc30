//go:build integration

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/pipestest"
)

// victims makes a directory with a file that must not change, and returns a
// function that checks that.
func victims(t *testing.T) (dir string, check func()) {
	t.Helper()
	dir = t.TempDir()
	write(t, filepath.Join(dir, "a"), []byte("precious"))
	return dir, func() {
		t.Helper()
		sameAs(t, "outside", below(t, dir), map[string]string{"a": "precious"})
	}
}

// With -r, nothing is written through a link below DIR, wherever it stands and
// leads to; it is refused by name. The others are copied. DIR may be a link.
func TestLinksBelowDSTAreNotFollowed(t *testing.T) {
	links := map[string]func(s *scene, outside string) (at, to string){
		"last, to a victim":   func(_ *scene, outside string) (string, string) { return "sub/deep/a", filepath.Join(outside, "a") },
		"last, to nothing":    func(_ *scene, outside string) (string, string) { return "sub/deep/a", filepath.Join(outside, "none") },
		"last, inside":        func(*scene, string) (string, string) { return "sub/deep/a", "../../good" },
		"between":             func(_ *scene, outside string) (string, string) { return "sub/deep", outside },
		"between, first":      func(_ *scene, outside string) (string, string) { return "sub", outside },
		"between, inside":     func(*scene, string) (string, string) { return "sub/deep", "../other" },
		"between, to nothing": func(_ *scene, outside string) (string, string) { return "sub/deep", outside + "/none" },
		"between, round":      func(*scene, string) (string, string) { return "sub/deep", "../sub" },
	}
	for name, link := range links {
		for _, size := range []int{0, 100, 17 << 20} {
			t.Run(fmt.Sprintf("%s, %d bytes", name, size), func(t *testing.T) {
				t.Parallel()
				s := newScene(t)
				outside, check := victims(t)
				content := generated(size)
				s.from(t, "s3", "tree/sub/deep/a", content)
				s.from(t, "s3", "tree/z", []byte("z"))
				write(t, filepath.Join(s.dir, "good"), []byte("good"))
				if err := os.Mkdir(filepath.Join(s.dir, "other"), 0o700); err != nil {
					t.Fatal(err)
				}
				at, to := link(s, outside)
				if err := os.MkdirAll(filepath.Dir(filepath.Join(s.dir, at)), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(to, filepath.Join(s.dir, at)); err != nil {
					t.Fatal(err)
				}
				if e := s.runs(t, 1, "-r", "s3://bikes/tree", s.dir); !strings.Contains(e.log, filepath.Join(s.dir, at)) || !strings.Contains(e.log, "link") {
					t.Errorf("want that the link %s is refused, got %v", at, e)
				}
				check()
				sameAs(t, "below DIR", below(t, s.dir), map[string]string{"good": "good", "z": "z", at: "L---------" + to})
			})
		}
	}
	t.Run("DIR itself", func(t *testing.T) {
		s := newScene(t)
		s.from(t, "s3", "tree/sub/a", []byte("a"))
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(s.dir, link); err != nil {
			t.Fatal(err)
		}
		s.runs(t, 0, "-r", "s3://bikes/tree", link)
		sameAs(t, "below DIR", below(t, s.dir), map[string]string{"sub/a": "a"})
	})
}

// Not even where a directory becomes a link while its files come.
func TestDirectoryThatBecomesALink(t *testing.T) {
	for _, size := range []int{1 << 20, 17 << 20} {
		for name, to := range map[string]string{"outside": "", "inside": "../other"} {
			t.Run(fmt.Sprintf("%d bytes, to one %s", size, name), func(t *testing.T) {
				t.Parallel()
				s := newScene(t)
				line := startLine(t, s.store.URL)
				outside, check := victims(t)
				if to == "" {
					to = outside
				}
				for i := range 4 {
					s.from(t, "s3", fmt.Sprintf("tree/sub/deep/%d", i), generated(size))
				}
				sub, other := filepath.Join(s.dir, "sub/deep"), filepath.Join(s.dir, "other")
				if err := os.Mkdir(other, 0o700); err != nil {
					t.Fatal(err)
				}
				var said bytes.Buffer
				c := command(t, append(s.environ, "AWS_ENDPOINT_URL="+line.URL), "copy", "-r", "--parallel", "2", "s3://bikes/tree", s.dir)
				c.Stderr = &said
				line.hold.Store(int64(size) + 1)
				start(t, c)
				eventually(t, "the first come", func() bool {
					_, err := os.Lstat(sub)
					return err == nil && line.passed.Load() > int64(size)
				})
				if err := os.Rename(sub, sub+".away"); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(to, sub); err != nil {
					t.Fatal(err)
				}
				line.hold.Store(0)
				interrupted(t, c, &said, 1)
				check()
				sameAs(t, "where the link leads", below(t, other), nil)
			})
		}
	}
}

// A special is something that is no file, at a place where we may want to make one.
func specials(victim string) map[string]func(path string) error {
	return map[string]func(path string) error{
		"a link to a victim":    func(path string) error { return os.Symlink(victim, path) },
		"a link to nothing":     func(path string) error { return os.Symlink(victim+".none", path) },
		"a link to a directory": func(path string) error { return os.Symlink(filepath.Dir(victim), path) },
		"a FIFO":                func(path string) error { return syscall.Mkfifo(path, 0o666) },
		"a directory":           func(path string) error { return os.Mkdir(path, 0o700) },
		"a hard link":           func(path string) error { return os.Link(victim, path) },
		"a socket": func(path string) error {
			l, err := net.Listen("unix", path)
			if err == nil {
				l.(*net.UnixListener).SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		},
		"a device": func(path string) error { return syscall.Mknod(path, syscall.S_IFCHR|0o666, 1<<8|5) }, // zero
	}
}

// What stands where we want to write for ourselves is neither written through nor
// waited for: the copy succeeds, or is refused, at once.
func TestSpecialFilesInOurPlaces(t *testing.T) {
	names := ours(t, "r.csv")
	for _, kind := range []string{"http", "s3", "file"} {
		outside, check := victims(t)
		for what, plant := range specials(filepath.Join(outside, "a")) {
			t.Run(kind+", "+what, func(t *testing.T) {
				s := newScene(t)
				s.dir = shortDir(t)
				for _, name := range names {
					if err := plant(filepath.Join(s.dir, name)); err != nil {
						t.Skipf("SKIPPED: %v", err)
					}
				}
				before := below(t, s.dir)
				content := generated(17 << 20)
				e := s.copies(t, "r.csv", s.from(t, kind, "r.csv", content), s.to("file", "r.csv"))
				got := below(t, s.dir)
				if arrived, ok := got["r.csv"]; e.code == 0 && arrived != string(content) || e.code == 1 && ok || e.code != 0 && e.code != 1 {
					t.Errorf("%d bytes: %v", len(arrived), e)
				}
				if e.code == 1 && !slices.ContainsFunc(names, func(name string) bool { return strings.Contains(e.log, name) }) {
					t.Errorf("it does not say what is in its way: %v", e)
				}
				delete(got, "r.csv")
				sameAs(t, "beside it", got, before)
				check()
			})
		}
	}
}

// So it is where only one of them is there, and the copy takes its time: no state
// is saved through a link, nor waited for.
func TestOneSpecialFileInOurPlaces(t *testing.T) {
	names := []string{".x.bin.part", ".x.bin.part.json", ".x.bin.part.json.new"}
	for _, name := range ours(t, "x.bin") {
		if strings.Contains(name, "x.bin.") && !slices.Contains(names, name) && !slices.Contains(madeUp("x.bin"), name) {
			names = append(names, name)
		}
	}
	for _, kind := range []string{"http", "s3"} {
		for _, name := range names {
			for _, what := range []string{"a link to a victim", "a link to nothing", "a FIFO"} {
				t.Run(kind+", "+what+" at "+name, func(t *testing.T) {
					t.Parallel()
					h := newHalfway(t, kind)
					outside, check := victims(t)
					if err := specials(filepath.Join(outside, "a"))[what](filepath.Join(h.dir, name)); err != nil {
						t.Fatal(err)
					}
					before := below(t, h.dir)
					e := copyEnds(t, h.environ, h.from, h.to)
					got := below(t, h.dir)
					if arrived, ok := got["x.bin"]; e.code == 0 && arrived != string(h.content) || e.code == 1 && (ok || !strings.Contains(e.log, name)) || e.code > 1 {
						t.Errorf("%d bytes: %v", len(arrived), e)
					}
					delete(got, "x.bin")
					sameAs(t, "beside it", got, before)
					check()
				})
			}
		}
	}
}

// shortDir returns a directory whose name leaves room for that of a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "p") //nolint:usetesting // the names of t.TempDir leave no room
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// So is what stands in the state directory, and where Dagster names files.
func TestSpecialFilesInTheStateDirectory(t *testing.T) {
	s := newScene(t)
	state, from := filepath.Join(s.home, "state"), s.from(t, "file", "large", generated(9<<20))
	planted(t, s.home, map[string]string{"tree/a": "a", "list": s.from(t, "http", "b", []byte("b"))})
	_ = os.MkdirAll(filepath.Join(state, "uploads"), 0o700)
	madeUploads := namesMade(t, filepath.Join(state, "uploads"))
	s.environ = append(s.environ, "PERDURE_STORE=host")
	commands := [][]string{
		{from, "s3://bikes/large"},
		{"-r", filepath.Join(s.home, "tree"), "s3://bikes/tree"},
		{"--from-file", filepath.Join(s.home, "list"), s.dir},
	}
	for _, args := range commands {
		s.runs(t, 0, args...)
	}
	places := map[string]bool{}
	for _, name := range madeUploads() {
		places["uploads/"+name] = true
	}
	if err := fs.WalkDir(os.DirFS(state), ".", func(path string, _ fs.DirEntry, err error) error {
		places[path] = true
		return err
	}); err != nil {
		t.Fatal(err)
	}
	delete(places, ".")
	for what, plant := range specials(filepath.Join(t.TempDir(), "none")) {
		for place := range places {
			t.Run(what+" at "+place, func(t *testing.T) {
				plant := plant
				if err := errors.Join(os.RemoveAll(state), os.MkdirAll(filepath.Dir(filepath.Join(state, place)), 0o700)); err != nil {
					t.Fatal(err)
				}
				outside, check := victims(t)
				if strings.Contains(what, "victim") || what == "a hard link" {
					plant = specials(filepath.Join(outside, "a"))[what]
				}
				if err := plant(filepath.Join(state, place)); err != nil {
					t.Skipf("SKIPPED: %v", err)
				}
				for _, args := range commands {
					_ = os.Remove(filepath.Join(s.dir, "b"))
					if e := s.run(t, args...); e.code != 0 && (e.code != 1 || !strings.Contains(e.log, place)) {
						t.Errorf("%q: want success, or that the place is named: %v", args, e)
					}
				}
				check()
			})
		}
	}
	for what, plant := range map[string]func(string) error{"a FIFO": specials("")["a FIFO"], "a device": specials("")["a device"]} {
		for _, variable := range []string{"DAGSTER_PIPES_CONTEXT", "DAGSTER_PIPES_MESSAGES"} {
			t.Run(what+" in "+variable, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "pipes")
				if err := plant(path); err != nil {
					t.Skipf("SKIPPED: %v", err)
				}
				packed, err := pipestest.Pack(dict{"path": path})
				if err != nil {
					t.Fatal(err)
				}
				step := newStep(t, "my_asset")
				if e := copyEnds(t, slices.Concat(s.environ, step.environ, []string{variable + "=" + packed}), from, "s3://bikes/large"); e.code != 0 {
					t.Errorf("%v", e)
				}
			})
		}
	}
}
