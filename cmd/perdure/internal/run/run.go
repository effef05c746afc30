// Package run runs a command until it succeeds, or its policy says stop.
//
// Each attempt is a process that leads its own process group, so that a timeout ends
// the whole group. What an attempt reads from a pipe is replayed to the next attempt;
// what no attempt reads stays in the pipe. What an attempt writes passes through.
package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/wait"
	"github.com/seed-0f2c7998/perdure/retry"
)

// AttemptVariable is the environment variable with the number of the attempt, from 1.
const AttemptVariable = "PERDURE_ATTEMPT"

// DefaultGrace is the Grace of a command of which nothing else is known.
const DefaultGrace = 5 * time.Second

// A Command describes what is to be run. It is used once.
type Command struct {
	Args   []string // the first is the program
	Policy *retry.Policy
	Waiter *wait.Waiter  // waits while the Policy's breaker is open; nil means do not wait
	Buffer bool          // write only the standard output of the last attempt, when it has ended
	Grace  time.Duration // from SIGTERM after a timeout to SIGKILL

	// KillAfter is how long an attempt may run after a signal that ends this process;
	// then it is killed. 0 means no limit.
	KillAfter time.Duration

	// Outputs are compared with the last lines that a failed attempt has written. If nil,
	// or without patterns, attempts inherit Stdout and Stderr.
	Outputs *Outputs

	// Mark returns the error of an attempt, marked for the Policy if need be. If nil, no
	// error is marked.
	Mark func(error) error

	// ReplayAll has all of standard input read and replayed to each attempt. If false,
	// only what attempts have read is replayed.
	ReplayAll bool
	// Note logs a line of text, with the name of its event.
	Note func(event, text string)

	// BeforeAttempt is called before each attempt and returns its environment, in place
	// of Environ. It also returns a function that is called when the attempt has ended,
	// and returns the error that the attempt itself has reported. If nil, it is not
	// called.
	BeforeAttempt func() (environ []string, ended func(failed bool) error)

	Stdin          *os.File
	Stdout, Stderr *os.File
	Environ        []string

	input    *input
	output   output
	attempts int
	last     error // of the last attempt
	forced   bool  // the last attempt was killed after KillAfter

	mu         sync.Mutex
	child      *child    // the attempt that runs; nil between attempts
	between    bool      // a signal to end came between attempts
	lastSignal os.Signal // the last signal to end
}

// Attempts returns how many attempts were made.
func (c *Command) Attempts() int { return c.attempts }

// Run makes the attempts, one after the other. Signals are forwarded to the attempt
// that runs. After a signal to end, no other attempt is made.
//
// The error of a failed last attempt is an [*exit.Error] with the attempt's exit code.
func (c *Command) Run(ctx context.Context) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer c.forward(end)()
	c.input = newInput(c.Stdin, c.Policy.Attempts() != 1, c.ReplayAll)
	defer c.input.close()

	err := c.Waiter.Do(ctx, c.breakers, func(ctx context.Context) error {
		return retry.Do(ctx, c.Policy, func(ctx context.Context) error {
			c.last = c.attempt(ctx)
			if c.Mark == nil {
				return c.last
			}
			return c.Mark(c.last)
		})
	})
	if flushed := c.output.flush(c.Stdout); flushed != nil && err == nil {
		return flushed
	}
	return c.verdict(err)
}

func (c *Command) breakers() []*circuit.Breaker { return []*circuit.Breaker{c.Policy.Breaker} }

// verdict gives the error of a run its code.
func (c *Command) verdict(err error) error {
	f, failed := errors.AsType[*Failure](c.last)
	_, interrupted := errors.AsType[*exit.Interrupted](err)
	c.mu.Lock() // a signal may still come
	between := c.between
	c.mu.Unlock()
	switch {
	case err == nil, !failed:
		return err
	case interrupted && (between || c.forced):
		return err // the signal is what happened last
	case f.Start != nil:
		return &exit.Error{Code: f.Code, Err: f.Start, Logged: err}
	case f.TimedOut > 0 && !logged(err):
		return &exit.Error{Code: f.Code, Err: fmt.Errorf("%s: %w", c.Policy.Name, f), Logged: err}
	default:
		return &exit.Error{Code: f.Code, Logged: err}
	}
}

// logged reports whether the operation that ended with err has logged its end: that of one
// that is not retried at all is logged at level debug only.
func logged(err error) bool {
	_, ok := errors.AsType[*retry.Error](err)
	return ok
}

// forward forwards signals to the attempts. A signal to end calls end as well. The
// returned function stops forwarding.
func (c *Command) forward(end context.CancelCauseFunc) (stop func()) {
	signals := make(chan os.Signal, 8)
	for _, s := range append(exit.Stopping(), passedOn()...) {
		if !signal.Ignored(s) { // as nohup has it
			signal.Notify(signals, s)
		}
	}
	orphans := make(chan os.Signal, 1)
	notifyOfOrphans(orphans)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-orphans:
				c.reap()
			case s := <-signals:
				if isSuspend(s) {
					c.suspend()
					continue
				}
				c.pass(s, end)
			case <-done:
				return
			}
		}
	}()
	return func() { signal.Stop(signals); signal.Stop(orphans); close(done) }
}

// reap reaps orphans that have ended. While an attempt runs, the attempt's wait does so.
func (c *Command) reap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.child == nil {
		reap()
	}
}

// pass forwards s to the attempt that runs, and calls end if s asks to end.
func (c *Command) pass(s os.Signal, end context.CancelCauseFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stopping := slices.Contains(exit.Stopping(), s)
	again := stopping && c.KillAfter > 0 && c.lastSignal == s // from the terminal, and again from Dagster
	if stopping {
		c.lastSignal, c.between = s, c.between || c.child == nil
		end(&exit.Interrupted{Signal: s}) // first, so that watch knows why the attempt ends
	}
	if c.child != nil && !again {
		c.child.signal(s)
	}
}

// attempt runs the command once.
func (c *Command) attempt(ctx context.Context) error {
	c.attempts++
	environ, ended := c.Environ, func(bool) error { return nil }
	if c.BeforeAttempt != nil {
		environ, ended = c.BeforeAttempt()
	}
	err := c.process(ctx, append(slices.Clip(environ), AttemptVariable+"="+strconv.Itoa(c.attempts)))
	reported := ended(err != nil)
	if f, ok := errors.AsType[*Failure](err); ok {
		f.Reported = reported
	}
	return err
}

// process runs a process from its start to its end.
func (c *Command) process(ctx context.Context, environ []string) (err error) {
	// The context does not end the process: watch ends it with all of its group.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), c.Args[0], c.Args[1:]...)
	cmd.Env = environ
	cmd.Stdout, cmd.Stderr = c.Stdout, c.Stderr
	if c.Buffer {
		if cmd.Stdout, err = c.output.renew(); err != nil {
			return err
		}
	}
	if what := c.input.notReplayed(); what != "" && c.attempts == 2 {
		c.Note("not_replayed", "Standard input is "+what+" and is not replayed: attempt 2 continues where attempt 1 stopped reading")
	}
	feed, err := c.input.open()
	if err != nil {
		return err
	}
	cmd.Stdin = feed.file
	out, err := c.Outputs.open(cmd)
	if err == nil {
		var child *child
		child, err = c.start(ctx, cmd)
		out.started()
		if err == nil {
			feed.begin()
			err = out.matched(c.watch(ctx, child))
		}
	}
	if broken := feed.end(); broken != nil {
		return retry.Permanent(fmt.Errorf("standard input: %w", broken)) // the attempt has not seen all of it
	}
	return err
}

// start starts the process, unless a signal came or the attempt timed out first. From then
// on, signals are forwarded to the process.
func (c *Command) start(ctx context.Context, cmd *exec.Cmd) (*child, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, context.DeadlineExceeded):
		return nil, timedOut(nil, c.Policy.AttemptTimeout)
	case cause != nil:
		return nil, cause
	}
	if c.KillAfter > 0 {
		adopt() // before a process of the group can outlive its leader
	}
	child, err := start(cmd)
	if err != nil {
		return nil, unstarted(c.Args[0], err)
	}
	c.child = child
	return child, nil
}

// watch waits for the attempt to end, and ends it after its timeout or if ctx ends. After
// a signal it only enforces KillAfter: the signal was forwarded, and the attempt decides
// when to end.
func (c *Command) watch(ctx context.Context, child *child) error {
	done := make(chan *Failure, 1)
	go func() { done <- child.wait() }()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.child = nil
		reap()
	}()

	var expired <-chan time.Time
	if deadline, ok := ctx.Deadline(); ok {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		expired = timer.C
	}
	ended := ctx.Done()
	var overdue <-chan time.Time
	for {
		select {
		case f := <-done:
			if c.limited(ctx) {
				child.sweep(cmp.Or(overdue, time.After(c.KillAfter)))
			}
			if f == nil {
				return nil
			}
			return f
		case <-overdue:
			c.force(child)
		case <-expired:
			if len(done) > 0 || child.exited() { // in time: this process was held up
				expired = nil
				continue
			}
			return timedOut(child.end(done, c.Grace), c.Policy.AttemptTimeout)
		case <-ended:
			_, interrupted := errors.AsType[*exit.Interrupted](context.Cause(ctx))
			timeout := errors.Is(context.Cause(ctx), context.DeadlineExceeded)
			if !interrupted && !timeout {
				_ = child.end(done, c.Grace) // the cause of ctx is the reason
				return context.Cause(ctx)
			}
			if c.limited(ctx) {
				overdue = time.After(c.KillAfter)
			}
			ended = nil
		}
	}
}

// limited reports whether a signal has come, so that KillAfter limits the attempt.
func (c *Command) limited(ctx context.Context) bool {
	_, interrupted := errors.AsType[*exit.Interrupted](context.Cause(ctx))
	return interrupted && c.KillAfter > 0 && !c.forced
}

// force kills an attempt that has not ended after a signal, with all of its group.
func (c *Command) force(child *child) {
	c.forced = true
	child.signal(os.Kill)
}
