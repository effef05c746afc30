//go:build unix

package run

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
)

// A child is an attempt that runs: a process that leads a group of its own.
type child struct {
	cmd *exec.Cmd
	pid int // and the number of its group

	mu       sync.Mutex
	ended    bool // the process is gone, and its number may become another's
	terminal bool // the group has, or shall have when it goes on, the terminal
}

// passedOn are the signals that are forwarded and mean nothing to us.
func passedOn() []os.Signal {
	return []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTSTP}
}

func start(cmd *exec.Cmd) (*child, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &child{cmd: cmd, pid: cmd.Process.Pid}, nil
}

// signal sends s to the group.
func (c *child) signal(s os.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, ok := s.(syscall.Signal); ok && !c.ended {
		_ = syscall.Kill(-c.pid, n)
	}
}

// adopting is set when orphans become our children, see adopt.
var adopting atomic.Bool //nolint:gochecknoglobals // as the system has it: of the process

// adopts reports whether orphans become our children, as they do those of the
// first process of a system or a container. Nobody else waits for them.
func adopts() bool { return adopting.Load() || os.Getpid() == 1 }

// notifyOfOrphans has c get a signal when one of them has ended.
func notifyOfOrphans(c chan<- os.Signal) { signal.Notify(c, syscall.SIGCHLD) }

// reap waits for the orphans that have ended, while no attempt runs.
func reap() {
	for pid := 1; pid > 0 && adopts(); {
		pid, _ = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
	}
}

// wait waits for the process, and for the orphans that end before it, and says how
// the process ended; nil is well. It is called once.
func (c *child) wait() *Failure {
	for {
		of := c.pid
		if adopts() {
			of = -1
		}
		var status syscall.WaitStatus
		// Not cmd.Wait: it does not tell when the process stops for the terminal.
		pid, err := syscall.Wait4(of, &status, syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR), err == nil && pid != c.pid:
		case err != nil:
			return &Failure{Code: exit.Failed, Start: os.NewSyscallError("wait4", err)}
		case status.Stopped():
			c.stopped(status.StopSignal())
		default:
			return c.ending(status)
		}
	}
}

// ending returns how the process ended.
func (c *child) ending(status syscall.WaitStatus) *Failure {
	c.mu.Lock()
	c.ended = true
	terminal := c.terminal
	c.mu.Unlock()
	_ = c.cmd.Process.Release()
	if terminal {
		takeTerminal()
	}
	if !status.Signaled() {
		if status.ExitStatus() == 0 {
			return nil
		}
		return &Failure{Code: status.ExitStatus()}
	}
	s := status.Signal()
	f := &Failure{Code: exit.Signal + int(s), Signal: s}
	if terminal && (s == syscall.SIGINT || s == syscall.SIGQUIT) {
		// The key was meant for all that the terminal's user had started.
		f.User = true
		interruptGroup(s)
	}
	return f
}

// interruptGroup sends a signal to all of our group, and returns when we have got it ourselves: until then it would end us,
// as soon as nothing waits for signals any more.
func interruptGroup(s syscall.Signal) {
	arrived := make(chan os.Signal, 1)
	if !signal.Ignored(s) {
		signal.Notify(arrived, s)
		defer signal.Stop(arrived)
	} else {
		close(arrived)
	}
	if syscall.Kill(0, s) == nil {
		<-arrived
	}
}

// end asks the group to end, and after grace makes it. It returns how the
// process ended, which wait has sent to done.
func (c *child) end(done <-chan *Failure, grace time.Duration) *Failure {
	adopt()
	c.signal(syscall.SIGTERM)
	c.signal(syscall.SIGCONT)
	limit := time.NewTimer(grace)
	defer limit.Stop()
	select {
	case f := <-done:
		c.clear(limit.C)
		return f
	case <-limit.C:
		c.signal(syscall.SIGKILL)
		return <-done
	}
}

// sweep ends those of the group that have outlived its leader: a signal that they
// ignore, as what a shell has started in the background does ^C, was not enough.
func (c *child) sweep(limit <-chan time.Time) {
	_ = syscall.Kill(-c.pid, syscall.SIGTERM)
	_ = syscall.Kill(-c.pid, syscall.SIGCONT)
	c.clear(limit)
}

// clear waits for those of the group that have outlived its leader until
// limit, and then ends them by force.
func (c *child) clear(limit <-chan time.Time) {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !errors.Is(syscall.Kill(-c.pid, 0), syscall.ESRCH) {
		for pid := 1; pid > 0; { // bury those that are ours by adopt
			pid, _ = syscall.Wait4(-c.pid, nil, syscall.WNOHANG, nil)
		}
		select {
		case <-look.C:
		case <-limit:
			_ = syscall.Kill(-c.pid, syscall.SIGKILL)
			return
		}
	}
}
