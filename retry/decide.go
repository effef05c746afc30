package retry

import (
	"math"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
)

// An Outcome describes a failed attempt, and what [Policy.Decide] has to know besides.
type Outcome struct {
	// Attempt is the number of the attempt, from 1.
	Attempt int
	// Err is the attempt's error.
	Err error
	// Class is the class of Err. If it is ClassUnknown, Decide classifies Err, and sets
	// Hint as well.
	Class Class
	// Hint is the wait that the server asked for; 0 means none. It is ignored if Class is
	// ClassUnknown.
	Hint time.Duration
	// TimedOut reports that Policy.AttemptTimeout ended the attempt.
	TimedOut bool
	// Ended is the cause of the caller's context if that has ended, and otherwise nil.
	Ended error

	// Now is the instant of the decision.
	Now time.Time
	// Elapsed is the time since the first attempt began. It is only used if
	// Policy.MaxElapsed is set.
	Elapsed time.Duration
	// Deadline is the deadline of the caller's context; zero means none.
	Deadline time.Time

	// Open is the refusal that the breaker has for a call at Now; nil if it has none.
	Open *circuit.OpenError
	// Budgeted reports that the breaker has a retry budget. If false, retries cost
	// nothing, and Balance and Spent are ignored.
	Budgeted bool
	// Balance is what the budget holds.
	Balance circuit.Tokens
	// Spent is what earlier retries of this operation took from the budget.
	Spent circuit.Tokens
}

// A Decision says what to do after an Outcome: to wait for Delay and make another
// attempt, or, if Stop is not nil, to stop.
type Decision struct {
	// Class is the class of the attempt's error.
	Class Class
	// Hint is the wait that the server asked for; 0 means none, or that
	// Policy.IgnoreRetryAfter is set.
	Hint time.Duration
	// Delay is the wait before the next attempt. It has no meaning if Stop is not nil.
	Delay time.Duration
	// Cost is what the next attempt takes from the budget; 0 means that it is free. It has
	// no meaning if Stop is not nil.
	Cost circuit.Tokens
	// Reason is why no other attempt follows; 0 if another attempt follows.
	Reason Reason
	// Stop is Reason as an error, as in Error.Stop; nil if another attempt follows.
	Stop error
	// RetryAt is the earliest instant at which another try makes sense, as the server or
	// a breaker says; zero means not known.
	RetryAt time.Time
}

func (d *Decision) stop(r Reason, err error) { d.Reason, d.Stop = r, err }

// isPermanent reports whether Stop is ErrPermanent.
func (d *Decision) isPermanent() bool { return d.Reason == ReasonPermanent || d.Reason == ReasonNested }

// useful is the least time that an attempt needs to be worth a wait.
const useful = 10 * time.Millisecond

// Decide returns what to do after a failed attempt. It is a pure function: u, in
// [0, 1), is the random number that places the delay in its range. [Value], the
// clients' adapters, simulations and plans call Decide after each failed attempt.
//
// Decide checks the reasons to stop in this order, so that it returns the one that
// the caller can do least about: the caller's context has ended; the error is
// permanent; the attempts are exhausted; the server's hint is longer than
// MaxRetryAfter or the deadline allows; the deadline is too near; the breaker will
// be open after the delay; the budget is spent.
func (p *Policy) Decide(o Outcome, u float64) Decision {
	m := class.ReadMarks(o.Err)
	if o.Class == ClassUnknown { // or again, which changes nothing
		o.Class, o.Hint = p.classify(&o, m)
	}
	return p.decide(&o, m, u)
}

// decide is Decide for an outcome that is classified, and whose error has those
// marks.
func (p *Policy) decide(o *Outcome, m class.Marks, u float64) Decision {
	d := Decision{Class: o.Class, Hint: o.Hint}
	if p.IgnoreRetryAfter {
		d.Hint = 0
	}
	if d.Hint > 0 {
		d.RetryAt = o.Now.Add(d.Hint)
	}
	attempts := p.Attempts()
	switch {
	case o.Ended != nil:
		d.stop(reasonEnded(o.Ended), o.Ended)
	case m.Retry && p.nested(o.Err):
		d.stop(ReasonNested, ErrPermanent)
		d.RetryAt = comeBack(o.Err, d.RetryAt)
	case !class.Class(o.Class).Retried():
		d.stop(ReasonPermanent, ErrPermanent)
		d.RetryAt = comeBack(o.Err, d.RetryAt)
	case m.Final, p.excludes(o, m):
		d.stop(ReasonPermanent, ErrPermanent)
	case attempts > 0 && o.Attempt >= attempts:
		d.stop(ReasonExhausted, ErrExhausted)
	default:
		p.schedule(&d, o, u)
	}
	return d
}

// schedule finds the delay of an attempt that may follow, or what forbids it.
func (p *Policy) schedule(d *Decision, o *Outcome, u float64) {
	left := p.left(o)
	if d.Hint > 0 && (d.Hint > p.maxRetryAfter() || d.Hint > left) {
		d.stop(ReasonRetryLater, ErrRetryLater)
		return
	}
	d.Delay = max(p.Backoff(o.Attempt, d.Class, u), spread(d.Hint, p, left, u))
	if o.Open != nil { // which rounds up what the server asked for
		if shut := o.Open.RetryAt.Sub(o.Now); shut > d.Delay && shut <= d.Delay+grain {
			d.Delay = shut
		}
	}
	d.Cost = cost(d.Class)
	switch {
	case d.Delay > left:
		d.stop(ReasonDeadline, &DeadlineError{Needed: min(d.Delay, forever-useful) + useful, Left: max(left+useful, 0)})
	case o.Open != nil && (o.Open.RetryAt.IsZero() || o.Open.RetryAt.After(o.Now.Add(d.Delay))):
		d.stop(ReasonBreakerOpen, o.Open)
		d.RetryAt = o.Open.RetryAt
	case o.Budgeted && !affordable(d.Cost, o):
		d.stop(ReasonBudget, ErrBudget)
	}
}

// grain is how much longer than a server asked for a breaker may be open.
const grain = 2 * time.Millisecond

// left returns how long a wait may be, for an attempt to be useful after it.
func (p *Policy) left(o *Outcome) time.Duration {
	left := time.Duration(math.MaxInt64)
	if !o.Deadline.IsZero() {
		left = o.Deadline.Sub(o.Now) - useful
	}
	if p.MaxElapsed > 0 {
		left = min(left, p.MaxElapsed-o.Elapsed-useful)
	}
	return left
}

// cost returns what a retry takes from the budget. After a conflict it is free:
// the service is well, and the attempts and the deadline bound the retries.
func cost(c Class) circuit.Tokens {
	if c == ClassConflict {
		return 0
	}
	return circuit.Token
}

// affordable reports whether a budget pays for a retry: out of its balance, of
// which one operation has at most a half, or one token.
func affordable(cost circuit.Tokens, o *Outcome) bool {
	share := max(circuit.Token, (o.Balance+o.Spent)/2)
	return cost <= o.Balance && o.Spent+cost <= share
}

// nested reports whether another retry has already given up on err.
func (p *Policy) nested(err error) bool {
	if p.RetryNested {
		return false
	}
	_, ok := unwrap.As[*Error](err)
	return ok
}

// comeBack returns when it makes sense to come back: when another retry or
// breaker that is in err says, unless the hint is later.
func comeBack(err error, hint time.Time) time.Time {
	var at time.Time
	if e, ok := unwrap.As[*Error](err); ok {
		at = e.RetryAt
	} else {
		at, _ = breakers.Refusal(err)
	}
	if at.Before(hint) {
		return hint
	}
	return at
}
