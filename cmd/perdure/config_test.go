//go:build unix

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// A file that the user names is read once, for it may be a pipe, or be replaced
// meanwhile. Later readings used to yield other rules for the other side of a copy,
// or none.
func TestFilesAreReadOnce(t *testing.T) {
	s := startTestServers(t)
	dir := t.TempDir()
	environ := append(s.environ(dir), "PERDURE_STORE=host")
	if err := s.store.Store("bikes", "a", []byte("a")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	const once, often = "policy: {max_attempts: 1}\n", "policy: {max_attempts: 4}\n"
	for _, row := range []struct {
		args []string
		code int
		sent int // requests that fail
	}{
		{[]string{"run", "--config", "fifo", "--", "false"}, 1, 0},
		{[]string{"run", "--config", "fifo", "--name", "load", "--", "true"}, 0, 0},
		{[]string{"copy", "--config", "fifo", "a", "s3://bikes/b"}, 69, 1},
		{[]string{"copy", "--config", "fifo", "s3://bikes/a", "s3://bikes/b"}, 69, 1},
		{[]string{"copy", "--config", "fifo", "-r", "s3://bikes/", "all"}, 0, 0},
		{[]string{"s3", "clean", "--config", "fifo", "s3://bikes"}, 0, 0},
		{[]string{"plan", "--config", "fifo"}, 0, 0},
		{[]string{"status", "--config", "fifo"}, 0, 0},
		{[]string{"breaker", "trip", "--config", "fifo", "load"}, 0, 0},
		{[]string{"breaker", "reset", "--config", "fifo", "load"}, 0, 0},
	} {
		s.store.Reset()
		s.store.SetScript(s3test.Rules(s3test.Rule{Method: "PUT", Fault: s3test.InternalError()}))
		pipe := newVersions(t, filepath.Join(dir, "fifo"), once, often)
		var out bytes.Buffer
		c := command(t, environ, row.args...)
		c.Dir, c.Stdout, c.Stderr = dir, &out, &out
		_ = c.Run() // the code tells
		if got := c.ProcessState.ExitCode(); got != row.code {
			t.Errorf("%v: exit code %d, want %d\n%s", row.args, got, row.code, &out)
		}
		if got := pipe.end(); got != 1 {
			t.Errorf("%v: the file was read %d times, want 1", row.args, got)
		}
		if got := s.store.Count("PUT", ""); got != row.sent {
			t.Errorf("%v: %d requests, want %d", row.args, got, row.sent)
		}
	}
}

// versions is a pipe with a name, which is another pipe with another content as
// soon as it was opened.
type versions struct {
	t     *testing.T
	path  string
	read  atomic.Int32
	ended atomic.Bool
	done  chan error
}

func newVersions(t *testing.T, path string, contents ...string) *versions {
	t.Helper()
	v := &versions{t: t, path: path, done: make(chan error, 1)}
	if err := v.replace(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			w, err := os.OpenFile(path, os.O_WRONLY, 0) // waits for a reader
			if v.ended.Load() {
				v.done <- errors.Join(err, w.Close())
				return
			}
			text := contents[min(int(v.read.Add(1)), len(contents))-1]
			if err := errors.Join(err, v.replace()); err != nil {
				v.done <- err
				return
			}
			_, err = io.WriteString(w, text)
			if err := errors.Join(err, w.Close()); err != nil {
				v.done <- err
				return
			}
		}
	}()
	return v
}

// replace puts a new pipe in the place of the one that is there.
func (v *versions) replace() error {
	return errors.Join(syscall.Mkfifo(v.path+".new", 0o600), os.Rename(v.path+".new", v.path))
}

// end returns how often the file was read.
func (v *versions) end() int {
	v.t.Helper()
	v.ended.Store(true)
	r, err := os.OpenFile(v.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		v.t.Fatal(err)
	}
	if err := errors.Join(<-v.done, r.Close()); err != nil {
		v.t.Fatal(err)
	}
	return int(v.read.Load())
}
