package retry

import (
	"context"
	"slices"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
)

// A Class is what an error means: whether another attempt is worth it, and whether the service is well.
type Class uint8

// The classes.
const (
	ClassUnknown   Class = iota // no rule knows the error: no retry; a failure for the breaker. From Classify: ask the next rule
	ClassTransient              // may pass: retried; a failure for the breaker
	ClassThrottled              // the server asks for less: retried, more slowly, for less of the budget
	ClassConflict               // collided with another caller: retried; a success for the breaker, and free for the budget
	ClassPermanent              // the same next time: not retried; a success for the breaker, for the service has answered
	ClassIgnored                // says nothing of the service: not retried; nothing for the breaker
)

// String returns unknown, transient, throttled, conflict, permanent or ignored.
func (c Class) String() string { return class.Class(c).String() }

// Always is a Policy.Classify for operations whose every error is worth a
// retry, such as a user-supplied script.
func Always(error) Class { return ClassTransient }

// Transient marks err as worth a retry, whatever the policy would say of it.
// Transient(nil) is nil.
func Transient(err error) error { return marked(err, class.Mark{Class: class.Transient}) }

// Permanent marks err as not worth a retry, whatever the policy would say of
// it. For a breaker the service has answered. Permanent(nil) is nil.
func Permanent(err error) error { return marked(err, class.Mark{Class: class.Permanent}) }

// Conflict marks err as a collision with another caller, such as a lost
// optimistic lock: it is retried, but for a breaker the service has answered
// well, and the budget pays nothing. Conflict(nil) is nil.
func Conflict(err error) error { return marked(err, class.Mark{Class: class.Conflict}) }

// Ignored marks err as one that says nothing of the service: it is not retried,
// and a breaker counts it neither as failure nor as success. Ignored(nil) is nil.
func Ignored(err error) error { return marked(err, class.Mark{Class: class.Ignored}) }

// After marks err as throttled, and not to be retried before d has passed, as a
// Retry-After header asks. After(nil, d) is nil; a d that is not positive asks
// for no wait.
func After(err error, d time.Duration) error {
	return marked(err, class.Mark{Class: class.Throttled, Wait: max(d, 0)})
}

// Final marks err as not to be followed by another attempt, although its class
// stays what it is: use it when the operation must not be repeated but its
// failure should still count for the breaker. Final(nil) is nil.
func Final(err error) error { return marked(err, class.Mark{Final: true}) }

func marked(err error, m class.Mark) error {
	if err == nil {
		return nil
	}
	m.Err = err
	return &m
}

// ClassOf returns the class of err under p, and the wait that err asks for, or
// 0. The first of these rules that knows the error decides:
//
//  1. a mark on it; a [*circuit.OpenError] or [*circuit.LimitError] in it, which is ignored;
//  2. RetryOn: what it names, and IgnoreOn does not, is transient, or throttled
//     or a conflict if it is that;
//  3. Classify;
//  4. what the error says of itself: ErrorCode, SQLState, HTTPStatusCode,
//     RetryableError and Timeout methods;
//  5. what is known of errors in general: connections that were refused, reset or
//     cut, networks and hosts that cannot be reached and temporary DNS failures
//     are transient; names that do not exist and TLS verdicts are permanent.
//
// An error that none of them knows is unknown. Whether an error of a class that
// is retried is retried is also up to the lists, see [Policy.Decide]. Wrapped and
// joined errors are seen through, 100 deep; no rule looks at an error's text.
// The page docs/errors.md has the tables.
func (p *Policy) ClassOf(err error) (Class, time.Duration) {
	return p.classify(&Outcome{Err: err}, class.ReadMarks(err))
}

// classify is ClassOf for an attempt whose error has those marks.
func (p *Policy) classify(o *Outcome, m class.Marks) (Class, time.Duration) {
	return p.class(o, m), class.Hint(o.Err)
}

func (p *Policy) class(o *Outcome, m class.Marks) Class {
	if unwrap.Is(o.Ended, context.Canceled) {
		return ClassIgnored
	}
	if m.Class != class.Unknown {
		return Class(m.Class) // no policy makes a call that was not made worth a wait
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

// excludes reports whether the lists forbid to retry o, whatever its class is.
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

// timedOut reports whether the attempt's time was up: its own, or the caller's.
func (o *Outcome) timedOut() bool { return o.TimedOut || o.Ended != nil }

// StatusClass returns the class of an HTTP status: 429 is throttled; 408, 425
// and every 5xx are transient, but for 501, 505, 506, 510 and 511, which will be
// the same next time; every other one from 300 is permanent; below that it is
// unknown.
func StatusClass(status int) Class { return Class(class.OfStatus(status)) }
