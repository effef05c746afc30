// Package exit gives each way in which the command can end its code, so that
// whoever called it knows what to do next.
package exit

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/retry"
)

// The codes. Those from 64 are of BSD's sysexits.h, the others those of shells.
const (
	OK            = 0
	Failed        = 1   // permanent failure: retrying will not help
	Usage         = 64  // the arguments, the environment or the file are wrong
	Unavailable   = 69  // given up: it may be possible later
	TryLater      = 75  // not now: a breaker is open, a limit is reached, or the server said when to come back
	TimedOut      = 124 // the last attempt was stopped by its timeout
	NotExecutable = 126 // the command cannot be executed
	NotFound      = 127 // the command does not exist
	Signal        = 128 // and the number of the signal
)

// Meanings returns the codes with what they mean, for a help text.
func Meanings() []struct{ Code, Meaning string } {
	return []struct{ Code, Meaning string }{
		{"0", "done"},
		{"1", "permanent failure: retrying will not help"},
		{"64", "the arguments, the environment or the file with the policy are wrong"},
		{"69", "given up: attempts, time or budget are used up; it may be possible later"},
		{"75", "come back later: a circuit breaker is open, a limit is reached, or the server said when"},
		{"124", "run: the last attempt timed out but exited 0"},
		{"126", "run: the command cannot be executed"},
		{"127", "run: the command does not exist"},
		{"128+n", "stopped by signal n: 130 for an interrupt, 143 for a termination"},
		{"other", "run: that of the last attempt"},
	}
}

// An Error is an error whose code is known.
type Error struct {
	Code int
	Err  error // nil: there is nothing to say that has not been said
	Told error // what has been said, and led to Code; nil: Err is all
}

// Error returns the text of Err.
func (e *Error) Error() string {
	if e.Err == nil {
		return ""
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// ExitCode returns Code.
func (e *Error) ExitCode() int { return e.Code }

// UsageError says that err is the user's to mend in what was asked for.
func UsageError(err error) error { return &Error{Code: Usage, Err: err} }

// Code returns the code that the command ends with because of err.
func Code(err error) int {
	if err == nil {
		return OK
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	if e, ok := errors.AsType[*Interrupted](err); ok {
		return e.code()
	}
	if _, ok := errors.AsType[*setting.Error](err); ok {
		return Usage
	}
	if errors.Is(err, checksum.ErrMismatch) { // however often that was tried
		return Failed
	}
	if _, refused := breakers.Refusal(err); refused || errors.Is(err, retry.ErrRetryLater) {
		return TryLater
	}
	for _, stop := range []error{retry.ErrExhausted, retry.ErrDeadline, retry.ErrBudget} {
		if errors.Is(err, stop) {
			return Unavailable
		}
	}
	return Failed
}

// RetryAt returns when it makes sense to come back after err; the zero Time if
// that is not known.
func RetryAt(err error) time.Time {
	if e, ok := errors.AsType[*retry.Error](err); ok {
		return e.RetryAt
	}
	at, _ := breakers.Refusal(err)
	return at
}

// An Interrupted is the cause of a context that a signal has ended.
type Interrupted struct{ Signal os.Signal }

// Error names the signal.
func (e *Interrupted) Error() string { return "stopped by signal: " + e.Signal.String() }

// Unwrap makes it an end that the caller wanted, which says nothing of the
// service that was called.
func (e *Interrupted) Unwrap() error { return context.Canceled }

func (e *Interrupted) code() int {
	if s, ok := e.Signal.(syscall.Signal); ok {
		return Signal + int(s)
	}
	return Failed
}

// OnSignal returns a context that ends with an [*Interrupted] when the process
// is told to stop. A second signal then ends the process at once. The function
// must be called when the context is no longer needed.
func OnSignal(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	for _, s := range Stopping() {
		if !signal.Ignored(s) { // as nohup has it
			signal.Notify(signals, s)
		}
	}
	go func() {
		select {
		case s := <-signals:
			signal.Stop(signals)
			cancel(&Interrupted{s})
		case <-ctx.Done():
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel(nil) }
}

// Until returns the error of do, or what has ended ctx if that comes first; do is then left to itself.
func Until(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// IgnoreBrokenPipes makes it an error of the write when nobody reads any more
// what the process writes. Otherwise that ends the process at once, whatever it
// has begun.
func IgnoreBrokenPipes() { signal.Ignore(syscall.SIGPIPE) }

// Stopping returns the signals that ask a process to end.
func Stopping() []os.Signal {
	return []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}
}
