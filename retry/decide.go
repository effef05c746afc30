package retry

import (
	"math"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
)

// An Outcome describes a failed attempt and the state around it: the input of
// [Policy.Decide].
type Outcome struct {
	// Attempt is the number of the attempt, from 1.
	Attempt int
	// Err is the attempt's error.
	Err error
	// Class is the class of Err. If Class is ClassUnknown, Decide finds the class and the
	// hint of Err itself.
	Class Class
	// Hint is the wait that the server asked for; 0 means no wait. Decide ignores Hint if
	// Class is ClassUnknown.
	Hint time.Duration
	// TimedOut reports that Policy.AttemptTimeout ended the attempt.
	TimedOut bool
	// Ended is the cause of the caller's context if the context has ended; otherwise nil.
	Ended error

	// Now is the instant of the decision.
	Now time.Time
	// Elapsed is the time since the operation began, any wait for the first attempt
	// included. Decide ignores Elapsed if Policy.MaxElapsed is 0.
	Elapsed time.Duration
	// Deadline is the deadline of the caller's context; zero means no deadline.
	Deadline time.Time

	// Open is the error with which the breaker refuses a call at Now; nil if the breaker
	// admits calls.
	Open *circuit.OpenError
	// Budgeted reports that the breaker has a retry budget. If false, retries cost
	// nothing, and Balance and Spent are ignored.
	Budgeted bool
	// Balance is the number of tokens in the budget.
	Balance circuit.Tokens
	// Spent is the number of tokens that earlier retries of this operation cost.
	Spent circuit.Tokens
}

// A Decision says what follows an Outcome: another attempt after Delay or, if Stop is
// not nil, the end of the operation.
type Decision struct {
	// Class is the class of the attempt's error.
	Class Class
	// Hint is the wait that the server asked for; 0 means no wait, or that
	// Policy.IgnoreRetryAfter is set.
	Hint time.Duration
	// Delay is the wait before the next attempt. Ignore Delay if Stop is not nil.
	Delay time.Duration
	// Cost is the number of tokens that the next attempt costs. Ignore Cost if Stop is
	// not nil.
	Cost circuit.Tokens
	// Reason is why no other attempt follows; 0 if another attempt follows.
	Reason Reason
	// Stop is Reason as an error, as in Error.Stop; nil if another attempt follows.
	Stop error
	// RetryAt is the earliest instant at which the operation can succeed, according to
	// the server or a breaker; zero means not known.
	RetryAt time.Time
}

func (d *Decision) stop(r Reason, err error) { d.Reason, d.Stop = r, err }

// isPermanent reports whether Stop is ErrPermanent.
func (d *Decision) isPermanent() bool { return d.Reason == ReasonPermanent || d.Reason == ReasonNested }

// useful is the shortest time left for an attempt that is worth a wait.
const useful = 10 * time.Millisecond

// Decide returns what follows a failed attempt. Decide is a pure function: u, in
// [0, 1), is the random number that places the delay in its range. [Value], the
// clients' adapters, simulations and plans call Decide after each failed attempt.
//
// Decide checks the reasons to stop in this order: the caller's context has ended; the
// error is permanent; the attempts are exhausted; the server's hint is longer than
// MaxRetryAfter or the deadline allows; the deadline is too near; the breaker will
// be open after the delay; the budget is spent.
func (p *Policy) Decide(o Outcome, u float64) Decision {
	m := class.ReadMarks(o.Err)
	if o.Class == ClassUnknown { // if Err was classified before, the class is the same
		o.Class, o.Hint = p.classify(&o, m)
	}
	return p.decide(&o, m, u)
}

// decide is Decide for an outcome that is classified and whose error has the marks m.
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
		d.RetryAt = laterRetryAt(o.Err, d.RetryAt)
	case !class.Class(o.Class).Retried():
		d.stop(ReasonPermanent, ErrPermanent)
		d.RetryAt = laterRetryAt(o.Err, d.RetryAt)
	case m.Final, p.excludes(o, m):
		d.stop(ReasonPermanent, ErrPermanent)
	case attempts > 0 && o.Attempt >= attempts:
		d.stop(ReasonExhausted, ErrExhausted)
	default:
		p.schedule(&d, o, u)
	}
	return d
}

// schedule sets the delay and the cost of the next attempt, or the reason to stop.
func (p *Policy) schedule(d *Decision, o *Outcome, u float64) {
	left := p.left(o)
	if d.Hint > 0 && (d.Hint > p.maxRetryAfter() || d.Hint > left) {
		d.stop(ReasonRetryLater, ErrRetryLater)
		return
	}
	d.Delay = max(p.Backoff(o.Attempt, d.Class, u), spread(d.Hint, p, left, u))
	if o.Open != nil { // the breaker rounds the server's hint up
		if shut := o.Open.RetryAt.Sub(o.Now); shut > d.Delay && shut <= d.Delay+grain {
			d.Delay = shut
		}
	}
	d.Cost = cost(d.Class)
	switch {
	case d.Delay > left:
		d.stop(ReasonDeadline, &deadlineError{min(d.Delay, forever-useful) + useful, max(left+useful, 0)})
	case o.Open != nil && (o.Open.RetryAt.IsZero() || o.Open.RetryAt.After(o.Now.Add(d.Delay))):
		d.stop(ReasonBreakerOpen, o.Open)
		d.RetryAt = o.Open.RetryAt
	case o.Budgeted && !affordable(d.Cost, o):
		d.stop(ReasonBudget, ErrBudget)
	}
}

// grain is the longest time by which a breaker rounds a hint up.
const grain = 2 * time.Millisecond

// left returns the longest delay that leaves enough time for an attempt.
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

// cost returns the tokens that a retry costs. A retry after a conflict is free: the
// service is healthy, and the attempts and the deadline bound the retries.
func cost(c Class) circuit.Tokens {
	if c == ClassConflict {
		return 0
	}
	return circuit.Token
}

// affordable reports whether the budget pays for a retry. One operation may spend at
// most half of the balance, or one token.
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

// laterRetryAt returns the RetryAt of another retry or breaker whose error is in err, or
// hint if hint is later.
func laterRetryAt(err error, hint time.Time) time.Time {
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
