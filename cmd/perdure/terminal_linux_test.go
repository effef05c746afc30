package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
)

// A terminal is a pseudo-terminal with a session of its own on it.
type terminal struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd

	mu     sync.Mutex
	screen bytes.Buffer
	more   chan struct{} // has a token when something was written
	ended  chan struct{} // closed once all is on the screen, and no process has the terminal
}

// onTerminal starts a command as the leader of a session on a new terminal.
func onTerminal(t *testing.T, name string, args ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	control(t, master, func(fd int) error { return unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0) })
	var n int
	control(t, master, func(fd int) (err error) { n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN); return err })
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slave.Close() }()

	term := &terminal{t: t, master: master, more: make(chan struct{}, 1), ended: make(chan struct{})}
	term.cmd = exec.CommandContext(t.Context(), name, args...)
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = slave, slave, slave
	term.cmd.Env = append(os.Environ(), noRaceDelay, "PERDURE_STATE="+t.TempDir())
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go term.read()
	return term
}

// control calls do with the descriptor of f, which stays one that can be closed while it is read.
func control(t *testing.T, f *os.File, do func(fd int) error) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
}

func (term *terminal) read() {
	defer close(term.ended)
	p := make([]byte, 4096)
	for {
		n, err := term.master.Read(p)
		term.mu.Lock()
		term.screen.Write(p[:n])
		term.mu.Unlock()
		select {
		case term.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

func (term *terminal) text() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.screen.String()
}

// await waits until text is on the screen.
func (term *terminal) await(text string) {
	term.t.Helper()
	ctx, cancel := context.WithTimeout(term.t.Context(), time.Minute)
	defer cancel()
	for !strings.Contains(term.text(), text) {
		select {
		case <-term.more:
		case <-ctx.Done():
			term.t.Fatalf("no %q on the screen:\n%s", text, term.text())
		}
	}
}

func (term *terminal) press(keys string) {
	term.t.Helper()
	if _, err := term.master.WriteString(keys); err != nil {
		term.t.Fatal(err)
	}
}

// code returns the command's exit code. Then all that the command has written is on the screen.
func (term *terminal) code() int {
	term.t.Helper()
	err := term.cmd.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		term.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(term.t.Context(), time.Minute)
	defer cancel()
	select {
	case <-term.ended:
	case <-ctx.Done():
		term.t.Fatalf("the command has ended, and a process still has the terminal:\n%s", term.text())
	}
	return term.cmd.ProcessState.ExitCode()
}

const interrupt, suspend = "\x03", "\x1a"

// An attempt that reads from the terminal gets it, and the next one as well.
func TestAttemptsReadFromTheTerminal(t *testing.T) {
	term := onTerminal(t, "perdure", "run", "--base-delay", "5ms", "--jitter", "0", "--",
		"sh", "-c", `echo "name $PERDURE_ATTEMPT?"; read name; echo "hello $name"; test $name = eve`)
	term.await("name 1?")
	term.press("adam\n")
	term.await("name 2?")
	term.press("eve\n")
	term.await("hello eve")
	term.await("succeeded on attempt 2")
	if code := term.code(); code != 0 {
		t.Errorf("exit code %d\n%s", code, term.text())
	}
}

// ^C ends it, wherever it is: there is no other attempt.
func TestInterruptKey(t *testing.T) {
	for _, row := range []struct{ where, script, when string }{
		{"in an attempt", `echo ready; exec sleep 90`, "ready"},
		{"in an attempt that has the terminal", `read x; echo ready; read y`, "ready"},
		{"between attempts", `exit 3`, "Retrying sh in"},
		{"between attempts, after one that had the terminal", `read x; exit 3`, "Retrying sh in"},
	} {
		term := onTerminal(t, "perdure", "run", "--base-delay", "90", "--", "sh", "-c", row.script)
		term.press("x\n")
		term.await(row.when)
		begin := time.Now()
		term.press(interrupt)
		if code := term.code(); code != exit.Signal+int(syscall.SIGINT) {
			t.Errorf("%s: exit code %d\n%s", row.where, code, term.text())
		}
		if took := time.Since(begin); took > 30*time.Second {
			t.Errorf("%s: took %v", row.where, took)
		}
		if strings.Contains(term.text(), "attempt 2") {
			t.Errorf("%s: another attempt\n%s", row.where, term.text())
		}
	}
}

// ^Z stops the attempt as well as us, and the shell's fg lets both continue.
func TestSuspendKey(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("needs bash, for a shell with job control")
	}
	for _, row := range []struct{ where, script, first string }{
		{"in an attempt", `echo ready; while ! test -e $GO; do sleep 0.01; done; echo "done with it"`, ""},
		{"in an attempt that has the terminal", `read x; echo ready; read y; echo "done with it"`, "x\n"},
	} {
		term := onTerminal(t, "bash", "--norc", "--noprofile", "-i")
		file := t.TempDir() + "/go"
		term.press("export PS1='$ ' GO=" + file + "\n")
		term.press("perdure run -- sh -c '" + row.script + "'; echo code=$?\n" + row.first)
		term.await("ready\r")
		term.press(suspend)
		term.await("Stopped")
		term.await("code=147") // 128 and SIGSTOP
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		term.press("fg\ny\n")
		term.await("done with it\r")
		term.press("exit 7\n")
		if code := term.code(); code != 7 {
			t.Errorf("%s: exit code %d\n%s", row.where, code, term.text())
		}
	}
}

// status --watch draws in one place on a terminal, until ^C.
func TestStatusIsRedrawn(t *testing.T) {
	term := onTerminal(t, "perdure", "status", "--watch")
	eventually(t, "it is drawn twice", func() bool { return strings.Count(term.text(), "\x1b[H\x1b[2J") >= 2 })
	term.await("No circuit breakers yet")
	term.press(interrupt)
	if code := term.code(); code != exit.Signal+int(syscall.SIGINT) {
		t.Errorf("exit code %d\n%s", code, term.text())
	}
	if strings.Contains(term.text(), "perdure:") {
		t.Errorf("an end that was asked for is told as an error:\n%s", term.text())
	}
}
