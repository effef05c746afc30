//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/tree"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// someFiles makes n of them, with names that are long.
func someFiles(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d-%s.csv", i, strings.Repeat("x", 200))), []byte("0,16\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// atTheLastFile starts a copy of eight files, of which the first and the last get no response, and waits until it has come to
// the last: then all are listed. Before the copy, its manifest has a line of its own.
func atTheLastFile(t *testing.T, log io.Writer) (c *exec.Cmd, manifest string) {
	t.Helper()
	s := startTestServers(t)
	s.store.SetScript(func(r s3test.Request) s3test.Fault {
		if r.Method == http.MethodPut && (strings.Contains(r.Path, "/000-") || strings.Contains(r.Path, "/007-")) {
			return s3test.SlowResponse(time.Hour)
		}
		return s3test.Fault{}
	})
	manifest = filepath.Join(t.TempDir(), "m.jsonl")
	if err := os.WriteFile(manifest, []byte("what was there\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = command(t, s.environ(t.TempDir()), "copy", "-r", someFiles(t, 8), "s3://bikes/raw", "--manifest", manifest, "--parallel", "2")
	c.Stderr = log
	start(t, c)
	eventually(t, "it has come to the last file", func() bool { return s.store.Count(http.MethodPut, "/bikes/raw/007-") > 0 })
	return c, manifest
}

// A copy that is interrupted among its files still says in the manifest what became of each.
func TestManifestOfAnInterruptedCopy(t *testing.T) {
	var log bytes.Buffer
	c, manifest := atTheLastFile(t, &log)
	if old, err := os.ReadFile(manifest); err != nil || string(old) != "what was there\n" {
		t.Errorf("under way the manifest is %.60q (%v), want it as it was", old, err)
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	interrupted(t, c, &log, 130)
	copied := 0
	all := entries(t, manifest)
	for _, action := range all {
		if action == "copied" {
			copied++
		}
	}
	if len(all) != 8 || copied != 6 {
		t.Errorf("the manifest tells of %d files, %d of them copied, want 8 and 6: %v\n%s", len(all), copied, all, &log)
	}
}

// A copy that is killed leaves the manifest as it was.
func TestManifestOfAKilledCopy(t *testing.T) {
	c, manifest := atTheLastFile(t, nil)
	_ = c.Process.Kill()
	_ = c.Wait()
	if old, err := os.ReadFile(manifest); err != nil || string(old) != "what was there\n" {
		t.Errorf("the manifest is %.60q (%v), want it as it was", old, err)
	}
}

// full opens a pipe for reading, and fills it. The returned function closes it.
func full(t *testing.T, pipe string) (closed func()) {
	t.Helper()
	r, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	w, err := syscall.Open(pipe, syscall.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n > 0; {
		n, _ = syscall.Write(w, make([]byte, 4096)) // of what does not fit, it writes nothing
	}
	if err := syscall.Close(w); err != nil {
		t.Fatal(err)
	}
	return func() { _ = r.Close() }
}

// A pipe without a reader keeps no copy from being interrupted.
func TestManifestThatWithoutReader(t *testing.T) {
	for name, opened := range map[string]bool{"opened": true, "not opened": false} {
		t.Run(name, func(t *testing.T) {
			s := startTestServers(t)
			s.setenv(t.TempDir(), t.Setenv)
			pipe := filepath.Join(t.TempDir(), "pipe")
			if err := syscall.Mkfifo(pipe, 0o600); err != nil {
				t.Fatal(err)
			}
			if opened {
				defer full(t, pipe)()
			}
			log, err := os.Create(filepath.Join(t.TempDir(), "log"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = log.Close() }()
			files := someFiles(t, 40)
			ctx, interrupt := context.WithCancelCause(t.Context())
			ended := make(chan int, 1)
			go func() {
				a := &app{stdin: os.Stdin, stdout: log, stderr: log, environ: os.Environ()}
				ended <- a.main(ctx, []string{"copy", "-r", files, "s3://bikes/raw", "--manifest", pipe})
			}()
			if opened { // the first line waits for its reader, and all others for that line
				eventually(t, "files are copied", func() bool { return s.store.Count(http.MethodPut, "") >= tree.DefaultParallel })
			}
			interrupt(&exit.Interrupted{Signal: os.Interrupt})
			if code := <-ended; code != 130 {
				t.Errorf("exit code %d, want 130", code)
			}
		})
	}
}
