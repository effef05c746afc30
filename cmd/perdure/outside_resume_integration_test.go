//go:build integration && unix

package main

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// A halfway is a download of 17 MiB that is killed on its way, to x.bin in a
// directory, where it may have left something.
type halfway struct {
	*testServers

	content  []byte
	dir      string
	from, to string
	environ  []string
	passed   func() int64
	hold     *atomic.Int64 // where no more passes; 0 is nowhere
}

func newHalfway(t *testing.T, kind string) *halfway {
	t.Helper()
	h := &halfway{testServers: startTestServers(t), content: generated(17 << 20), dir: t.TempDir()}
	h.environ, h.to = h.testServers.environ(t.TempDir()), filepath.Join(h.dir, "x.bin")
	switch kind {
	case "http":
		web := startSlow(t, h.content)
		h.from, h.passed, h.hold = web.URL+"/x.bin", web.sent.Load, &web.hold
	case "s3":
		line := startLine(t, h.store.URL)
		h.environ = append(h.environ, "AWS_ENDPOINT_URL="+line.URL)
		h.from, h.passed, h.hold = "s3://bikes/x.bin", line.passed.Load, &line.hold
		if err := h.store.Store("bikes", "x.bin", h.content); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// begin starts the copy, and returns when half of it has passed, and some of that is kept; the rest does when there is no hold.
func (h *halfway) begin(t *testing.T, said *bytes.Buffer) *exec.Cmd {
	t.Helper()
	c := command(t, h.environ, "copy", h.from, h.to)
	c.Stderr = said
	limit := h.passed() + 9<<20
	h.hold.Store(limit)
	start(t, c)
	eventually(t, "half of it has passed, and some of that is kept", func() bool {
		kept := int64(0)
		for _, path := range staged(h.dir, ".state") {
			_, size := written(path)
			kept += size
		}
		return h.passed() >= limit && kept > 0
	})
	return c
}

func (h *halfway) kill(t *testing.T) {
	t.Helper()
	c := h.begin(t, new(bytes.Buffer))
	_ = c.Process.Kill()
	_ = c.Wait() // it was killed
	h.hold.Store(0)
	if _, err := os.Stat(h.to); err == nil {
		t.Fatal("the file is there")
	}
}

// kept returns what the copy has beside its destination.
func (h *halfway) kept(t *testing.T) (paths []string) {
	t.Helper()
	for name := range below(t, h.dir) {
		if path := filepath.Join(h.dir, name); path != h.to {
			paths = append(paths, path)
		}
	}
	return paths
}

// arrives runs the copy to an end: the right bytes; and nothing beside them, if
// all that was left can be told to be ours.
func (h *halfway) arrives(t *testing.T, to string, ours bool) {
	t.Helper()
	e := copyEnds(t, h.environ, h.from, to)
	if got, err := os.ReadFile(to); e.code != 0 || !bytes.Equal(got, h.content) {
		t.Errorf("%d bytes, the right ones: %v (%v); %v", len(got), bytes.Equal(got, h.content), err, e)
	}
	if left := slices.Collect(maps.Keys(below(t, filepath.Dir(to)))); ours && len(left) != 1 {
		t.Errorf("there are %q, want one file", left)
	}
}

// rewrite replaces the content of files, in place.
func rewrite(t *testing.T, paths []string, change func(content []byte) []byte) {
	t.Helper()
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, change(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// poison changes some bytes in each MiB of what is large.
func poison(content []byte) []byte {
	for at := 0; at+4096 <= len(content) && len(content) > 1<<20; at += 1 << 20 {
		copy(content[at:], "EVILEVIL")
	}
	return content
}

// poisons are what may have happened to what a killed copy has left. Each returns
// the name to which the copy is to go then.
func poisons() map[string]func(t *testing.T, h *halfway) string {
	each := func(change func([]byte) []byte) func(*testing.T, *halfway) string {
		return func(t *testing.T, h *halfway) string { t.Helper(); rewrite(t, h.kept(t), change); return h.to }
	}
	small := func(change func([]byte) []byte) func([]byte) []byte {
		return func(content []byte) []byte {
			if len(content) > 1<<20 {
				return content
			}
			return change(content)
		}
	}
	return map[string]func(t *testing.T, h *halfway) string{
		"nothing":                func(_ *testing.T, h *halfway) string { return h.to },
		"changed in place":       each(poison),
		"cut":                    each(func(b []byte) []byte { return b[:len(b)/2] }),
		"empty":                  each(func([]byte) []byte { return nil }),
		"state is empty":         each(small(func([]byte) []byte { return nil })),
		"state is nested deeply": each(small(func([]byte) []byte { return bytes.Repeat([]byte("["), 1<<20) })),
		"state is huge": each(small(func(b []byte) []byte {
			return append(b, bytes.Repeat([]byte(" "), 300<<20)...)
		})),
		"numbers are huge": each(small(func(b []byte) []byte {
			return bytes.Map(func(r rune) rune {
				if r >= '0' && r <= '9' {
					return '9'
				}
				return r
			}, b)
		})),
		"numbers are negative": each(small(func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(":"), []byte(":-")) })),
		"copied elsewhere, and changed": func(t *testing.T, h *halfway) string {
			t.Helper()
			return h.move(t, func(from, to string) error {
				content, err := os.ReadFile(from)
				if err != nil {
					return err
				}
				return os.WriteFile(to, poison(content), 0o600)
			})
		},
		"moved elsewhere": func(t *testing.T, h *halfway) string { t.Helper(); return h.move(t, os.Rename) },
		"linked elsewhere": func(t *testing.T, h *halfway) string {
			t.Helper()
			return h.move(t, os.Link)
		},
		"other files of the same names": func(t *testing.T, h *halfway) string {
			t.Helper()
			for _, path := range h.kept(t) {
				content, err := os.ReadFile(path)
				if err != nil || os.Remove(path) != nil {
					t.Fatal(err)
				}
				write(t, path, poison(content))
			}
			return h.to
		},
		"another user's": func(t *testing.T, h *halfway) string {
			t.Helper()
			rewrite(t, h.kept(t), poison)
			for _, path := range h.kept(t) {
				if err := os.Chown(path, 65534, 65534); err != nil {
					t.Skipf("SKIPPED: files can't be given to another user: %v", err)
				}
			}
			return h.to
		},
		"through a bucket, and changed": func(t *testing.T, h *halfway) string { t.Helper(); return h.throughBucket(t) },
	}
}

// move makes another directory, with what was left under the names it had.
func (h *halfway) move(t *testing.T, how func(from, to string) error) string {
	t.Helper()
	dir := t.TempDir()
	for _, path := range h.kept(t) {
		name, _ := filepath.Rel(h.dir, path) // it may be in a directory, and is believed only there
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := how(path, to); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "x.bin")
}

// throughBucket has what was left come out of a bucket, into which others wrote.
func (h *halfway) throughBucket(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range below(t, h.dir) {
		if err := h.store.Store("bikes", "shared/"+name, poison([]byte(content))); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.store.Store("bikes", "shared/x", nil); err != nil { // or there may be nothing
		t.Fatal(err)
	}
	if e := copyEnds(t, h.environ, "-r", "s3://bikes/shared", dir); e.code != 0 {
		t.Errorf("%v", e)
	}
	return filepath.Join(dir, "x.bin")
}

// What a killed copy has left is resumed only if it is what that copy wrote:
// whatever became of it, the right bytes arrive.
func TestResumeBelievesOnlyItself(t *testing.T) {
	for _, kind := range []string{"http", "s3"} {
		for name, change := range poisons() {
			if kind == "s3" && (strings.HasPrefix(name, "state") || strings.HasPrefix(name, "numbers") || strings.HasSuffix(name, "elsewhere")) {
				continue // they cost time, and are the same
			}
			t.Run(kind+", "+name, func(t *testing.T) {
				t.Parallel()
				h := newHalfway(t, kind)
				h.kill(t)
				if len(h.kept(t)) == 0 {
					t.Fatal("the killed copy has left nothing: there is nothing to judge")
				}
				to, before := change(t, h), h.passed()
				h.arrives(t, to, name == "nothing" || name == "changed in place")
				if sent := h.passed() - before; name == "nothing" && sent >= int64(len(h.content)) {
					t.Errorf("%d bytes were sent again of %d: it did not resume, so the others judge nothing", sent, len(h.content))
				}
			})
		}
	}
}
