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

// The reasons why no other attempt follows, as Error.Stop. Error.Stop may also be
// the end of the caller's context, which is both its cause and [context.Canceled]
// or [context.DeadlineExceeded], a [*circuit.OpenError], and a [*circuit.LimitError].
// Test for them with [errors.Is].
var (
	// ErrExhausted reports that Policy.MaxAttempts attempts have failed.
	ErrExhausted error = &class.Stop{Text: "attempts exhausted", Class: class.Transient}
	// ErrPermanent reports an error that the policy does not retry.
	ErrPermanent error = &class.Stop{Text: "permanent error", Class: class.Permanent}
	// ErrDeadline reports that the context's deadline or Policy.MaxElapsed leaves too
	// little time for the delay and another attempt. Error.Stop is a [*DeadlineError],
	// which wraps ErrDeadline. ErrDeadline is [context.DeadlineExceeded] as well.
	ErrDeadline error = &class.Stop{Text: "deadline too near for another attempt", Class: class.Transient, Like: context.DeadlineExceeded}
	// ErrBudget reports that the retry budget of the Breaker does not pay for another
	// attempt.
	ErrBudget error = &class.Stop{Text: "retry budget spent", Class: class.Transient}
	// ErrRetryLater reports that the server asked for a longer wait than
	// Policy.MaxRetryAfter or the deadline allows. Error.RetryAt is when to retry.
	ErrRetryLater error = &class.Stop{Text: "the server asked to come back later", Class: class.Ignored}
)

// A Reason says why no attempt follows, as a value to switch on: Stop as an error tells
// the same, with its details. The zero Reason means that the operation continues, or
// has succeeded.
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
	ReasonNested                        // ErrPermanent: another retry, further in, has given up
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

// A ConfigError is a value that a [Policy] may not have. It names the field,
// the value and what is allowed.
type ConfigError = perdure.ConfigError

// An Error reports that an operation was abandoned after at least one attempt.
// [errors.Is] and [errors.As] find what is in Stop and in Last.
type Error struct {
	// Operation is the name of the Policy; without a name, it is "operation" or what
	// the client's adapter calls the operation.
	Operation string
	// Attempts is the number of attempts that were made, the first included.
	Attempts int
	// Elapsed is the time since the first attempt began; 0 means not known: see
	// Policy.Timed.
	Elapsed time.Duration
	// Reason is Stop as a value to switch on.
	Reason Reason
	// Stop is the reason why no other attempt follows: one of the errors above, the end
	// of the caller's context, a [*circuit.OpenError], or a [*circuit.LimitError]. It is never nil.
	Stop error
	// Last is the last attempt's error, exactly as the attempt returned it.
	Last error
	// RetryAt is the earliest instant at which another try makes sense, as the server or
	// a breaker says; zero means not known.
	RetryAt time.Time

	end // the class of Last and who has counted it, for a retry or a breaker around this one
}

type end = class.End

// endOf returns the class of an operation that ends with d, whose attempts b has counted. A retry that was
// then refused or waited in vain has no class: no call was made.
func endOf(d Decision, b *circuit.Breaker) end {
	if d.Class == ClassUnknown && !d.isPermanent() {
		return class.EndOf(class.Ignored, b)
	}
	return class.EndOf(class.Class(d.Class), b)
}

// Error tells the operation, the reason, the attempts and the last error, with
// the secrets in its URLs taken out.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %v", e.Operation, e.Stop)
	if e.Attempts > 0 {
		fmt.Fprintf(&b, " after %s", count(e.Attempts, "attempt"))
	}
	if _, told := breakers.Refusal(e.Stop); !told && !e.RetryAt.IsZero() {
		fmt.Fprintf(&b, " (retry at %s)", e.RetryAt.Format(time.RFC3339))
	}
	if e.Last != nil {
		fmt.Fprintf(&b, ": %v", e.Last)
	}
	return redact.Line(redact.String(b.String()))
}

// Unwrap returns Stop and Last.
func (e *Error) Unwrap() []error {
	if e.Last == nil {
		return []error{e.Stop}
	}
	return []error{e.Stop, e.Last}
}

// Timeout reports whether the last attempt ended with a timeout, as the Timeout
// of a [net.Error] does.
func (e *Error) Timeout() bool {
	found := class.Look(e.Last)
	return found.IsTimeout()
}

// A DeadlineError is the [ErrDeadline] of one decision: the wait and a useful
// attempt after it would need more time than the caller's deadline or the
// policy's MaxElapsed leaves.
type DeadlineError struct {
	// Needed is the delay plus the least time that an attempt is worth, 10 ms.
	Needed time.Duration
	// Left is the time that is left; 0 means none.
	Left time.Duration
}

// Error tells both times.
func (e *DeadlineError) Error() string {
	return fmt.Sprintf("%v: %v needed, %v left", ErrDeadline,
		e.Needed.Round(time.Millisecond), e.Left.Round(time.Millisecond))
}

// Unwrap returns [ErrDeadline], which is [context.DeadlineExceeded] as well.
func (e *DeadlineError) Unwrap() error { return ErrDeadline }

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
