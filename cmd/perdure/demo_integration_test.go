//go:build integration && unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A screen is what a process has written so far.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// The demo as users see it: it succeeds, what it prints to paste works, and ctrl-C ends it well.
func TestDemo(t *testing.T) {
	tmp := t.TempDir()
	var out screen
	c := command(t, []string{"TMPDIR=" + tmp, "HOME=" + tmp}, "demo", "--seed", "5", "--keep")
	c.Stdout, c.Stderr = &out, &out
	begun := time.Now()
	start(t, c)
	eventually(t, "the demo says whose turn it is", func() bool { return strings.Contains(out.String(), "(any other)") })
	t.Logf("%v\n%s", time.Since(begun), &out)

	lines := regexp.MustCompile(`(?m)^ +(export AWS_.*|\S*perdure copy .* --endpoint-url http://127\S+)$`).FindAllStringSubmatch(out.String(), -1)
	if len(lines) != 3 {
		t.Fatalf("%d lines to paste, want 3: %v", len(lines), lines)
	}
	script := "set -e\n"
	for _, line := range lines {
		script += line[1] + "\n"
	}
	paste := exec.CommandContext(t.Context(), "sh", "-c", script)
	paste.Env = append(os.Environ(), "PERDURE_STATE="+t.TempDir(), "PERDURE_BASE_DELAY=0.01", "PERDURE_JITTER=0")
	var page, log bytes.Buffer
	paste.Stdout, paste.Stderr = &page, &log
	if err := paste.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, &log)
	}
	if !strings.HasPrefix(page.String(), "{\n \"page\": 1,") {
		t.Errorf("what was pasted printed %.80q", page.String())
	}
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("it ended with %v, want success", err)
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Interrupted before its end it has failed, and leaves nothing behind either.
func TestDemoInterrupted(t *testing.T) {
	tmp := t.TempDir()
	var out screen
	c := command(t, []string{"TMPDIR=" + tmp}, "demo")
	c.Stdout = &out
	start(t, c)
	eventually(t, "the demo is under way", func() bool { return strings.Contains(out.String(), "Retrying") })
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	interrupted(t, c, &log, 143)
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
