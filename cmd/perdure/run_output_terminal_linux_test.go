package main

import "testing"

// An attempt whose output is compared with patterns writes to a terminal if we do, as wide as ours, and what it writes
// is shown before it ends.
func TestOutputPatternsOnTerminal(t *testing.T) {
	term := onTerminal(t, "perdure", "run", "--base-delay", "5ms", "--jitter", "0", "--retry-on-output", "^again", "--",
		"sh", "-c", `test -t 1 && test -t 2 && echo "ready $PERDURE_ATTEMPT"; read name; echo "again $name"; test "$name" = eve`)
	term.await("ready 1\r\n")
	term.press("adam\n")
	term.await("again adam\r\n")
	term.await("exit status 1 (output matches --retry-on-output)")
	term.await("ready 2\r\n")
	term.press("eve\n")
	term.await("again eve\r\n")
	term.await("succeeded on attempt 2")
	if code := term.code(); code != 0 {
		t.Errorf("exit code %d\n%s", code, term.text())
	}
}
