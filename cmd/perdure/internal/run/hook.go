package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/pipes"
)

// Limits of a Hook.
const (
	hookTimeout = 10 * time.Second // of one command, and of Close
	hooksAtOnce = 4
	hooksQueued = 100 // with those that run
)

// A Hook runs a command of the user's when a circuit breaker opens: once for each opening
// that this process has made. A nil Hook runs nothing. It is safe for concurrent use.
type Hook struct {
	command string
	environ []string
	output  *os.File
	log     *slog.Logger
	limit   time.Duration   // hookTimeout, but in tests
	stopped context.Context //nolint:containedctx // of the Hook: it ends with Close and after a signal
	stop    context.CancelCauseFunc
	places  chan struct{}

	mu     sync.Mutex
	queued int  // guarded by mu
	closed bool // guarded by mu

	all sync.WaitGroup
}

// NewHook returns the Hook for the flag --on-open; nil if command is empty. The command
// gets environ and writes to output, both of its streams; a failure is a warning in log.
func NewHook(ctx context.Context, command string, environ []string, output *os.File, log *slog.Logger) (*Hook, error) {
	if command == "" {
		return nil, nil
	}
	if _, err := exec.LookPath(shell); err != nil {
		return nil, setting.Bad("--on-open", command, "used where there is a shell: "+err.Error())
	}
	h := &Hook{command: command, environ: pipes.StripEnv(environ), output: output, log: log, limit: hookTimeout, places: make(chan struct{}, hooksAtOnce)}
	h.stopped, h.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	return h, nil
}

// Watch makes the Hook run for the openings of the breakers of c, which still logs its
// transitions.
func (h *Hook) Watch(c *circuit.Config) {
	if h != nil {
		c.Observe = circuit.Observers(circuit.LogTo(c.Log), h.observe)
	}
}

// observe starts the command if t is an opening that this process has made. It does not wait.
func (h *Hook) observe(_ context.Context, t circuit.Transition) {
	if t.From != circuit.Closed || t.To != circuit.Open || t.Reason.Cause() == circuit.FleetDecision {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed, h.stopped.Err() != nil:
	case h.queued == hooksQueued:
		h.warn(t, fmt.Errorf("not run: %d others wait", hooksQueued))
	default:
		h.queued++
		h.all.Go(func() { h.open(t) })
	}
}

// open runs the command for t, when there is a place for it.
func (h *Hook) open(t circuit.Transition) {
	h.places <- struct{}{}
	err := h.run(t)
	<-h.places
	if err != nil {
		h.warn(t, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.queued--
}

func (h *Hook) warn(t circuit.Transition, err error) {
	h.log.Warn(fmt.Sprintf("The command of --on-open failed for circuit breaker '%s': %v", t.Name, err), "event", "warning", "breaker", t.Name)
}

// run runs the command. It kills the command with its process group at a signal to end,
// after the timeout, and when Close has waited for it long enough.
func (h *Hook) run(t circuit.Transition) error {
	signalled, stop := exit.OnSignal(h.stopped)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(signalled, h.limit, h.overdue())
	defer cancel()
	if ctx.Err() != nil {
		return h.cause(ctx)
	}
	cmd := shellCommand(context.WithoutCancel(ctx), h.command)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(slices.Clip(h.environ), variables(t)...), h.output, h.output
	child, err := startApart(cmd)
	if err != nil {
		return err
	}
	over := make(chan time.Time)
	defer context.AfterFunc(ctx, func() { close(over) })()
	done := make(chan *Failure, 1)
	go func() { done <- child.waitApart() }()
	var failed *Failure
	select {
	case failed = <-done:
	case <-over:
		child.signal(os.Kill)
		failed = <-done
	}
	child.clear(over)
	switch {
	case ctx.Err() != nil:
		return h.cause(ctx)
	case failed != nil:
		return failed
	}
	return nil
}

// cause returns why ctx has ended; nil if a signal did that: then no other command starts.
func (h *Hook) cause(ctx context.Context) error {
	err := context.Cause(ctx)
	if _, interrupted := errors.AsType[*exit.Interrupted](err); interrupted {
		h.stop(err)
		return nil
	}
	return err
}

// variables returns the environment variables about t.
func variables(t circuit.Transition) (all []string) {
	failures := 0
	_, _ = fmt.Sscan(t.Reason.String(), &failures) // each reason to open a closed breaker begins with its number
	for i, value := range []string{t.Name, t.To.String(), t.Reason.String(), fmt.Sprint(failures), t.RetryAt.Format(time.RFC3339)} {
		all = append(all, policy.BreakerVariables()[i]+"="+value)
	}
	return all
}

// overdue is the error of a command that has not ended in time, or was not started in time.
func (h *Hook) overdue() error { return fmt.Errorf("killed: it has not ended within %v", h.limit) }

// Close waits until all commands have ended, for 10 s at most, and kills the rest.
func (h *Hook) Close() {
	if h == nil {
		return
	}
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	defer time.AfterFunc(h.limit, func() { h.stop(h.overdue()) }).Stop()
	h.all.Wait()
}
