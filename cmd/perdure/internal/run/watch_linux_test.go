package run

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-0f2c7998/perdure/retry"
)

// An attempt that has ended before its timeout has not timed out, though this process may see both at once when it was held up.
func TestAttemptThatEndedInTime(t *testing.T) {
	for _, program := range []string{"true", "false"} {
		for range 20 {
			child, err := start(exec.CommandContext(t.Context(), program))
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.Waitid(unix.P_PID, child.pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithDeadline(t.Context(), time.Now())
			defer cancel()
			c := &Command{Policy: &retry.Policy{AttemptTimeout: time.Nanosecond}, Grace: time.Second}
			err = c.watch(ctx, child)
			if failed, ok := err.(*Failure); program == "true" && err != nil || program == "false" && (!ok || failed.TimedOut != 0) { //nolint:errorlint // as watch returns it
				t.Fatalf("%s: %v", program, err)
			}
		}
	}
}
