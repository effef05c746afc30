//go:build unix

package run

import (
	"context"
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

// A child is an attempt that runs: a process that leads its own process group.
type child struct {
	cmd *exec.Cmd
	pid int // of the process and of its group

	mu       sync.Mutex
	ended    bool // the process was reaped: pid may be reused
	terminal bool // the group has the terminal, or gets it when it continues

	reaped chan syscall.WaitStatus // of startApart: has the status once the process was reaped; else nil
}

// apart are the running children of startApart, by process.
var apart struct { //nolint:gochecknoglobals // a property of the process
	sync.Mutex

	children map[int]*child
}

// passedOn returns the signals that are forwarded and do not end this process.
func passedOn() []os.Signal {
	return []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTSTP}
}

// start starts cmd as the leader of its own process group.
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

// adopting is true once adopt has made this process a subreaper.
var adopting atomic.Bool //nolint:gochecknoglobals // a property of the process

// adopts reports whether orphans become children of this process, which must then reap
// them: after adopt, and as process 1 of a container.
func adopts() bool { return adopting.Load() || os.Getpid() == 1 }

// notifyOfOrphans sends a signal to c when a child has ended.
func notifyOfOrphans(c chan<- os.Signal) { signal.Notify(c, syscall.SIGCHLD) }

// reap reaps the orphans that have ended. It must not be called while an attempt runs.
func reap() {
	for pid := 1; pid > 0 && adopts(); {
		var status syscall.WaitStatus
		if pid, _ = syscall.Wait4(-1, &status, syscall.WNOHANG, nil); pid > 0 {
			wasReaped(pid, status)
		}
	}
}

// wait waits for the process, and reaps orphans that end before it. It returns nil if
// the process succeeded. It is called once.
func (c *child) wait() *Failure {
	for {
		of := c.pid
		if adopts() {
			of = -1
		}
		var status syscall.WaitStatus
		// cmd.Wait does not return when the process stops for the terminal.
		pid, err := syscall.Wait4(of, &status, syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err == nil && pid != c.pid:
			wasReaped(pid, status)
		case err != nil:
			return &Failure{Code: exit.Failed, Start: os.NewSyscallError("wait4", err)}
		case status.Stopped():
			c.stopped(status.StopSignal())
		default:
			return c.ending(status)
		}
	}
}

// startApart is start for a process that runs beside the attempts, whose waits may reap it.
func startApart(cmd *exec.Cmd) (*child, error) {
	apart.Lock()
	defer apart.Unlock()
	c, err := start(cmd)
	if err != nil {
		return nil, err
	}
	if apart.children == nil {
		apart.children = map[int]*child{}
	}
	c.reaped = make(chan syscall.WaitStatus, 1)
	apart.children[c.pid] = c
	return c, nil
}

// wasReaped passes the status of a process that was reaped to its waitApart, if it has one.
func wasReaped(pid int, status syscall.WaitStatus) {
	apart.Lock()
	defer apart.Unlock()
	if c := apart.children[pid]; c != nil && !status.Stopped() {
		delete(apart.children, pid)
		c.reaped <- status
	}
}

// waitApart is wait for a child of startApart.
func (c *child) waitApart() *Failure {
	var status syscall.WaitStatus
	_, err := syscall.Wait4(c.pid, &status, 0, nil)
	for errors.Is(err, syscall.EINTR) {
		_, err = syscall.Wait4(c.pid, &status, 0, nil)
	}
	if err == nil { // else another wait has reaped it
		wasReaped(c.pid, status)
	}
	return c.ending(<-c.reaped)
}

// shell is the shell of hooks.
const shell = "sh"

// shellCommand returns the command that has the shell run line.
func shellCommand(ctx context.Context, line string) *exec.Cmd {
	return exec.CommandContext(ctx, shell, "-c", line)
}

// ending returns the failure of a process with that status; nil if it succeeded.
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
		// The user's ^C or ^\ is for all of the pipeline.
		f.User = true
		interruptGroup(s)
	}
	return f
}

// interruptGroup sends a signal to the process group of this process, and returns when
// this process has received it: later, with no handler left, the signal would end it.
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

// end sends SIGTERM to the group, and SIGKILL after grace. It returns the failure that
// wait sends to done.
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
		f := <-done
		c.clear(time.After(0))
		return f
	}
}

// sweep ends the processes of the group that have outlived its leader. They may have
// ignored the signal that ended the leader, as background processes of a shell ignore ^C.
func (c *child) sweep(limit <-chan time.Time) {
	_ = syscall.Kill(-c.pid, syscall.SIGTERM)
	_ = syscall.Kill(-c.pid, syscall.SIGCONT)
	c.clear(limit)
}

// dying is how long clear waits for killed processes: one in a call to a device may never end.
const dying = time.Second

// clear waits until the group is empty. At limit it kills the rest of the group, and
// waits for at most dying.
func (c *child) clear(limit <-chan time.Time) {
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	killed := false
	for !errors.Is(syscall.Kill(-c.pid, 0), syscall.ESRCH) {
		for pid := 1; pid > 0; { // reap children re-parented to us (subreaper)
			pid, _ = syscall.Wait4(-c.pid, nil, syscall.WNOHANG, nil)
		}
		select {
		case <-poll.C:
		case <-limit:
			if killed {
				return
			}
			_ = syscall.Kill(-c.pid, syscall.SIGKILL)
			killed, limit = true, time.After(dying)
		}
	}
}
