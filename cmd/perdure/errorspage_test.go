//go:build unix

package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/errorspage"
)

// tryRun runs the command with those arguments of run, whose breaker knows of one failure, and returns what was seen.
func tryRun(args ...string) func(*testing.T) errorspage.Trial {
	return func(t *testing.T) errorspage.Trial {
		t.Helper()
		state := []string{"PERDURE_STATE=" + t.TempDir(), "PERDURE_JITTER=0"}
		_ = command(t, state, "run", "--name", "x", "--max-attempts", "1", "--", "false").Run() // it fails, as it is to
		run := command(t, state, append([]string{"run", "--name", "x", "--json", "--max-attempts", "3", "--base-delay", "1ms"}, args...)...)
		var events strings.Builder
		run.Stderr = &events
		_ = run.Run()
		var seen errorspage.Trial
		for line := range strings.Lines(events.String()) {
			var event struct{ Attempt int }
			if err := json.Unmarshal([]byte(line), &event); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			seen.Attempts = max(seen.Attempts, event.Attempt)
		}
		var status struct{ Keys []struct{ Failures int } }
		out, err := command(t, state, "status", "--json").Output()
		if err != nil || json.Unmarshal(out, &status) != nil || len(status.Keys) != 1 {
			t.Fatalf("%s, %v; want the breaker of x", out, err)
		}
		seen.Failures = status.Keys[0].Failures
		return seen
	}
}

// Each row of docs/errors.md for perdure run is as the command does it.
func TestPageOfRun(t *testing.T) {
	errorspage.Compare(t, "| in `perdure run` | class |", map[string]func(*testing.T) errorspage.Trial{
		"exit code":                              tryRun("--", "sh", "-c", "exit 7"),
		"exit code of `--stop-on-exit`":          tryRun("--stop-on-exit", "7", "--", "sh", "-c", "exit 7"),
		"exit code that `--retry-on-exit` lacks": tryRun("--retry-on-exit", "1-6", "--", "sh", "-c", "exit 7"),
		"a command that can't be started":        tryRun("--", strings.Repeat("no", 9)),
		"timeout":                                tryRun("--attempt-timeout", "10ms", "--", "sleep", "600"),
	})
}
