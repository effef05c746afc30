//go:build unix

package run

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// A process group that is not the terminal's foreground group is stopped when it uses
// the terminal. The group of this process stays in the foreground until an attempt uses
// the terminal, so that keys such as ^C reach all of the pipeline. An attempt that uses
// it, to read a password for example, is put in the foreground until it ends.

// stopped handles that the process was stopped by s.
func (c *child) stopped(s syscall.Signal) {
	c.mu.Lock()
	had := c.terminal
	if s == syscall.SIGTTIN || s == syscall.SIGTTOU {
		c.terminal = true
	}
	c.mu.Unlock()
	switch {
	case s == syscall.SIGTTIN || s == syscall.SIGTTOU:
		switch {
		case ownTerminal():
		case resumable():
			_ = syscall.Kill(0, s) // this process is in the background too: stop until the user resumes it
		default:
			c.signal(syscall.SIGKILL) // no shell can resume it
		}
		c.proceed()
	case had && s == syscall.SIGTSTP:
		takeTerminal()
		_ = syscall.Kill(0, s) // ^Z is for this process too; see suspend
	}
}

// proceed continues the group after a stop.
func (c *child) proceed() {
	c.mu.Lock()
	terminal := c.terminal
	c.mu.Unlock()
	if terminal && ownTerminal() {
		giveTerminal(c.pid)
	}
	c.signal(syscall.SIGCONT)
}

// suspend stops the attempt that runs and this process, as ^Z does. It returns when this
// process is continued.
func (c *Command) suspend() {
	c.mu.Lock()
	child := c.child
	c.mu.Unlock()
	if child != nil {
		child.signal(syscall.SIGTSTP)
	}
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	defer signal.Stop(continued)
	if resumable() {
		// SIGTSTP would be right, but the runtime cannot restore its default action.
		// SIGSTOP cannot be caught; it takes effect at some moment after Kill.
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		<-continued
	}
	if child != nil {
		child.proceed()
	}
}

// resumable reports whether a shell can continue this process: whether its parent is in
// the same session, but not in the same group. The kernel checks the same before it
// stops a process because of a key.
func resumable() bool {
	parent := os.Getppid()
	session, err := unix.Getsid(parent)
	own, ownErr := unix.Getsid(0)
	group, groupErr := unix.Getpgid(parent)
	return errors.Join(err, ownErr, groupErr) == nil && session == own && group != unix.Getpgrp()
}

// isSuspend reports whether s is the signal that ^Z sends.
func isSuspend(s os.Signal) bool { return s == syscall.SIGTSTP }

// onTerminal calls do with the descriptor of the controlling terminal, if there is one.
func onTerminal(do func(fd int)) {
	if f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
		do(int(f.Fd()))
		_ = f.Close()
	}
}

// ownTerminal reports whether the group of this process is in the foreground.
func ownTerminal() (own bool) {
	onTerminal(func(fd int) {
		group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		own = err == nil && group == syscall.Getpgrp()
	})
	return own
}

// giveTerminal puts group in the foreground.
func giveTerminal(group int) {
	onTerminal(func(fd int) { _ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, group) })
}

// takeTerminal puts the group of this process in the foreground. A background process
// that does so is stopped by SIGTTOU, unless it ignores that signal. It stays ignored,
// because the runtime cannot restore its default action: later attempts inherit that,
// and may set the terminal's modes from the background.
func takeTerminal() {
	signal.Ignore(syscall.SIGTTOU)
	giveTerminal(syscall.Getpgrp())
}
