//go:build unix

package run

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// A group other than the terminal's own is stopped when it asks the terminal
// for something. Ours stays the terminal's for as long as the attempt does not
// ask: so keys like ^C reach us, and all that we stand in a pipeline with.
// Only an attempt that asks, for a password for example, is given the
// terminal, and it is taken back when the attempt ends.

// stopped is called when the process was stopped by s.
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
			_ = syscall.Kill(0, s) // we are in the background as well: stop, until the user wants us
		default:
			c.signal(syscall.SIGKILL) // nobody ever will
		}
		c.proceed()
	case had && s == syscall.SIGTSTP:
		takeTerminal()
		_ = syscall.Kill(0, s) // the key was meant for us as well; see suspend
	}
}

// proceed lets the group go on after a stop.
func (c *child) proceed() {
	c.mu.Lock()
	terminal := c.terminal
	c.mu.Unlock()
	if terminal && ownTerminal() {
		giveTerminal(c.pid)
	}
	c.signal(syscall.SIGCONT)
}

// suspend stops the attempt that runs, and us, as ^Z does; it returns when we
// are let go on.
func (c *Command) suspend() {
	c.mu.Lock()
	child := c.child
	c.mu.Unlock()
	if child != nil {
		child.signal(syscall.SIGTSTP)
	}
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGCONT)
	defer signal.Stop(again)
	if resumable() {
		// SIGTSTP would be right, but its default cannot be had back from the
		// runtime. This one nobody can catch; it takes effect at any moment now.
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		<-again
	}
	if child != nil {
		child.proceed()
	}
}

// resumable reports whether there is a shell that can let us go on: a parent in
// our session, but not in our group. The system looks for one, too, before it
// stops a process because of a key.
func resumable() bool {
	parent := os.Getppid()
	session, err := unix.Getsid(parent)
	own, ownErr := unix.Getsid(0)
	group, groupErr := unix.Getpgid(parent)
	return errors.Join(err, ownErr, groupErr) == nil && session == own && group != unix.Getpgrp()
}

// isSuspend reports whether s is the signal of ^Z.
func isSuspend(s os.Signal) bool { return s == syscall.SIGTSTP }

// onTerminal calls do with the descriptor of the terminal, if there is one.
func onTerminal(do func(fd int)) {
	if f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
		do(int(f.Fd()))
		_ = f.Close()
	}
}

// ownTerminal reports whether our group is the terminal's.
func ownTerminal() (own bool) {
	onTerminal(func(fd int) {
		group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		own = err == nil && group == syscall.Getpgrp()
	})
	return own
}

// giveTerminal makes group the terminal's.
func giveTerminal(group int) {
	onTerminal(func(fd int) { _ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, group) })
}

// takeTerminal makes our group the terminal's. Whoever is not in that group is
// stopped for it by a signal, which has to be ignored; from then on, because
// the runtime does not give its default back. Later attempts inherit that, and
// may set the terminal's modes without asking for it first.
func takeTerminal() {
	signal.Ignore(syscall.SIGTTOU)
	giveTerminal(syscall.Getpgrp())
}
