package retry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/redact"
)

// The errors in Error.Stop: test for them with [errors.Is]. Error.Stop may also be a
// [*circuit.OpenError], a [*circuit.LimitError], or the error of the caller's context,
// for which errors.Is finds both the cause of the context and [context.Canceled] or
// [context.DeadlineExceeded].
var (
	// ErrExhausted reports that Policy.MaxAttempts attempts have failed.
	ErrExhausted error = &class.Stop{Text: "attempts exhausted", Class: class.Transient}
	// ErrPermanent reports that the policy does not retry the last error.
	ErrPermanent error = &class.Stop{Text: "permanent error", Class: class.Permanent}
	// ErrDeadline reports that the context's deadline or Policy.MaxElapsed leaves too
	// little time for the delay and an attempt of 10 ms. Error.Stop wraps ErrDeadline, and
	// says how much time was needed and left. errors.Is finds [context.DeadlineExceeded]
	// in ErrDeadline.
	ErrDeadline error = &class.Stop{Text: "not enough time left for another attempt", Class: class.Transient, Like: context.DeadlineExceeded}
	// ErrBudget reports that the retry budget of the Breaker does not pay for another
	// attempt.
	ErrBudget error = &class.Stop{Text: "retry budget spent", Class: class.Transient}
	// ErrRetryLater reports that the server asked for a longer wait than
	// Policy.MaxRetryAfter or the deadline allows. Error.RetryAt is the instant at which
	// that wait ends.
	ErrRetryLater error = &class.Stop{Text: "the server asked for a longer wait than allowed", Class: class.Ignored}
)

// A Reason says why no attempt follows, as a value to switch on; the field Stop of the
// same struct is that reason as an error. The zero Reason means that the operation
// continues or has succeeded.
type Reason uint8

// The reasons.
const (
	ReasonExhausted   Reason = iota + 1 // ErrExhausted: all attempts were made
	ReasonPermanent                     // ErrPermanent: the policy does not retry the error
	ReasonDeadline                      // ErrDeadline, or the caller's deadline has passed
	ReasonBudget                        // ErrBudget: the retry budget is spent
	ReasonRetryLater                    // ErrRetryLater: the server asked for a longer wait than is allowed
	ReasonBreakerOpen                   // a *circuit.OpenError: the circuit breaker refuses the call
	ReasonCancelled                     // the caller has cancelled the operation
	ReasonNested                        // ErrPermanent: an inner retry has given up
	ReasonLimit                         // a *circuit.LimitError: the caller cannot wait as long as a limit requires
)

// String returns exhausted, permanent, deadline, budget, retry_later,
// breaker_open, cancelled, nested or limit, and "" for the zero Reason.
func (r Reason) String() string {
	return nameOf("Reason", r, "", "exhausted", "permanent", "deadline", "budget", "retry_later", "breaker_open",
		"cancelled", "nested", "limit")
}

// reasonEnded returns the reason of an operation whose context has ended with err.
func reasonEnded(err error) Reason {
	if class.IsLate(err) {
		return ReasonDeadline
	}
	return ReasonCancelled
}

// reasonRefused returns the reason of an operation whose breaker refuses an attempt
// with err.
func reasonRefused(err error) Reason {
	if _, ok := errors.AsType[*circuit.LimitError](err); ok {
		return ReasonLimit
	}
	return ReasonBreakerOpen
}

// A ConfigError reports a value that a [Policy] must not have. It names the field, the
// value and what is allowed.
type ConfigError = perdure.ConfigError

// An Error reports that an operation was abandoned after at least one attempt.
// [errors.Is] and [errors.As] search Stop and Last.
type Error struct {
	// Operation is the name of the Policy. If the Policy has no name, Operation is
	// "operation", or the name that a client's adapter gives the operation.
	Operation string
	// Attempts is the number of attempts, the first included.
	Attempts int
	// Elapsed is the time since the first attempt began; 0 means not known: see
	// Policy.Timed.
	Elapsed time.Duration
	// Reason is Stop as a value to switch on.
	Reason Reason
	// Stop is the reason why no attempt follows: one of the errors [ErrExhausted] to
	// [ErrRetryLater], the error of the caller's context, a [*circuit.OpenError], or a
	// [*circuit.LimitError]. Stop is never nil.
	Stop error
	// Last is the last attempt's error, exactly as the attempt returned it.
	Last error
	// RetryAt is the earliest instant at which the operation can succeed, according to
	// the server or a breaker; zero means not known.
	RetryAt time.Time

	end // the class of Last, and the breaker that has counted it: for a retry or breaker around this one
}

type end = class.End

// endOf returns the class of an operation that ends with d and whose attempts b has
// counted. If the last step was a refusal or a wait, the class is ignored: no call was
// made.
func endOf(d Decision, b *circuit.Breaker) end {
	if d.Class == ClassUnknown && !d.isPermanent() {
		return class.EndOf(class.Ignored, b)
	}
	return class.EndOf(class.Class(d.Class), b)
}

// Error returns the operation, the reason, the number of attempts and the last error,
// without the secrets in URLs.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %v", e.Operation, e.Stop)
	if e.Attempts > 0 {
		fmt.Fprintf(&b, " after %s", count(e.Attempts, "attempt"))
	}
	if _, refused := breakers.Refusal(e.Stop); !refused && !e.RetryAt.IsZero() {
		fmt.Fprintf(&b, " (retry at %s)", e.RetryAt.Format(time.RFC3339))
	}
	if e.Last != nil {
		fmt.Fprintf(&b, ": %v", e.Last)
	}
	return redact.Line(redact.Message(b.String()))
}

// Unwrap returns Stop and Last.
func (e *Error) Unwrap() []error {
	if e.Last == nil {
		return []error{e.Stop}
	}
	return []error{e.Stop, e.Last}
}

// Timeout reports whether the last attempt timed out, like the Timeout method of a
// [net.Error].
func (e *Error) Timeout() bool {
	found := class.Look(e.Last)
	return found.IsTimeout()
}

// A deadlineError is ErrDeadline with the times of one decision.
type deadlineError struct {
	needed time.Duration // the delay and a useful attempt
	left   time.Duration
}

func (e *deadlineError) Error() string {
	return fmt.Sprintf("%v: %v needed, %v left", ErrDeadline,
		e.needed.Round(time.Millisecond), e.left.Round(time.Millisecond))
}

func (e *deadlineError) Unwrap() error { return ErrDeadline }

// count returns "1 call" or "2 calls".
func count[N int | uint64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
