//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Where there is no terminal, status --watch writes block after block, and sees what other processes do meanwhile.
func TestStatusWatches(t *testing.T) {
	state := []string{"PERDURE_STATE=" + t.TempDir()}
	c := command(t, state, "status", "--watch")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, c)
	lines := bufio.NewScanner(out)
	for _, want := range []struct{ text, then string }{
		{"No circuit breakers yet on this host: ", "run --name load -- true"},
		{"op:load  closed  -", "breaker isolate load"},
		{"op:load  isolated  ", ""},
	} {
		for !strings.Contains(lines.Text(), want.text) {
			if !lines.Scan() {
				t.Fatalf("it ended before it said %q", want.text)
			}
			if strings.Contains(lines.Text(), "\x1b") {
				t.Fatalf("a line with control characters: %q", lines.Text())
			}
		}
		if want.then == "" {
			break
		}
		if out, err := command(t, state, strings.Fields(want.then)...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", want.then, err, out)
		}
	}
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // the code tells
	if code := c.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
}

// The fields of status --json are for programs: here is what one of them reads.
func TestStatusForPrograms(t *testing.T) {
	state := []string{"PERDURE_STATE=" + t.TempDir()}
	_ = command(t, state, "run", "--name", "load", "--max-attempts", "1", "--failure-threshold", "1", "--recovery-timeout", "0.001", "--", "false").Run()
	out, err := command(t, state, "status", "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var seen struct {
		Exists bool
		Keys   []map[string]any
	}
	if err := json.Unmarshal(out, &seen); err != nil || !seen.Exists || len(seen.Keys) != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	key := seen.Keys[0]
	if key["state"] != "half-open" || key["reason"] != "1 consecutive failure" || key["next_probe"] == nil || key["lease_ends"] != nil {
		t.Errorf("a breaker whose time is up is seen as %v, want half-open with a next_probe and no lease", key)
	}
}

// While a probe is in flight, status names the process.
func TestStatusNamesTheProber(t *testing.T) {
	state := []string{"PERDURE_STATE=" + t.TempDir()}
	run := []string{"run", "--name", "load", "--max-attempts", "1", "--failure-threshold", "1", "--recovery-timeout", "0.001", "--"}
	_ = command(t, state, append(run, "false")...).Run()
	probe := command(t, state, append(run, "sleep", "60")...)
	start(t, probe)
	status := func(args ...string) string {
		out, err := command(t, state, append([]string{"status"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	pid := strconv.Itoa(probe.Process.Pid)
	eventually(t, "status names the process", func() bool { return strings.Contains(status(), "in flight (pid "+pid+"), until ") })
	if seen := status("--json"); !strings.Contains(seen, `"lease_pid":`+pid+",") {
		t.Errorf("no lease_pid %s in %s", pid, seen)
	}
	if err := probe.Process.Signal(syscall.SIGTERM); err != nil { // which its child gets too
		t.Fatal(err)
	}
	_ = probe.Wait() // the code is the child's
	if seen := status(); strings.Contains(seen, pid) {
		t.Errorf("the process has ended, and status shows\n%s", seen)
	}
}
