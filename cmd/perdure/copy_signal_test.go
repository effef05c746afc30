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

	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// command returns the command as a process of its own: this test binary, which
// TestMain makes it.
func command(t *testing.T, environ []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "perdure")
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), link, args...)
	c.Env = append(append(os.Environ(), "PERDURE_STATE="+t.TempDir()), environ...)
	return c
}

func start(t *testing.T, c *exec.Cmd) *exec.Cmd {
	t.Helper()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// eventually polls until holds reports true, and fails the test if that takes too long.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	servertest.Until(t, what, holds)
}

// peak waits for the process to end, and returns the most memory that it had.
// It polls the kernel: wait4 would report at least the memory of this process, from which
// the process was forked.
func peak(t *testing.T, c *exec.Cmd) (bytes int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { _ = c.Wait(); cancel() }()
	status := fmt.Sprintf("/proc/%d/status", c.Process.Pid)
	servertest.Repeat(ctx, func() {
		text, _ := os.ReadFile(status)
		_, after, _ := strings.Cut(string(text), "VmHWM:")
		var kib int64
		if n, _ := fmt.Sscan(after, &kib); n == 1 {
			bytes = max(bytes, kib<<10)
		}
	})
	return bytes
}

// interrupted waits for the process and checks its code.
func interrupted(t *testing.T, c *exec.Cmd, log *bytes.Buffer, want int) {
	t.Helper()
	_ = c.Wait() // its code is not 0
	if got := c.ProcessState.ExitCode(); got != want {
		t.Errorf("exit code %d, want %d\n%s", got, want, log)
	}
}

func unfinished(t *testing.T, dir string) (size int64) {
	t.Helper()
	for _, name := range staged(dir, ".part") {
		if info, err := os.Stat(name); err == nil {
			size += info.Size()
		}
	}
	return size
}

// A copy that is interrupted leaves the destination as it was, and nothing else.
func TestInterruptedCopyToFile(t *testing.T) {
	body := generated(1 << 20)
	web := httptestfault.New(func(int, *http.Request) httptestfault.Response {
		return httptestfault.Response{Body: body}.With(httptestfault.StallBody(600_000))
	})
	defer web.Close()
	for signal, want := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		t.Run(signal.String(), func(t *testing.T) {
			dir := t.TempDir()
			old := filepath.Join(dir, "stations.bin")
			if err := os.WriteFile(old, []byte("what was there"), 0o600); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			c := command(t, []string{"HOME=" + dir}, "copy", web.URL+"/stations.bin", old)
			c.Stderr = &log
			start(t, c)
			eventually(t, "some of the file is there", func() bool { return unfinished(t, dir) > 500_000 })
			if err := c.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			interrupted(t, c, &log, want)
			files, err := os.ReadDir(dir)
			if err != nil || len(files) != 1 {
				t.Errorf("the directory has %v (%v), want the old file alone", files, err)
			}
			if content, _ := os.ReadFile(old); string(content) != "what was there" {
				t.Errorf("the old file has %d other bytes", len(content))
			}
		})
	}
}

// A copy of many files that is interrupted before the first says no more than that.
func TestInterruptedListing(t *testing.T) {
	s := startTestServers(t)
	s.store.SetScript(func(s3test.Request) s3test.Fault { return s3test.SlowResponse(time.Hour) })
	var log bytes.Buffer
	c := command(t, s.environ(t.TempDir()), "copy", "-r", "s3://bikes/raw", t.TempDir())
	c.Stderr = &log
	start(t, c)
	eventually(t, "it has asked for a listing", func() bool { return s.store.Count(http.MethodGet, "/bikes") > 0 })
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	interrupted(t, c, &log, 130)
	if got, want := withoutProgress(log.String()), "perdure: stopped by signal: interrupt\n"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
}

// Of an upload from a pipe that has not ended there is no part left.
func TestInterruptedCopyToObject(t *testing.T) {
	s := startTestServers(t)
	if err := s.store.Store("bikes", "stations.bin", []byte("what was there")); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	c := command(t, s.environ(t.TempDir()), "copy", "-", "s3://bikes/stations.bin")
	c.Stderr = &log
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, c)
	if _, err := io.Copy(stdin, bytes.NewReader(generated(12<<20))); err != nil { // two parts, and some of the third
		t.Fatal(err)
	}
	eventually(t, "two parts are there", func() bool { return s.store.Count("PUT", "/bikes/stations.bin") >= 2 })
	if len(s.store.Uploads()) != 1 {
		t.Errorf("uploads under way: %v, want one", s.store.Uploads())
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	interrupted(t, c, &log, 130)
	if left := s.store.Uploads(); len(left) > 0 {
		t.Errorf("uploads left behind: %v", left)
	}
	if content, _ := s.store.Object("bikes", "stations.bin"); string(content) != "what was there" {
		t.Errorf("the old object has %d other bytes", len(content))
	}
}
