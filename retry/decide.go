package retry

import (
	"math"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
)

// An Outcome is a failed attempt, as the decide step sees it.
type Outcome struct {
	Attempt  int           // 1 for the first
	Err      error         // of the attempt
	Class    Class         // of Err; ClassUnknown: Decide finds it out
	Hint     time.Duration // the wait that the server asked for; with Class
	TimedOut bool          // the attempt ended with its AttemptTimeout
	Ended    error         // the cause of the caller's context, if that has ended

	Now      time.Time
	Elapsed  time.Duration // since the operation began; 0 will do without a MaxElapsed
	Deadline time.Time     // of the caller's context; zero: none

	Open     *circuit.OpenError // the breaker's refusal at Now; nil if it has none
	Budgeted bool               // there is a retry budget
	Balance  circuit.Tokens     // in it
	Spent    circuit.Tokens     // by this operation's earlier retries
}

// A Decision is what to do after an Outcome: wait for Delay, or stop.
type Decision struct {
	Class   Class
	Hint    time.Duration  // the wait that the server asked for; 0: none, or not respected
	Delay   time.Duration  // to wait before the next attempt
	Cost    circuit.Tokens // of that attempt, from the budget
	Stop    error          // why no attempt follows; nil if one does
	RetryAt time.Time      // when it makes sense to come back; zero: not known
	Nested  bool           // another retry has already given up on this error
}

// useful is the least time that an attempt needs to be worth a wait.
const useful = 10 * time.Millisecond

// Decide is the whole policy, as a pure function: u, in [0, 1), is the only
// chance in it. [Value] calls it after each failed attempt, and so do the
// clients' adapters, simulations and plans.
//
// A reason to stop is looked for in this order, so that the first is the one
// that the caller can do least about, and the budget is asked last: the caller
// has ended the call; the error is permanent; attempts are used up; the server
// says later than the policy or the deadline allows; the deadline; the breaker;
// the budget.
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
		d.Stop = o.Ended
	case m.Retry && p.nested(o.Err):
		d.Stop, d.Nested = ErrPermanent, true
		d.RetryAt = comeBack(o.Err, d.RetryAt)
	case !class.Class(o.Class).Retried():
		d.Stop = ErrPermanent
		d.RetryAt = comeBack(o.Err, d.RetryAt)
	case m.Final, p.excludes(o, m):
		d.Stop = ErrPermanent
	case attempts > 0 && o.Attempt >= attempts:
		d.Stop = ErrExhausted
	default:
		p.schedule(&d, o, u)
	}
	return d
}

// schedule finds the delay of an attempt that may follow, or what forbids it.
func (p *Policy) schedule(d *Decision, o *Outcome, u float64) {
	left := p.left(o)
	if d.Hint > 0 && (d.Hint > p.maxRetryAfter() || d.Hint > left) {
		d.Stop = ErrRetryLater
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
		d.Stop = &DeadlineError{Needed: min(d.Delay, forever-useful) + useful, Left: max(left+useful, 0)}
	case o.Open != nil && (o.Open.RetryAt.IsZero() || o.Open.RetryAt.After(o.Now.Add(d.Delay))):
		d.Stop, d.RetryAt = o.Open, o.Open.RetryAt
	case o.Budgeted && !affordable(d.Cost, o):
		d.Stop = ErrBudget
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
	switch c {
	case ClassThrottled:
		return 7 * circuit.Token / 20 // as the AWS SDKs: the server has asked for it
	case ClassConflict:
		return 0
	default:
		return circuit.Token
	}
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
	at := time.Time{}
	if e, ok := unwrap.As[*Error](err); ok {
		at = e.RetryAt
	} else if open, ok := unwrap.As[*circuit.OpenError](err); ok {
		at = open.RetryAt
	}
	if at.Before(hint) {
		return hint
	}
	return at
}
