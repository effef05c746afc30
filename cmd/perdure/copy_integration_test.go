//go:build integration && linux

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// large is the size of the file whose copies must fit into maxMemory.
const (
	large     = 256 << 20
	maxMemory = 64 << 20
)

// stream returns a reader of n bytes that are always the same.
func stream(n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{7}), n)
}

func sumOf(t *testing.T, r io.Reader) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// TestCopyMemory carries a file of 256 MiB each way, through weather, and
// measures the most memory that the process had.
func TestCopyMemory(t *testing.T) {
	s := startTestServers(t)
	if err := s.store.SetFaults(weather(3)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	from, back := filepath.Join(dir, "large.bin"), filepath.Join(dir, "back.bin")
	f, err := os.Create(from)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, stream(large)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	want := sumOf(t, stream(large))
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"large"`)
		http.ServeFile(w, r, from)
	}))
	defer web.Close()

	for _, c := range []struct{ name, from, to string }{
		{"file to object", from, "s3://bikes/large.bin"},
		{"object to file", "s3://bikes/large.bin", back},
		{"stdin to object", "-", "s3://bikes/large.bin"},
		{"object to stdout", "s3://bikes/large.bin", "-"},
		{"object to object", "s3://bikes/large.bin", "s3://bikes/twin.bin"},
		{"web to file", web.URL + "/large.bin", back},
		{"web to object", web.URL + "/large.bin", "s3://bikes/large.bin"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			sum := sha256.New()
			p := command(t, s.environ(dir), "copy", c.from, c.to)
			p.Stderr, p.Stdout = &log, sum
			if c.from == "-" {
				p.Stdin = stream(large)
			}
			begun := time.Now()
			memory := peak(t, start(t, p))
			if code := p.ProcessState.ExitCode(); code != 0 {
				t.Fatalf("exit code %d\n%s", code, &log)
			}
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			t.Logf("%.1f MiB, %.1f s, %d retries; %s", float64(memory)/(1<<20), time.Since(begun).Seconds(),
				strings.Count(log.String(), "Retrying"), lines[len(lines)-1])
			if memory > maxMemory {
				t.Errorf("%.1f MiB of memory, want at most %d", float64(memory)/(1<<20), maxMemory>>20)
			}
			got := hex.EncodeToString(sum.Sum(nil))
			switch {
			case strings.HasPrefix(c.to, "s3://"):
				content, _ := s.store.Object("bikes", filepath.Base(c.to))
				got = sumOf(t, bytes.NewReader(content))
			case c.to != "-":
				got = fileSum(t, c.to)
			}
			if got != want {
				t.Error("other bytes arrived")
			}
		})
	}
}

func fileSum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	return sumOf(t, f)
}

// TestCopyToFullDisk fills a file system of 1 MiB.
func TestCopyToFullDisk(t *testing.T) {
	dir := t.TempDir()
	mount := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", dir)
	if out, err := mount.CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: a small file system cannot be mounted: %v: %s", err, out)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	s := startTestServers(t)
	if err := s.store.Store("bikes", "large.bin", generated(3<<20)); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	c := command(t, s.environ(t.TempDir()), "copy", "s3://bikes/large.bin", dir)
	c.Stderr = &log
	interrupted(t, start(t, c), &log, 1)
	want := fmt.Sprintf("perdure: write %s: the source has 3145728 bytes, the file system only 1048576\n", filepath.Join(dir, "large.bin"))
	if log.String() != want {
		t.Errorf("it says %q, want %q", log.String(), want)
	}
	if n := s.store.Count("GET", ""); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
