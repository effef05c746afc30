//go:build unix

package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// Of 20 processes whose calls fail, the one that has opened the breaker runs the command of --on-open, and no other: with a gate
// too, where the breaker opens when the gate begins to limit.
func TestOnOpenRunsOnceForAHost(t *testing.T) {
	for _, gate := range []string{"off", "fail_fast"} {
		seen := filepath.Join(t.TempDir(), "seen")
		f := newFleet(t, newService(t), "run", "--name", "X", "--gate", gate, "--max-attempts", "1",
			"--on-open", `echo "$PERDURE_BREAKER is $PERDURE_BREAKER_STATE: $PERDURE_BREAKER_REASON, of $PERDURE_BREAKER_FAILURES" >>`+seen)
		f.run(abreast, 0)
		got, err := os.ReadFile(seen)
		if want := regexp.MustCompile(`^op:X is open: (\d+) (consecutive failures|overloads in a row), of (\d+)\n$`).FindSubmatch(got); want == nil || string(want[1]) != string(want[3]) {
			t.Errorf("gate %s: the commands have written %q, want one line about the opening (%v)\n%s", gate, got, err, f.log.String())
		}
	}
}

// The proxy responds while the command of --on-open runs, and runs it once, however many requests fail.
func TestOnOpenDoesNotDelayRequests(t *testing.T) {
	dir := t.TempDir()
	fifo, seen := filepath.Join(dir, "fifo"), filepath.Join(dir, "seen")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newService(t)
	c, url, log := serveProxyIn(t, []string{"PERDURE_STATE=" + dir}, "--to", s.URL, "--gate", "off", "--max-attempts", "1",
		"--on-open", "read line <"+fifo+"; echo $line >>"+seen)
	for range 20 {
		res, _ := getFrom(t, url)
		if res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("response %s, want 503", res.Status)
		}
	}
	if err := os.WriteFile(fifo, []byte("responded\n"), 0o600); err != nil { // waits until the command reads
		t.Fatal(err)
	}
	eventually(t, "the command has written its line", func() bool { got, _ := os.ReadFile(seen); return len(got) > 0 })
	_ = c.Process.Signal(os.Interrupt)
	_ = c.Wait() // it was interrupted
	got, _ := os.ReadFile(seen)
	if string(got) != "responded\n" || strings.Contains(log.String(), "--on-open") {
		t.Errorf("the commands have written %q, want one line of one command\n%s", got, log)
	}
}

// ^C ends the command of --on-open with all that it has started.
func TestInterruptEndsOnOpen(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := command(t, nil, "run", "--name", "X", "--max-attempts", "1", "--failure-threshold", "1", "--on-open", "sleep 600 & echo begun; exec sleep 600", "--", "false")
	c.Stderr = write // of the command too: it ends when all have ended
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	log := make([]byte, 0, 4096)
	for n := 1; n > 0 && !strings.Contains(string(log), "begun"); log = log[:len(log)+n] {
		n, _ = read.Read(log[len(log):cap(log)])
	}
	_ = c.Process.Signal(os.Interrupt)
	rest, err := io.ReadAll(read)
	_ = c.Wait()
	if code := c.ProcessState.ExitCode(); err != nil || code != 1 && code != 130 || strings.Contains(string(rest), "killed") {
		t.Errorf("exit code %d, want 1, or 130 if ^C came before the end of the run; %v\n%s%s", code, err, log, rest)
	}
}
