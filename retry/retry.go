// Package retry makes calls outlast failures, without making the failures worse.
//
// [Do] and [Value] run this loop until a step ends the operation:
//
//	admit → attempt → classify → decide → wait → admit …
//
// The steps classify and decide are pure functions, [Policy.ClassOf] and
// [Policy.Decide]: the time and the random number are arguments, so that a test,
// a simulation or a plan drives the code that a call runs.
//
//	upload := retry.S3Upload() // a Policy: plain data
//	upload.Name = "upload_to_s3"
//	upload.Classify = retry.Always // or your own; without one only known transient errors are retried
//	err := retry.Do(ctx, &upload, func(ctx context.Context) error { ... })
//
// What calls share (a circuit breaker and a retry budget) is in the Breaker of
// their Policy.
package retry

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/seam"
)

// Do calls f until it succeeds or p says stop. See [Value].
func Do(ctx context.Context, p *Policy, f func(context.Context) error) (err error) {
	permit := circuit.Permit{}
	if p.quick() && ctx.Err() == nil { //nolint:nestif // in one place, for its speed
		b, word, quick := p.Breaker, uint64(0), true
		if b != nil {
			word, quick = seam.Of(b).Quick()
		}
		if quick {
			if err = f(firstAttempt(ctx)); err == nil {
				if b != nil && !seam.Of(b).Unmoved() {
					breakers.Succeed(ctx, breakers.Permit(b, word))
				}
				return nil
			}
			permit = breakers.Permit(b, word)
		} else if refusal := breakers.Refuse(ctx, b); refusal != nil {
			return p.refused(ctx, refusal)
		}
	}
	_, err = loop(ctx, p, permit, time.Time{}, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, f(ctx)
	}, struct{}{}, err)
	return err
}

// Value calls f until it succeeds or p says stop, and returns the value of the
// last attempt. A nil p is the zero Policy.
//
// On failure the error is
//   - f's own, untouched, if the first attempt failed and is not to be repeated;
//   - an [*Error] if attempts were made: it holds why no other follows, and the
//     last attempt's error as f returned it;
//   - a [*circuit.OpenError], a [*circuit.LimitError], the cause of ctx, or a
//     [*ConfigError] if no attempt was made at all.
//
// f is called on the caller's goroutine, with ctx or, if p has an
// AttemptTimeout, a child of it. A panic in it passes through.
func Value[T any](ctx context.Context, p *Policy, f func(context.Context) (T, error)) (v T, err error) {
	permit := circuit.Permit{}
	if p.quick() && ctx.Err() == nil { //nolint:nestif // in one place, for its speed
		b, word, quick := p.Breaker, uint64(0), true
		if b != nil {
			word, quick = seam.Of(b).Quick()
		}
		if quick {
			if v, err = f(firstAttempt(ctx)); err == nil {
				if b != nil && !seam.Of(b).Unmoved() {
					breakers.Succeed(ctx, breakers.Permit(b, word))
				}
				return v, nil
			}
			permit = breakers.Permit(b, word)
		} else if refusal := breakers.Refuse(ctx, b); refusal != nil {
			return v, p.refused(ctx, refusal)
		}
	}
	return loop(ctx, p, permit, time.Time{}, f, v, err)
}

// resume is Do for a caller that has made the first attempt by itself; package
// calls says what its arguments mean.
func resume(ctx context.Context, p *Policy, permit circuit.Permit, start time.Time, err error,
	f func(context.Context) error,
) error {
	if p == nil {
		p = new(Policy)
	}
	if err == nil {
		breakers.Succeed(ctx, permit)
		return nil
	}
	if bad := p.check(); bad != nil {
		permit.Cancel()
		return bad
	}
	_, err = loop(ctx, p, permit, start, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, f(ctx)
	}, struct{}{}, err)
	return err
}

// quick reports whether there is nothing to the first attempt of a call but a
// healthy breaker and a caller who has not given up. Such an attempt needs no
// call, which is most of what a call that succeeds at once would pay for: Do and
// Value make it by themselves, and leave what follows a failure to the loop.
func (p *Policy) quick() bool {
	return p != nil && !p.timed() && len(p.RetryOn)+len(p.IgnoreOn) == 0 && p.plausible()
}

// loop makes attempts until a step says stop. It begins after a quick attempt
// that began at start and failed with err, or, when err is nil, before the first.
func loop[T any](ctx context.Context, p *Policy, permit circuit.Permit, start time.Time,
	f func(context.Context) (T, error), v T, err error,
) (T, error) {
	c := call{policy: p, permit: permit}
	if err != nil {
		c.attempt, c.start, c.first, c.began = 1, start, start, start
		if p.MaxElapsed > 0 && start.IsZero() {
			c.start = time.Now()
		}
	} else if err := c.begin(ctx); err != nil {
		return v, err
	}
	for {
		if err != nil {
			delay, stop := c.Failed(ctx, err)
			if stop != nil {
				return v, stop
			}
			c.wait(ctx, delay) // if ctx ends meanwhile, Admit says so
		}
		if err := c.Admit(ctx); err != nil {
			return v, err
		}
		if c.guarded() {
			v, err = guard(c.Context(ctx), &c, f)
		} else {
			v, err = f(firstAttempt(c.Context(ctx)))
		}
		if err == nil {
			c.Succeeded(ctx)
			return v, nil
		}
	}
}

// guard makes an attempt that has to be cleaned up after even if it panics: it
// has a timeout or a number of its own, or decides if a breaker closes.
func guard[T any](ctx context.Context, c *call, f func(context.Context) (T, error)) (v T, err error) {
	if t := c.policy.AttemptTimeout; t > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t)
		defer cancel()
	}
	if c.attempt > 1 {
		ctx = nextAttempt(ctx, c.attempt)
		defer numbered.Add(-1)
	} else {
		ctx = firstAttempt(ctx)
	}
	returned := false
	defer func() {
		if !returned {
			c.Cancel()
		}
	}()
	v, err = f(ctx)
	returned = true
	c.timedOut = err != nil && ctx.Err() != nil
	return v, err
}

// A call is one operation on its way through the loop: a [seam.Call].
type call struct {
	policy   *Policy
	permit   circuit.Permit
	inner    context.Context //nolint:containedctx // of the last attempt, if it is not the operation's own
	attempt  int             // attempts admitted so far
	timedOut bool            // the last one ended with its AttemptTimeout
	adapted  bool            // the loop is not Value's
	start    time.Time       // of the operation; zero: nobody needs it
	first    time.Time       // when the first attempt began; zero: not known
	began    time.Time       // when the last one did; zero: not known
	cost     circuit.Tokens  // of the last retry
	spent    circuit.Tokens  // on all of them
	last     error           // of the last attempt
	took     time.Duration   // it, if that is known
	timer    *time.Timer     // made by the first wait
}

// begin starts a call for another loop.
func begin(ctx context.Context, p *Policy) (seam.Call, error) {
	c := &call{policy: p, adapted: true}
	return c, c.begin(ctx)
}

// BeganAt records when the first attempt began, if that was before begin.
func (c *call) BeganAt(start time.Time) { c.start, c.began = start, start }

// begin checks ctx and the policy. It reads the clock only if the policy needs
// the time: a call that succeeds at once shall not pay for it.
func (c *call) begin(ctx context.Context) error {
	if ctx.Err() != nil {
		return class.Ended(ctx)
	}
	if c.policy == nil {
		c.policy = new(Policy)
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

// Attempt returns the number of the attempt that was last admitted, from 1.
func (c *call) Attempt() int { return c.attempt }

// Admit asks whether the next attempt may be made: it returns nil, or the error
// with which the operation ends. Make the attempt with [call.Context].
func (c *call) Admit(ctx context.Context) error {
	if c.attempt > 0 && ctx.Err() != nil {
		return c.abandon(ctx)
	}
	if b := c.policy.Breaker; b != nil {
		if err := c.enter(ctx, b); err != nil {
			return err
		}
	}
	if c.adapted && c.attempt > 0 {
		c.began = time.Now() // the caller has waited
	}
	if c.attempt++; c.attempt == 1 {
		c.first = c.began
	}
	return nil
}

// enter asks the breaker for the next attempt. The wait at a gate or for a rate is no
// part of it, and a retry that goes as a gate's probe costs no token.
func (c *call) enter(ctx context.Context, b *circuit.Breaker) error {
	var until time.Time
	if c.policy.MaxElapsed > 0 && !c.start.IsZero() {
		until = c.start.Add(c.policy.MaxElapsed)
	}
	inner, permit, err := breakers.BeginAttempt(ctx, b, seam.Ask{
		Retries: c.attempt > 0, Timeout: c.policy.AttemptTimeout > 0, Until: until, Made: c.attempt, Queued: (*queueing)(c.policy),
	})
	switch {
	case err == nil:
	case ctx.Err() == nil:
		return c.refused(ctx, err)
	case c.attempt == 0:
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

// Context returns the context for the attempt that was last admitted, of an
// operation whose own is ctx: by it a layer further in that has the same Breaker
// knows that it need not ask.
func (c *call) Context(ctx context.Context) context.Context {
	if c.inner != nil {
		return c.inner
	}
	return ctx
}

// guarded reports whether the attempt needs a defer.
func (c *call) guarded() bool {
	return c.attempt > 1 || breakers.Guarded(c.permit) || c.policy.AttemptTimeout > 0
}

// Succeeded records that the attempt succeeded.
func (c *call) Succeeded(ctx context.Context) {
	breakers.Succeed(ctx, c.permit)
	c.permit = circuit.Permit{}
	if c.attempt > 1 {
		breakers.Refund(c.policy.Breaker, c.cost)
	}
	if c.attempt > 1 || c.policy.ObserveAll {
		now := time.Now()
		c.policy.report(ctx, &Event{Kind: Succeeded, Attempt: c.attempt, Duration: between(c.began, now), Elapsed: between(c.first, now)})
	}
}

// Cancel records that the attempt has no result: it counts for nothing. After
// Succeeded or Failed it does nothing.
func (c *call) Cancel() {
	c.permit.Cancel()
	c.permit = circuit.Permit{}
}

// Failed records that the attempt failed with err, and decides: it returns how
// long to wait before the next, or the error with which the operation ends.
func (c *call) Failed(ctx context.Context, err error) (time.Duration, error) {
	defer c.Cancel() // what is asked what err means may panic
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
		o.Class = ClassIgnored // whatever its cause is
	}
	c.record(ctx, &o)
	o.Open = breakers.Peek(b)
	o.Balance, o.Budgeted = breakers.Balance(b)
	d := c.policy.decide(&o, m, rand.Float64())
	if d.Stop == nil && !breakers.Withdraw(b, d.Cost) {
		d.Stop = ErrBudget
	}
	if d.Stop != nil {
		return 0, c.stop(ctx, d, err)
	}
	c.cost, c.spent = d.Cost, c.spent+d.Cost
	c.policy.report(ctx, &Event{
		Kind: Retrying, Attempt: c.attempt, Class: d.Class, Delay: d.Delay, Hint: d.Hint,
		Duration: c.took, Elapsed: between(c.first, now), Err: err, RetryAt: now.Add(d.Delay),
	})
	c.began = now // or later, see wait
	return d.Delay, nil
}

// shortest is the shortest wait for which a timer is set, which takes longer.
const shortest = time.Microsecond

// record tells the breaker how the attempt went.
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

// refused ends the call because the breaker lets nothing pass.
func (c *call) refused(ctx context.Context, err error) error {
	c.giveBack()
	d := Decision{Stop: err}
	d.RetryAt, _ = breakers.Refusal(err)
	return c.stop(ctx, d, c.last)
}

// abandon ends the call because ctx has ended while it waited.
func (c *call) abandon(ctx context.Context) error {
	c.giveBack()
	return c.stop(ctx, Decision{Class: ClassIgnored, Stop: class.Ended(ctx)}, c.last)
}

// giveBack returns the cost of a retry that is not made, or costs nothing.
func (c *call) giveBack() {
	breakers.Refund(c.policy.Breaker, c.cost)
	c.spent -= c.cost
	c.cost = 0
}

// stop reports that no attempt follows, and returns the error that says so.
func (c *call) stop(ctx context.Context, d Decision, last error) error {
	e := Event{
		Kind: Stopped, Attempt: c.attempt, Class: d.Class, Reason: reason(ctx, d), Hint: d.Hint,
		Duration: c.took, Err: last, Stop: d.Stop, RetryAt: d.RetryAt,
	}
	switch {
	case d.Nested:
		e.Kind = Nested
	case e.isRefusal():
		e.Refused = breakers.Refused(c.policy.Breaker)
	}
	if !c.first.IsZero() {
		e.Elapsed = time.Since(c.first)
	}
	c.policy.report(ctx, &e)
	switch {
	case c.attempt == 1 && d.Stop == ErrPermanent: //nolint:errorlint // the decision's own
		return last
	case c.attempt == 0:
		return d.Stop
	}
	return &Error{
		Operation: c.policy.name(), Attempts: c.attempt, Elapsed: e.Elapsed,
		Stop: d.Stop, Last: last, RetryAt: d.RetryAt, end: endOf(d, c.policy.Breaker),
	}
}

// between returns the time from start to now, or 0 if start is not known.
func between(start, now time.Time) time.Duration {
	if start.IsZero() {
		return 0
	}
	return now.Sub(start)
}

// wait blocks for d, or until ctx ends. The next attempt begins when the timer
// says that it has fired, which costs no look at the clock.
func (c *call) wait(ctx context.Context, d time.Duration) {
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

// What the clients' adapters call, and users do not see.
func init() { //nolint:gochecknoinits // see package seam
	seam.OfferRetry(seam.Retry[*Policy, circuit.Permit]{Begin: begin, Continue: resume})
}
