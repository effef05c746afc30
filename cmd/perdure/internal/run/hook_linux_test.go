package run

import (
	"os/exec"
	"testing"
)

// The exit code of a hook arrives, though a process that adopts orphans reaps all children that have ended.
func TestHookReapedAsAnOrphan(t *testing.T) {
	adopt()
	c, err := startApart(exec.CommandContext(t.Context(), "sh", "-c", "exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	for len(c.reaped) == 0 {
		reap()
	}
	if f := c.waitApart(); f == nil || f.Code != 3 {
		t.Errorf("the hook ended with %v, want exit status 3", f)
	}
}
