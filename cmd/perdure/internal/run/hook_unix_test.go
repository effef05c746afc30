//go:build unix

package run

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// opening is the transition of a breaker that opens.
func opening() circuit.Transition { return circuit.Transition{Name: "x", To: circuit.Open} }

// newHook returns a hook and what it logs.
func newHook(t *testing.T, command string, output *os.File) (*Hook, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	h, err := NewHook(t.Context(), command, os.Environ(), output, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return h, log
}

// A command that takes too long is ended, with all that it has started in its group.
func TestHookEndsTheGroup(t *testing.T) {
	for _, command := range []string{"sleep 600 & exec sleep 600", "sleep 600 &", "trap '' TERM INT; sleep 600; sleep 600"} {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		h, log := newHook(t, "echo begun; "+command, write)
		h.observe(t.Context(), opening())
		if _, err := read.Read(make([]byte, len("begun\n"))); err != nil {
			t.Fatal(err)
		}
		h.stop(h.overdue()) // as Close does after its time
		h.Close()
		_ = write.Close()
		if _, err := io.Copy(io.Discard, read); err != nil { // ends when the last process has
			t.Error(err)
		}
		if !strings.Contains(log.String(), "killed: it has not ended within 10s") {
			t.Errorf("%s: log %q, want that it was killed", command, log)
		}
	}
}

// A command that does not end in time is killed.
func TestHookTimeout(t *testing.T) {
	h, log := newHook(t, "exec sleep 600", nil)
	h.limit = time.Millisecond
	h.observe(t.Context(), opening())
	h.Close()
	if !strings.Contains(log.String(), "killed: it has not ended within 1ms") {
		t.Errorf("log %q, want that it was killed", log)
	}
}

// At most four commands run at a time, and at most 100 are kept.
func TestHooksAtATime(t *testing.T) {
	seen := filepath.Join(t.TempDir(), "seen")
	h, log := newHook(t, "echo + >>"+seen+"; env true; env true; echo - >>"+seen, nil)
	for range hooksAtOnce {
		h.places <- struct{}{}
	}
	for range hooksQueued + 5 {
		h.observe(t.Context(), opening())
	}
	if n := strings.Count(log.String(), "not run"); n != 5 {
		t.Errorf("%d warnings of commands that are not run, want 5\n%s", n, log)
	}
	for range hooksAtOnce {
		<-h.places
	}
	h.all.Wait()
	got, err := os.ReadFile(seen)
	if err != nil || strings.Count(string(got), "+") != hooksQueued {
		t.Errorf("%d commands have run, want %d (%v)", strings.Count(string(got), "+"), hooksQueued, err)
	}
	running := 0
	for line := range strings.Lines(string(got)) {
		if running--; line == "+\n" {
			running += 2
		}
		if running > hooksAtOnce {
			t.Fatalf("%d commands at a time, want at most %d", running, hooksAtOnce)
		}
	}
	h.Close()
	if h.observe(t.Context(), opening()); h.queued != 0 {
		t.Error("a command was started after Close")
	}
}
