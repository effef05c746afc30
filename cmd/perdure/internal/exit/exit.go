// Package exit maps the errors of the command to exit codes, so that a caller knows what
// to do next.
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

// The exit codes. 64 to 75 are those of BSD's sysexits.h, the others those of shells.
const (
	OK            = 0
	Failed        = 1
	Usage         = 64
	Unavailable   = 69
	TryLater      = 75
	TimedOut      = 124
	NotExecutable = 126
	NotFound      = 127
	Signal        = 128 // plus the number of the signal
)

// A Meaning is one row of the table of exit codes.
type Meaning struct {
	Code string // as help shows it
	Text string

	code int
	of   func(error) bool // errors that end the command with code; nil if only an [*Error] does
}

// Meanings returns the table of exit codes. [Code] takes the first row that matches an
// error; help shows all rows.
func Meanings() []Meaning {
	return []Meaning{
		{"0", "done", OK, func(err error) bool { return err == nil }},
		{"1", "permanent failure: retrying will not help", Failed, isMismatch},
		{"64", "invalid arguments, environment or policy file", Usage, isUsage},
		{"69", "gave up: attempts, time or budget are used up; retrying later may help", Unavailable, isExhausted},
		{"75", "retry later: a circuit breaker is open, a limit is reached, or a server sent Retry-After", TryLater, isRefused},
		{"124", "run: the last attempt was stopped by --attempt-timeout", TimedOut, nil},
		{"126", "run: the command cannot be executed", NotExecutable, nil},
		{"127", "run: the command does not exist", NotFound, nil},
		{"128+n", "ended by signal n: 130 for SIGINT, 143 for SIGTERM", Signal, nil},
		{"other", "run: the exit code of the last attempt", 0, nil},
	}
}

func isMismatch(err error) bool { return errors.Is(err, checksum.ErrMismatch) }

func isUsage(err error) bool {
	_, ok := errors.AsType[*setting.Error](err)
	return ok
}

func isRefused(err error) bool {
	_, refused := breakers.Refusal(err)
	return refused || errors.Is(err, retry.ErrRetryLater)
}

func isExhausted(err error) bool {
	return !isRefused(err) &&
		(errors.Is(err, retry.ErrExhausted) || errors.Is(err, retry.ErrDeadline) || errors.Is(err, retry.ErrBudget))
}

// Code returns the exit code for err: the code of an [*Error], that of the signal of an
// [*Interrupted], the first of [Meanings] that matches, or else Failed.
func Code(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	if e, ok := errors.AsType[*Interrupted](err); ok {
		return e.code()
	}
	for _, m := range Meanings() {
		if m.of != nil && m.of(err) {
			return m.code
		}
	}
	return Failed
}

// An Error is an error with its exit code.
type Error struct {
	Code   int
	Err    error // nil if there is nothing to print: the error was logged
	Logged error // the logged error that led to Code; nil if Err did
}

// Error returns the text of Err, or "" if Err is nil.
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

// UsageError returns err with the exit code [Usage].
func UsageError(err error) error { return &Error{Code: Usage, Err: err} }

// RetryAt returns the instant from which on it makes sense to run the command again
// after err; the zero Time if it is not known.
func RetryAt(err error) time.Time {
	if e, ok := errors.AsType[*retry.Error](err); ok {
		return e.RetryAt
	}
	at, _ := breakers.Refusal(err)
	return at
}

// An Interrupted is the cause of a context that was cancelled by a signal.
type Interrupted struct{ Signal os.Signal }

// Error names the signal.
func (e *Interrupted) Error() string { return "stopped by signal: " + e.Signal.String() }

// Unwrap returns [context.Canceled], so that a circuit breaker ignores the call.
func (e *Interrupted) Unwrap() error { return context.Canceled }

func (e *Interrupted) code() int {
	if s, ok := e.Signal.(syscall.Signal); ok {
		return Signal + int(s)
	}
	return Failed
}

// OnSignal returns a context that is cancelled, with an [*Interrupted] as its cause, by
// the first signal to end. A second signal ends the process at once. The returned
// function must be called when the context is no longer needed.
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

// Until returns the error of do, or the cause of ctx if ctx ends first: then do continues
// on its goroutine.
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

// IgnoreBrokenPipes makes a write to a pipe without a reader return an error. By default
// SIGPIPE would end the process at once.
func IgnoreBrokenPipes() { signal.Ignore(syscall.SIGPIPE) }

// Stopping returns the signals that ask a process to end.
func Stopping() []os.Signal {
	return []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}
}
