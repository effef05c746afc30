package retry

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/meter"
	"github.com/seed-0f2c7998/perdure/internal/seam"
)

// A call is the state of one operation in the loop. It implements [seam.Call], which
// documents its exported methods. The zero Time means not known.
type call struct {
	policy   *Policy
	adapted  bool            // another client owns the loop
	attempt  int             // number of attempts admitted so far
	start    time.Time       // when the operation began; zero if the policy needs no clock
	first    time.Time       // when the first attempt began
	began    time.Time       // when the last attempt began
	permit   circuit.Permit  // of the attempt that is under way
	inner    context.Context //nolint:containedctx // of the last attempt, if it is not the operation's own
	timedOut bool            // AttemptTimeout ended the last attempt
	took     time.Duration   // by the last attempt; 0 means not known
	last     error           // of the last attempt
	cost     circuit.Tokens  // of the last retry
	spent    circuit.Tokens  // on all retries
	timer    *time.Timer     // made by the first wait
	series   *meter.Series   // counts the operation; nil without Policy.Metrics
	failed   time.Time       // when the last attempt failed; set if series is not nil
}

// begin starts a call for another client's loop.
func begin(ctx context.Context, p *Policy) (seam.Call, error) {
	c := &call{policy: p, adapted: true}
	return c, c.begin(ctx)
}

// begin checks ctx and the policy. It reads the clock only if the policy needs the
// time, so that a call that succeeds at once does not pay for it.
func (c *call) begin(ctx context.Context) error {
	if c.policy == nil {
		c.policy = new(Policy)
	}
	c.series = c.policy.series()
	if ctx.Err() != nil {
		err := class.Ended(ctx)
		c.countEnd(reasonEnded(err))
		return err
	}
	if err := c.policy.check(); err != nil {
		return err
	}
	if c.adapted || c.policy.timed() {
		c.start = time.Now()
		c.began = c.start
	}
	return nil
}

// resume starts a call after the first attempt, which permit admitted and which began at
// start.
func (c *call) resume(permit circuit.Permit, start time.Time) {
	c.permit, c.series = permit, c.policy.series()
	c.attempt, c.start, c.first, c.began = 1, start, start, start
	if c.policy.MaxElapsed > 0 && start.IsZero() {
		c.start = time.Now()
	}
}

func (c *call) BeganAt(start time.Time) { c.start, c.began = start, start }

func (c *call) Attempt() int { return c.attempt }

func (c *call) Context(ctx context.Context) context.Context {
	if c.inner != nil {
		return c.inner
	}
	return ctx
}

func (c *call) Admit(ctx context.Context) error {
	if c.attempt > 0 {
		c.countBackoff()
		if ctx.Err() != nil {
			return c.abandon(ctx)
		}
	}
	if b := c.policy.Breaker; b != nil {
		if err := c.acquire(ctx, b); err != nil {
			return err
		}
	}
	if c.adapted && c.attempt > 0 {
		c.began = time.Now() // the adapter has waited
	}
	if c.attempt++; c.attempt == 1 {
		c.first = c.began
	}
	return nil
}

// acquire asks the breaker for the next attempt. The attempt begins after the wait at
// a gate or for a rate, and a retry that is a gate's probe costs no token.
func (c *call) acquire(ctx context.Context, b *circuit.Breaker) error {
	var until time.Time
	if c.policy.MaxElapsed > 0 && !c.start.IsZero() {
		until = c.start.Add(c.policy.MaxElapsed)
	}
	a := seam.Attempt{
		Retries: c.attempt > 0, Timeout: c.policy.AttemptTimeout, Until: until, Made: c.attempt, Queued: (*queueing)(c.policy),
	}
	if c.series != nil {
		a.Waited = c.series
	}
	inner, permit, err := breakers.BeginAttempt(ctx, b, a)
	switch {
	case err == nil:
	case ctx.Err() == nil:
		return c.refused(ctx, err)
	case c.attempt == 0:
		c.countEnd(reasonEnded(err))
		return err
	default:
		return c.abandon(ctx)
	}
	c.permit, c.inner = permit, inner
	waited, asProbe := breakers.AtGate(permit)
	if waited && !c.began.IsZero() {
		c.began = time.Now()
	}
	if asProbe {
		c.giveBack()
	}
	return nil
}

func (c *call) Succeeded(ctx context.Context) {
	breakers.Succeed(ctx, c.permit)
	c.permit = circuit.Permit{}
	c.countSuccess()
	if c.attempt > 1 {
		breakers.Refund(c.policy.Breaker, c.cost)
	}
	if c.attempt > 1 || c.policy.ObserveAll {
		now := time.Now()
		c.policy.report(ctx, &Event{Kind: Succeeded, Attempt: c.attempt, Duration: between(c.began, now), Elapsed: between(c.first, now)})
	}
}

func (c *call) Cancel() {
	c.permit.Cancel()
	c.permit = circuit.Permit{}
}

func (c *call) Failed(ctx context.Context, err error) (time.Duration, error) {
	defer c.Cancel() // Classify and the methods of err may panic
	now := time.Now()
	c.last, c.took = err, between(c.began, now)
	b := c.policy.Breaker
	deadline, _ := ctx.Deadline()
	o := Outcome{
		Attempt: c.attempt, Err: err, TimedOut: c.timedOut, Ended: class.Ended(ctx),
		Now: now, Elapsed: between(c.start, now), Deadline: deadline, Spent: c.spent,
	}
	m := class.ReadMarks(err)
	o.Class, o.Hint = c.policy.classify(&o, m)
	if o.Ended != nil && errors.Is(ctx.Err(), context.Canceled) {
		o.Class = ClassIgnored // whatever the cause is
	}
	c.record(ctx, &o)
	o.Open = breakers.Peek(b)
	o.Balance, o.Budgeted = breakers.Balance(b)
	d := c.policy.decide(&o, m, rand.Float64())
	if d.Stop == nil && !breakers.Withdraw(b, d.Cost) {
		d.stop(ReasonBudget, ErrBudget)
	}
	if d.Reason == ReasonBudget {
		seam.Of(b).DenyRetry()
	}
	c.countFailure(&o, &d)
	if d.Stop != nil {
		return 0, c.stop(ctx, d, err)
	}
	c.cost, c.spent = d.Cost, c.spent+d.Cost
	c.policy.report(ctx, &Event{
		Kind: Retrying, Attempt: c.attempt, Class: d.Class, Delay: d.Delay, Hint: d.Hint,
		Duration: c.took, Elapsed: between(c.first, now), Err: err, RetryAt: now.Add(d.Delay),
	})
	c.began = now // until wait sets it
	return d.Delay, nil
}

// record gives the breaker the result of the attempt.
func (c *call) record(ctx context.Context, o *Outcome) {
	permit := c.permit
	c.permit = circuit.Permit{}
	hint := o.Hint
	if c.policy.IgnoreRetryAfter {
		hint = 0
	}
	breakers.Record(ctx, permit, seam.Result{
		Err: o.Err, Class: uint8(o.Class), Hint: hint, Limit: c.policy.maxRetryAfter(), Late: o.Ended != nil,
		Took: c.took, TimedOut: o.TimedOut,
	})
}

// shortest is the shortest delay that wait waits for: to set a timer takes as long.
const shortest = time.Microsecond

// wait blocks for d, or until ctx ends. The next attempt begins when the timer
// fires, so that wait need not read the clock.
func (c *call) wait(ctx context.Context, d time.Duration) {
	if pass := seam.Waits(ctx); pass != nil {
		pass(d)
		return
	}
	if d < shortest {
		return
	}
	if c.timer == nil {
		c.timer = time.NewTimer(d)
	} else {
		c.timer.Reset(d)
	}
	select {
	case c.began = <-c.timer.C:
	case <-ctx.Done():
		c.timer.Stop()
	}
}

// refused ends the call because the breaker refuses the next attempt.
func (c *call) refused(ctx context.Context, err error) error {
	c.giveBack()
	d := Decision{Reason: reasonRefused(err), Stop: err}
	d.RetryAt, _ = breakers.Refusal(err)
	return c.stop(ctx, d, c.last)
}

// abandon ends the call because ctx has ended during a wait.
func (c *call) abandon(ctx context.Context) error {
	c.giveBack()
	ended := class.Ended(ctx)
	return c.stop(ctx, Decision{Class: ClassIgnored, Reason: reasonEnded(ended), Stop: ended}, c.last)
}

// giveBack refunds the cost of a retry that is not made, or is free.
func (c *call) giveBack() {
	breakers.Refund(c.policy.Breaker, c.cost)
	c.spent -= c.cost
	c.cost = 0
}

// stop reports that no attempt follows, and returns the error of the operation.
func (c *call) stop(ctx context.Context, d Decision, last error) error {
	e := Event{
		Kind: Stopped, Attempt: c.attempt, Class: d.Class, Reason: d.Reason, Hint: d.Hint,
		Duration: c.took, Err: last, Stop: d.Stop, RetryAt: d.RetryAt,
	}
	switch {
	case d.Reason == ReasonNested:
		e.Kind = Nested
	case e.isRefusal():
		e.Refused = breakers.RefusedDue(c.policy.Breaker)
	}
	c.countEnd(d.Reason)
	if !c.first.IsZero() {
		e.Elapsed = time.Since(c.first)
	}
	c.policy.report(ctx, &e)
	switch {
	case c.attempt == 1 && d.isPermanent():
		return last
	case c.attempt == 0:
		return d.Stop
	}
	return &Error{
		Operation: c.policy.name(), Attempts: c.attempt, Elapsed: e.Elapsed,
		Reason: d.Reason, Stop: d.Stop, Last: last, RetryAt: d.RetryAt, end: endOf(d, c.policy.Breaker),
	}
}

// between returns the time from start to now, or 0 if start is zero.
func between(start, now time.Time) time.Duration {
	if start.IsZero() {
		return 0
	}
	return now.Sub(start)
}

// Package calls offers these to the clients' adapters.
func init() { //nolint:gochecknoinits // see package seam
	seam.OfferRetry(seam.Retry[*Policy, circuit.Permit]{Begin: begin, Continue: continueAfterFirst, Number: attemptUntilEnd})
}
