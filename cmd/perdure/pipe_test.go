//go:build unix

package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
)

// Who waits for the other end of a pipe is ended by one signal.
func TestInterruptedCopyAtAPipe(t *testing.T) {
	s := startTestServers(t)
	s.setenv(t.TempDir(), t.Setenv)
	if err := s.store.Store("bikes", "file", generated(1<<20)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to string }{
		{"pipe", "new"},
		{"pipe", "s3://bikes/new"},
		{"file", "pipe"},
		{"s3://bikes/file", "pipe"},
		{"file", "-"},
		{"s3://bikes/file", "-"},
	} {
		t.Run(c.from+" to "+c.to, func(t *testing.T) {
			t.Chdir(t.TempDir()) // each has a pipe of its own: what waits for it continues to do so
			if err := syscall.Mkfifo("pipe", 0o600); err != nil {
				t.Fatal(err)
			}
			write(t, "file", generated(1<<20))
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _, _ = r.Close(), w.Close() }()
			null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = null.Close() }()
			ctx, cancel := context.WithCancelCause(t.Context())
			code := make(chan int, 1)
			go func() {
				a := &app{stdin: null, stdout: w, stderr: null, environ: os.Environ()}
				code <- a.main(ctx, []string{"copy", c.from, c.to})
			}()
			if c.to == "-" { // of all that there is, one byte is read
				if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
			}
			cancel(&exit.Interrupted{Signal: syscall.SIGTERM})
			if got := <-code; got != 143 {
				t.Errorf("exit code %d, want 143", got)
			}
			if files, err := os.ReadDir("."); err != nil || len(files) != 2 {
				t.Errorf("there are %v (%v), want the file and the pipe", files, err)
			}
		})
	}
	if _, stored := s.store.Object("bikes", "new"); stored {
		t.Error("there is an object of a pipe that no process has written to")
	}
}

// A demo that has no reader any more ends, and leaves nothing behind.
func TestDemoWithoutReader(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	a := &app{stdin: os.Stdin, stdout: w, stderr: log, environ: os.Environ()}
	code := a.main(t.Context(), []string{"demo"})
	text, err := os.ReadFile(log.Name())
	if err != nil || code != 1 || !strings.HasSuffix(string(text), ": broken pipe\n") {
		t.Errorf("exit code %d, want 1: %q (%v)", code, text, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}
