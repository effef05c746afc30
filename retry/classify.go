package retry

import (
	"context"
	"errors"
	"slices"
	"strconv"
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
// 0. The first of these rules that knows decides: a mark on the error; a
// [*circuit.OpenError] is ignored; IgnoreOn, RetryOn, Classify; and what is known
// of errors in general: timeouts, refused and reset connections, unexpected
// ends, temporary DNS failures, the usual HTTP statuses and S3 codes are
// transient or throttled, all else is permanent.
// Wrapped and joined errors are seen through; no rule looks at an error's text.
func (p *Policy) ClassOf(err error) (Class, time.Duration) {
	return p.classify(Outcome{Err: err})
}

// classify is ClassOf for an attempt.
func (p *Policy) classify(o Outcome) (Class, time.Duration) {
	return p.class(o), class.Hint(o.Err)
}

func (p *Policy) class(o Outcome) Class {
	if errors.Is(o.Ended, context.Canceled) {
		return ClassIgnored
	}
	found := class.Look(o.Err)
	if c := found.Explicit(); c != class.Unknown {
		return Class(c) // no policy makes a call that was not made worth a wait
	}
	general := Class(found.General(o.TimedOut || o.Ended != nil)) // the caller's deadline is a timeout like any other
	if len(p.IgnoreOn)+len(p.RetryOn) > 0 {
		if c := p.listedClass(o, &found, general); c != ClassUnknown {
			return c
		}
	}
	if p.Classify != nil {
		if c := p.Classify(o.Err); c != ClassUnknown {
			return c
		}
	}
	return general
}

// listedClass returns the class that the policy's lists give an error.
func (p *Policy) listedClass(o Outcome, found *class.Findings, general Class) Class {
	switch {
	case listed(p.IgnoreOn, o, found, general):
		return ClassPermanent
	case !listed(p.RetryOn, o, found, general):
		return ClassUnknown
	case general == ClassThrottled:
		return ClassThrottled
	default:
		return ClassTransient
	}
}

// listed reports whether one of list names the error: by its code, its HTTP
// status, or one of the words timeout, connection and throttled.
func listed(list []string, o Outcome, found *class.Findings, general Class) bool {
	err := o.Err
	for _, name := range list {
		switch name {
		case "timeout":
			if (o.TimedOut || o.Ended != nil) && general == ClassTransient || found.IsTimeout() {
				return true
			}
		case "connection":
			if found.IsConnection() {
				return true
			}
		case "throttled":
			if general == ClassThrottled {
				return true
			}
		}
	}
	return unwrap.Any(err, func(err error) bool {
		if c, ok := err.(interface{ ErrorCode() string }); ok && slices.Contains(list, c.ErrorCode()) {
			return true
		}
		s, ok := err.(interface{ HTTPStatusCode() int })
		return ok && slices.Contains(list, strconv.Itoa(s.HTTPStatusCode()))
	})
}

// StatusClass returns the class of an HTTP status: 429 is throttled; 408, 425
// and every 5xx are transient, but for 501, 505, 506, 510 and 511, which will be
// the same next time; every other one from 300 is permanent; below that it is
// unknown.
func StatusClass(status int) Class { return Class(class.OfStatus(status)) }
