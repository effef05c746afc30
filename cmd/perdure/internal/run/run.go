// Package run runs a command until it succeeds, or its policy says stop.
//
// Each attempt is a process that leads a group of its own, so that a timeout
// ends all of it. What the attempt reads from a pipe is kept and given to the
// next one, and what it does not read stays in the pipe. What it writes passes
// through.
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

// AttemptVariable is the environment variable in which an attempt finds its
// number, from 1.
const AttemptVariable = "PERDURE_ATTEMPT"

// A Command is what is to be run. It is for one run.
type Command struct {
	Args   []string // the first is the program
	Policy *retry.Policy
	Waiter *wait.Waiter  // waits while the Policy's breaker is open; nil means do not wait
	Buffer bool          // keep standard output back, and write that of the last attempt only
	Grace  time.Duration // from the request to end, after a timeout, to the end by force
	Limit  time.Duration // from a signal that asks to end to the end by force; 0: the attempt takes its time

	// Mark returns the error of an attempt, marked if need be. If nil, none is marked.
	Mark func(error) error

	// ReplayAll has all of standard input read and given to each attempt, instead of
	// what attempts have read. Note is called when there is a line to log, with the
	// word for an event.
	ReplayAll bool
	Note      func(event, text string)

	// Each is called before each attempt and returns the environment for it, in
	// place of Environ. What it returns besides is called when the attempt has ended,
	// and returns what that itself has told of its failure. If nil, nothing is called.
	Each func() (environ []string, ended func(failed bool) error)

	Stdin          *os.File
	Stdout, Stderr *os.File
	Environ        []string

	input    *input
	output   output
	attempts int
	last     error // of the last attempt
	forced   bool  // it has not ended within Limit

	mu      sync.Mutex
	child   *child    // that runs; nil between attempts
	waiting bool      // a signal to end came between attempts
	asked   os.Signal // to end, the last time
}

// Attempts returns how many attempts were made.
func (c *Command) Attempts() int { return c.attempts }

// Run makes the attempts, one after the other. Signals are forwarded to the
// attempt that runs; after one that asks to end no other attempt is made.
//
// If the last thing that happened is that an attempt failed, the error is an
// [*exit.Error] with its code.
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
	waiting := c.waiting
	c.mu.Unlock()
	switch {
	case err == nil, !failed:
		return err
	case interrupted && (waiting || c.forced):
		return err // the signal is what happened last
	case f.Start != nil:
		return &exit.Error{Code: f.Code, Err: f.Start, Told: err}
	default:
		return &exit.Error{Code: f.Code, Told: err}
	}
}

// forward passes signals on to the attempts. A signal that asks to end calls
// end as well. The function stops it.
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

// reap waits for orphans that have ended, unless an attempt runs: its wait does so.
func (c *Command) reap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.child == nil {
		reap()
	}
}

func (c *Command) pass(s os.Signal, end context.CancelCauseFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stopping := slices.Contains(exit.Stopping(), s)
	again := stopping && c.Limit > 0 && c.asked == s // from a terminal, and from who runs us
	if stopping {
		c.asked, c.waiting = s, c.waiting || c.child == nil
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
	if c.Each != nil {
		environ, ended = c.Each()
	}
	err := c.process(ctx, append(slices.Clip(environ), AttemptVariable+"="+strconv.Itoa(c.attempts)))
	told := ended(err != nil)
	if f, ok := errors.AsType[*Failure](err); ok {
		f.Told = told
	}
	return err
}

// process runs a process from its start to its end.
func (c *Command) process(ctx context.Context, environ []string) (err error) {
	// The context does not end the process: watch does, with all of its group.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), c.Args[0], c.Args[1:]...)
	cmd.Env = environ
	cmd.Stdout, cmd.Stderr = c.Stdout, c.Stderr
	if c.Buffer {
		if cmd.Stdout, err = c.output.renew(); err != nil {
			return err
		}
	}
	if what := c.input.lost(); what != "" && c.attempts == 2 {
		c.Note("not_replayed", "Standard input is "+what+", which is not replayed: attempt 2 reads on where attempt 1 ended")
	}
	feed, err := c.input.open()
	if err != nil {
		return err
	}
	cmd.Stdin = feed.file
	child, err := c.start(ctx, cmd)
	if err == nil {
		feed.begin()
		err = c.watch(ctx, child)
	}
	if broken := feed.end(); broken != nil {
		return retry.Permanent(fmt.Errorf("standard input: %w", broken)) // the attempt has not seen all of it
	}
	return err
}

// start starts the process, unless a signal came first: from here on signals
// reach it.
func (c *Command) start(ctx context.Context, cmd *exec.Cmd) (*child, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if c.Limit > 0 {
		adopt() // before any of the group can outlive its leader
	}
	child, err := start(cmd)
	if err != nil {
		return nil, unstarted(c.Args[0], err)
	}
	c.child = child
	return child, nil
}

// watch waits for the attempt to end, and ends it if its time is over or the
// caller says so. After a signal there is nothing to do but to look at the
// Limit: the attempt has it as well, and decides by itself.
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
				child.sweep(cmp.Or(overdue, time.After(c.Limit)))
			}
			if f == nil {
				return nil
			}
			return f
		case <-overdue:
			c.force(child)
		case <-expired:
			return timedOut(child.end(done, c.Grace), c.Policy.AttemptTimeout)
		case <-ended:
			_, interrupted := errors.AsType[*exit.Interrupted](context.Cause(ctx))
			timeout := errors.Is(context.Cause(ctx), context.DeadlineExceeded)
			if !interrupted && !timeout {
				_ = child.end(done, c.Grace) // how it ended is not the reason
				return context.Cause(ctx)
			}
			if c.limited(ctx) {
				overdue = time.After(c.Limit)
			}
			ended = nil
		}
	}
}

// limited reports whether a signal has come, after which there is only so much
// time.
func (c *Command) limited(ctx context.Context) bool {
	_, interrupted := errors.AsType[*exit.Interrupted](context.Cause(ctx))
	return interrupted && c.Limit > 0 && !c.forced
}

// force ends an attempt that a signal has not, with all of its group.
func (c *Command) force(child *child) {
	c.forced = true
	child.signal(os.Kill)
}
