package retry

import (
	"context"
	"slices"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
)

// A Class says what an error means: whether the call is worth a retry, and whether the
// service is healthy.
type Class uint8

// The classes.
const (
	ClassUnknown   Class = iota // no rule knows the error: not retried; a failure for the breaker. If Classify returns it, the next rule decides
	ClassTransient              // the next attempt may succeed: retried; a failure for the breaker
	ClassThrottled              // the server limits its callers: retried, after its Retry-After; an overload for the breaker
	ClassConflict               // a collision with another caller: retried at no cost to the budget; a success for the breaker
	ClassPermanent              // the next attempt would fail the same way: not retried; a success for the breaker, as the service responded
	ClassIgnored                // unrelated to the service: not retried; the breaker does not count it
)

// String returns unknown, transient, throttled, conflict, permanent or ignored.
func (c Class) String() string { return class.Class(c).String() }

// Always is a Policy.Classify that returns [ClassTransient] for every error: for
// operations such as a user-supplied script.
func Always(error) Class { return ClassTransient }

// Transient marks err as [ClassTransient], whatever the policy's rules say.
// Transient(nil) is nil.
func Transient(err error) error { return marked(err, class.Mark{Class: class.Transient}) }

// Permanent marks err as [ClassPermanent], whatever the policy's rules say.
// Permanent(nil) is nil.
func Permanent(err error) error { return marked(err, class.Mark{Class: class.Permanent}) }

// Conflict marks err as [ClassConflict]: a collision with another caller, such as a
// lost optimistic lock. Conflict(nil) is nil.
func Conflict(err error) error { return marked(err, class.Mark{Class: class.Conflict}) }

// Ignored marks err as [ClassIgnored]: the operation is not retried, and a breaker
// counts neither a failure nor a success. Ignored(nil) is nil.
func Ignored(err error) error { return marked(err, class.Mark{Class: class.Ignored}) }

// After marks err as [ClassThrottled], to be retried no earlier than d after the end of
// the attempt that returns it, like a response with a Retry-After header. A d of 0 or
// less asks for no wait. After(nil, d) is nil.
func After(err error, d time.Duration) error {
	return marked(err, class.Mark{Class: class.Throttled, Wait: max(d, 0)})
}

// Final marks err as the end of the operation, and leaves its class unchanged: use it
// when the operation must not be repeated but its failure must still count for the
// breaker. Final(nil) is nil.
func Final(err error) error { return marked(err, class.Mark{Final: true}) }

func marked(err error, m class.Mark) error {
	if err == nil {
		return nil
	}
	m.Err = err
	return &m
}

// ClassOf returns the class of err under p, and the wait that err asks for by a
// RetryAfter method; 0 means no wait. The first of these rules that knows the error
// decides:
//
//  1. A mark on err; of several marks, the outermost. Without a mark, a
//     [*circuit.OpenError] or [*circuit.LimitError] in err means [ClassIgnored]: no call
//     was made.
//  2. RetryOn: an error that RetryOn names, and IgnoreOn does not, is transient, unless
//     a later rule makes it throttled or a conflict.
//  3. Classify.
//  4. An [*Error] in err has the class of its last attempt's error, or [ClassIgnored] if a
//     refusal of the breaker or the end of the caller's context ended that operation.
//  5. The error's own methods: ErrorCode, SQLState, RetryableError, HTTPStatusCode and
//     Timeout, in this order.
//  6. General rules: connections that were refused, reset or cut, unreachable networks
//     and hosts, and temporary DNS failures are transient; host names that do not exist
//     and failed TLS verifications are permanent; [context.Canceled] is ignored.
//
// An error that no rule knows is unknown. RetryOn and IgnoreOn also decide whether an
// error is retried, see [Policy.Decide]. ClassOf unwraps wrapped and joined errors, up
// to 100 levels deep, and never reads the text of an error. The page docs/errors.md
// has the tables.
func (p *Policy) ClassOf(err error) (Class, time.Duration) {
	return p.classify(&Outcome{Err: err}, class.ReadMarks(err))
}

// classify is ClassOf for an outcome whose error has the marks m.
func (p *Policy) classify(o *Outcome, m class.Marks) (Class, time.Duration) {
	return p.class(o, m), class.Hint(o.Err)
}

func (p *Policy) class(o *Outcome, m class.Marks) Class {
	if unwrap.Is(o.Ended, context.Canceled) {
		return ClassIgnored
	}
	if m.Class != class.Unknown {
		return Class(m.Class) // a call that was not made is ignored under every policy
	}
	c := class.Class(p.ownClass(o.Err))
	if c != class.Unknown && len(p.RetryOn) == 0 {
		return Class(c)
	}
	found := class.Look(o.Err)
	if c == class.Unknown {
		c = found.General(o.timedOut())
	}
	if len(p.RetryOn) > 0 && !c.Retried() && found.Listed(p.RetryOn, o.Err, c, o.timedOut()) &&
		!found.Listed(p.IgnoreOn, o.Err, c, o.timedOut()) {
		c = class.Transient
	}
	return Class(c)
}

func (p *Policy) ownClass(err error) Class {
	if p.Classify == nil {
		return ClassUnknown
	}
	return p.Classify(err)
}

// excludes reports whether RetryOn or IgnoreOn forbids a retry, whatever the class is.
func (p *Policy) excludes(o *Outcome, m class.Marks) bool {
	if len(p.RetryOn)+len(p.IgnoreOn) == 0 || m.Class != class.Unknown {
		return false
	}
	found, c := class.Look(o.Err), class.Class(o.Class)
	if found.Listed(p.IgnoreOn, o.Err, c, o.timedOut()) {
		return true
	}
	return len(p.RetryOn) > 0 && !slices.Contains(p.RetryOn, class.Default) &&
		!found.Listed(p.RetryOn, o.Err, c, o.timedOut())
}

// timedOut reports whether the attempt reached its own timeout or the caller's deadline.
func (o *Outcome) timedOut() bool { return o.TimedOut || o.Ended != nil }

// StatusClass returns the class of an HTTP status: 429 is throttled; 408, 425 and 5xx
// are transient, except 501, 505, 506, 510 and 511, to which the next response is the
// same; every other status from 300 on is permanent, and one below 300 is unknown.
func StatusClass(status int) Class { return Class(class.OfStatus(status)) }
