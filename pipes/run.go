package pipes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Run is the whole of main but for os.Exit: it opens a session, does the work,
// closes the session, and returns the code to exit with, see [ExitCode]. See
// [Config.Run].
func Run(work func(ctx context.Context, s *Session) error) int { return Config{}.Run(work) }

// Run opens a session with c, calls work on the caller's goroutine, closes the
// session and returns the code to exit with. An error of work is told on
// c.Stderr. If the session can't be opened the work is not done.
//
// A SIGINT or SIGTERM ends ctx, with a [*SignalError] as its cause; more of
// them change nothing. Work that has not returned when c.Grace is over is cut
// off: the process exits, as it does when work calls [runtime.Goexit]. A panic in
// work passes through after the session was closed.
func (c Config) Run(work func(ctx context.Context, s *Session) error) int {
	ctx, cancel := context.WithCancelCause(context.Background()) //nolint:forbidigo // that of main
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
		if value == nil { // runtime.Goexit, after which a process that waits for signals would never end
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

// The times that a process has after a signal.
const (
	defaultGrace = 12 * time.Second
	lastWords    = 3 * time.Second // to close the session when Grace is over
)

// watch ends the work at a signal, and the process if the work does not end.
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
	case <-time.After(lastWords):
	case <-closed:
	}
	os.Exit(ExitCode(stop))
}

// Close sends what is left, and that the session ends: with err, if that is not
// nil. It returns when all is written, or can't be. A second Close does nothing
// but wait for the first.
//
// What decides whether the step fails is not err but the code that the process
// exits with.
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
			_ = s.Custom(s.Outcome(err)) // it can be made, and what can't be written is told
		}
		params := object{}
		if err != nil {
			params = object{{"exception", exception(err, 0)}}
		}
		line, _ := message("closed", params) // which is short enough, whatever err is
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = s.write(line)
		s.closed = true
		s.warn(s.out.close())
	})
}

// ExitCode returns the code to exit with after work that ended with err: 0 for
// nil, 128 and the signal's number for a [*SignalError], what the ExitCode method
// of an error in its chain returns (an [*exec.ExitError] has one), else 1. It is
// never 0 for an error: to Dagster that is success.
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

// A SignalError is a signal that has ended the work.
type SignalError struct {
	Signal os.Signal
}

// Error names the signal.
func (e *SignalError) Error() string { return fmt.Sprintf("stopped by signal: %v", e.Signal) }

// ExitCode returns 128 and the signal's number.
func (e *SignalError) ExitCode() int {
	if n, ok := e.Signal.(syscall.Signal); ok {
		return 128 + int(n)
	}
	return 1
}

// The limits of an exception; together they stay below maxLine.
const (
	maxCauses = 8
	maxReason = 4 << 10  // bytes of the message of each cause
	maxStack  = 16 << 10 // bytes of the stack of a panic
	maxName   = 200
)

// A PanicError is a panic of the work that was done under a session.
type PanicError struct {
	Value any    // what panic was called with
	Stack string // of the goroutine that panicked
}

// Error returns the value as text.
func (e *PanicError) Error() string { return fmt.Sprint(e.Value) }

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// ExitCode returns 2, with which a process ends that nobody has recovered.
func (e *PanicError) ExitCode() int { return 2 }

// A RemoteError is an error of another program, as that has told it. It comes
// to Dagster with the name and the stack that it has there.
type RemoteError struct {
	Name, Message string
	Stack         []string // lines, each with its end
	Cause         error    // nil: none
}

// Error returns the message.
func (e *RemoteError) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *RemoteError) Unwrap() error { return e.Cause }

// panicked returns the error for a panic that was just recovered.
func panicked(value any) *PanicError {
	return &PanicError{Value: value, Stack: string(debug.Stack())}
}

// exception returns err as Dagster takes it: an object with five fields, as is
// each of its causes. One that says nothing but what its cause says is left out.
func exception(err error, depth int) object {
	for range maxCauses { // one may be its own cause
		next := cause(err)
		if next == nil || text(next) != text(err) || named(err) {
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
	switch e := err.(type) { //nolint:errorlint // what it wraps comes after it
	case *PanicError:
		o[1].value, o[2].value = lines(clip(e.Stack, maxStack)), "panic"
	case *RemoteError:
		o[1].value, o[2].value = lines(clip(strings.Join(e.Stack, ""), maxStack)), clip(e.Name, maxName)
	}
	if next := cause(err); next != nil && depth+1 < maxCauses {
		o[3].value = exception(next, depth+1)
	}
	return o
}

// named reports whether err says more than its text.
func named(err error) bool {
	switch err.(type) { //nolint:errorlint // this one
	case *PanicError, *RemoteError:
		return true
	default:
		return false
	}
}

// cause returns the error that tells most about why err came about. Of several
// that are joined it is the first: the text of err names the others.
func cause(err error) (inner error) {
	defer func() { _ = recover() }() // of an error that is a nil pointer
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

// text is err's own, or what fmt makes of one whose Error panics.
func text(err error) string { return fmt.Sprintf("%v", err) }

// lines returns the lines of a stack, each with its end.
func lines(stack string) []any {
	list := []any{}
	for line := range strings.Lines(stack) {
		list = append(list, line)
	}
	return list
}
