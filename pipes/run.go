package pipes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Run opens a session, calls work, closes the session and returns the code for
// os.Exit: the whole of a main function. See [Config.Run].
func Run(work func(ctx context.Context, s *Session) error) int { return Config{}.Run(work) }

// Run opens a session with c, calls work on the caller's goroutine, closes the
// session and returns the code to exit with, see [ExitCode]. Run writes an error of
// work to c.Stderr. If the session can't be opened, Run does not call work.
//
// A SIGINT or SIGTERM cancels ctx, with a [*SignalError] as its cause; further
// signals have no effect. If work has not returned when c.Grace is over, Run
// closes the session and ends the process, also when work calls [runtime.Goexit].
// Run closes the session of work that panics, and panics with the same value.
func (c Config) Run(work func(ctx context.Context, s *Session) error) int {
	ctx, cancel := context.WithCancelCause(context.Background()) //nolint:forbidigo // the context of main
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer func() {
		if ctx.Err() == nil { // else another signal would end the process before it exits with its code
			signal.Stop(signals)
		}
	}()
	s, err := Open(ctx, c)
	if err == nil {
		finished := make(chan struct{})
		defer close(finished)
		go s.watch(signals, cancel, finished)
		err = s.do(ctx, work)
		s.Close(err)
	}
	if err != nil {
		fmt.Fprintf(c.stderr(), "error: %s\n", redact.String(text(err)))
	}
	return ExitCode(err)
}

// do calls work.
func (s *Session) do(ctx context.Context, work func(context.Context, *Session) error) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		value := recover()
		if value == nil { // runtime.Goexit: main's goroutine is gone, and the process would never end
			err = errors.New("the work called runtime.Goexit")
			s.Close(err)
			os.Exit(ExitCode(err))
		}
		s.Close(panicked(value))
		panic(value)
	}()
	err = work(ctx, s)
	returned = true
	var signalled *SignalError
	if cause := context.Cause(ctx); err != nil && errors.As(cause, &signalled) && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// Time limits after a signal.
const (
	defaultGrace = 12 * time.Second
	closeLimit   = 3 * time.Second // to close the session when Grace is over
)

// watch cancels the work at a signal, and ends the process if the work does not
// return within the grace period.
func (s *Session) watch(signals <-chan os.Signal, cancel context.CancelCauseFunc, finished <-chan struct{}) {
	stop := &SignalError{}
	select {
	case stop.Signal = <-signals:
	case <-finished:
		return
	}
	cancel(stop)
	grace := s.config.Grace
	if grace <= 0 {
		grace = defaultGrace
	}
	select {
	case <-time.After(grace):
	case <-finished:
		return
	}
	closed := make(chan struct{})
	go func() { s.Close(stop); close(closed) }()
	select {
	case <-time.After(closeLimit):
	case <-closed:
	}
	os.Exit(ExitCode(stop))
}

// Close sends the messages that are left and the end of the session, with err if
// err is not nil. Close returns when everything is written or has failed to be
// written. A second Close only waits for the first.
//
// The exit code of the process, not err, decides whether the step fails.
func (s *Session) Close(err error) {
	s.end.Do(func() {
		if !s.Launched() {
			return
		}
		s.stream(Stdout, &s.streams[0], true)
		s.stream(Stderr, &s.streams[1], true)
		s.tally.mu.Lock()
		observed := s.tally.on
		s.tally.mu.Unlock()
		if observed {
			_ = s.Custom(s.Outcome(err)) // an Outcome can be encoded; a failed write is a warning
		}
		params := object{}
		if err != nil {
			params = object{{"exception", exception(err, 0)}}
		}
		line, _ := message("closed", params) // exception limits the length
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = s.write(line)
		s.closed = true
		s.warn(s.out.close())
	})
}

// ExitCode returns the code to exit with after work that ended with err: 0 for
// nil, 128 plus the signal's number for a [*SignalError], the result of the ExitCode
// method of an error in err's chain (an [os/exec.ExitError] has one), else 1. The code
// of an error is never 0, which Dagster takes for success.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	var coded interface{ ExitCode() int }
	if signalled, ok := errors.AsType[*SignalError](err); ok {
		coded = signalled
	}
	if coded != nil || errors.As(err, &coded) {
		if code := coded.ExitCode(); code > 0 && code < 256 {
			return code
		}
	}
	return 1
}

// A SignalError is the cause of a context that a signal has cancelled.
type SignalError struct {
	Signal os.Signal
}

// Error names the signal.
func (e *SignalError) Error() string { return fmt.Sprintf("stopped by signal: %v", e.Signal) }

// ExitCode returns 128 plus the signal's number.
func (e *SignalError) ExitCode() int {
	if n, ok := e.Signal.(syscall.Signal); ok {
		return 128 + int(n)
	}
	return 1
}

// The limits of an exception. The whole exception stays below maxLine.
const (
	maxCauses = 8
	maxReason = 4 << 10  // bytes of the message of each error
	maxStack  = 16 << 10 // bytes of a stack
	maxName   = 200      // bytes of a name
)

// An Exception is an error with the name and the stack that Dagster shows: of
// another program, or of a panic.
type Exception struct {
	Name, Message string
	Stack         []string // lines, each with its newline
	Cause         error    // nil if there is no cause
}

// Error returns the message.
func (e *Exception) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Exception) Unwrap() error { return e.Cause }

// A panicError is a panic of the work.
type panicError struct{ exception *Exception }

func (e *panicError) Error() string { return e.exception.Message }
func (e *panicError) Unwrap() error { return e.exception }

// ExitCode returns 2, the exit code of a Go program that panics.
func (e *panicError) ExitCode() int { return 2 }

// panicked returns the error for a panic that was just recovered.
func panicked(value any) error {
	e := &Exception{Name: "panic", Message: fmt.Sprint(value), Stack: slices.Collect(strings.Lines(string(debug.Stack())))}
	e.Cause, _ = value.(error)
	return &panicError{e}
}

// exception returns err as Dagster's reader takes an exception. An error that only
// repeats the text of its cause is left out.
func exception(err error, depth int) object {
	for range maxCauses { // an error may be its own cause
		next := cause(err)
		if _, named := err.(*Exception); named || next == nil || text(next) != text(err) { //nolint:errorlint // err itself
			break
		}
		err = next
	}
	o := object{
		{"message", clip(text(err), maxReason)},
		{"stack", []any{}},
		{"name", clip(strings.TrimLeft(fmt.Sprintf("%T", err), "*"), maxName)},
		{"cause", nil},
		{"context", nil},
	}
	if named, ok := err.(*Exception); ok { //nolint:errorlint // its cause comes below it
		o[1].value, o[2].value = lines(clip(strings.Join(named.Stack, ""), maxStack)), clip(named.Name, maxName)
	}
	if next := cause(err); next != nil && depth+1 < maxCauses {
		o[3].value = exception(next, depth+1)
	}
	return o
}

// cause returns the error that explains err best, nil if err has no cause. Of joined
// errors it is the first: the text of err has the others.
func cause(err error) (inner error) {
	defer func() { _ = recover() }() // err may be a nil pointer
	if redact.Replaces(err) {
		return nil
	}
	switch e := err.(type) { //nolint:errorlint // one step at a time
	case *retry.Error:
		if e.Last != nil {
			return e.Last
		}
		return e.Stop
	case interface{ Unwrap() []error }:
		for _, inner = range e.Unwrap() {
			if inner != nil {
				return inner
			}
		}
		return inner
	default:
		return errors.Unwrap(err)
	}
}

// text returns err's text, also if its Error method panics.
func text(err error) string { return fmt.Sprintf("%v", err) }

// lines returns the lines of a stack, each with its newline.
func lines(stack string) []any {
	list := []any{}
	for line := range strings.Lines(stack) {
		list = append(list, line)
	}
	return list
}
