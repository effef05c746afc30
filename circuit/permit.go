package circuit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/class"
)

// Acquire asks to make one call. If it may be made, the caller must make it
// and then call one method of the Permit, once; otherwise the error is an
// [*OpenError]. A permit for a probe that is never used ends with its lease.
func (b *Breaker) Acquire() (Permit, error) { return b.AcquireContext(noCaller()) }

// AcquireContext is Acquire with the context of the call, which Config.Observe
// is given. It does not wait, so it does not matter whether ctx has ended.
func (b *Breaker) AcquireContext(ctx context.Context) (Permit, error) {
	if b == nil {
		return Permit{}, nil
	}
	w := word(b.cell.Load().Breaker.Load())
	if !w.healthy() {
		return b.acquire(ctx, w)
	}
	p := Permit{breaker: b, generation: w.generation()}
	if b.window.slow > 0 {
		p.start = tick()
	}
	return p, nil
}

// Quick is Acquire for the case in which there is nothing to decide: the
// breaker is healthy, does not measure its calls, and no server has asked to
// wait. It reports false, and has done nothing, when there is more to it.
func (b *Breaker) Quick() (Permit, bool) {
	if b == nil {
		return Permit{}, true
	}
	c := b.cell.Load()
	w := word(c.Breaker.Load())
	return Permit{breaker: b, generation: w.generation()},
		w.healthy() && b.window.slow == 0 && !c.Holding()
}

// acquire is Acquire for a breaker whose word was w, which is not healthy.
func (b *Breaker) acquire(ctx context.Context, w word) (Permit, error) {
	if b.err != nil {
		return Permit{}, b.err
	}
	now := floor(time.Now())
	if w.state() == Open && w.ahead(now, b.rules.openLimit) > 0 && !b.config.ObserveOnly {
		b.rejected(w, now) // as the step would say; an outage should cost little
		return Permit{}, b.refusal(w, now)
	}
	w, admitted := b.apply(ctx, event{signal: acquire})
	p := Permit{breaker: b, generation: w.generation(), probe: w.state() == HalfOpen}
	if b.window.slow > 0 {
		p.start = tick()
	}
	switch {
	case admitted:
		return p, nil
	case b.config.ObserveOnly && w.state() != Isolated:
		b.cell.Load().Rejected.Add(1)
		return Permit{}, nil // passes unseen: in earnest it would not have been made
	}
	b.rejected(w, now)
	return Permit{}, b.refusal(w, now)
}

// end returns the time of w's instant, or now if that has passed.
func (b *Breaker) end(w word, now instant) time.Time {
	return time.UnixMilli(int64(now + max(w.ahead(now, b.rules.limit(w.state())), 0)))
}

// refusal is why w admits no call at now.
func (b *Breaker) refusal(w word, now instant) *OpenError {
	e := &OpenError{Name: b.name, State: w.state()}
	if e.State == Open || e.State == HalfOpen {
		e.RetryAt = b.end(w, now)
		if held := b.NotBefore(); held.After(e.RetryAt) {
			e.RetryAt = held
		}
	}
	return e
}

// A Permit is the leave to make one call. Exactly one of its methods must be
// called, once, when the call has ended. The zero Permit belongs to no breaker
// and its methods do nothing.
type Permit struct {
	breaker    *Breaker
	start      int64 // tick of the Acquire; only where calls are measured
	generation uint16
	probe      bool
}

// Probe reports whether the call decides if a half-open breaker closes. Who
// makes it must see to it that the permit is used even when the call panics.
func (p Permit) Probe() bool { return p.probe }

// Success records that the service answered.
func (p Permit) Success() { p.SuccessContext(noCaller()) }

// SuccessContext is Success with the context of the call, which Config.Observe
// is given.
func (p Permit) SuccessContext(ctx context.Context) {
	if p.breaker != nil {
		p.succeed(ctx)
	}
}

// unmoved reports whether a success would change nothing. It is all that the
// end of a call costs while all is well.
func (b *Breaker) unmoved() bool {
	c := b.cell.Load()
	return c.Budget.Reaches(b.full) && word(c.Breaker.Load()).healthy()
}

// succeed is Success for a permit that belongs to a breaker.
func (p Permit) succeed(ctx context.Context) {
	b := p.breaker
	if b.unmoved() {
		return
	}
	b.Refund(reward)
	w := word(b.cell.Load().Breaker.Load())
	if b.window.length > 0 {
		b.observe(ctx, p, w, false)
	}
	if !w.healthy() {
		b.apply(ctx, event{signal: success, generation: p.generation})
	}
}

// Failure records that the service failed.
func (p Permit) Failure() { p.FailureContext(noCaller()) }

// FailureContext is Failure with the context of the call, which Config.Observe
// is given.
func (p Permit) FailureContext(ctx context.Context) {
	b := p.breaker
	if b == nil {
		return
	}
	if b.window.length > 0 {
		b.observe(ctx, p, word(b.cell.Load().Breaker.Load()), true)
	}
	b.apply(ctx, event{signal: failure, generation: p.generation})
	b.short()
}

// Cancel records that the call has no result: it was not made, or its caller
// gave up. It counts for nothing.
func (p Permit) Cancel() {
	if p.breaker != nil && p.probe {
		p.breaker.apply(noCaller(), event{signal: cancel, generation: p.generation})
	}
}

// observe enters a result in the window, and trips if that fills a rule.
func (b *Breaker) observe(ctx context.Context, p Permit, w word, failed bool) {
	if p.generation != w.generation() || w.state() != Closed {
		return
	}
	if why := b.window.record(b.cell.Load(), p.start, failed); why.code != Unknown {
		b.applyFor(ctx, event{signal: verdict, generation: p.generation}, why)
	}
}

// Do makes one call of f if the breaker admits it. An error of f is a failure,
// unless ctx has been cancelled; a panic of f counts for nothing.
func (b *Breaker) Do(ctx context.Context, f func(context.Context) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	permit, err := b.AcquireContext(ctx)
	if err != nil {
		return err
	}
	returned := false
	defer func() {
		if !returned {
			permit.Cancel()
		}
	}()
	err = f(ctx)
	returned = true
	switch {
	case err == nil:
		permit.SuccessContext(ctx)
	case errors.Is(ctx.Err(), context.Canceled):
		permit.Cancel()
	default:
		permit.FailureContext(ctx)
	}
	return err
}

// Allow reports whether a call may be made. With RecordSuccess and
// RecordFailure it is the weaker form of Acquire: there is no permit, so a
// result counts for the state that the breaker is in by then.
func (b *Breaker) Allow() bool { _, err := b.Acquire(); return err == nil }

// RecordSuccess records that the service answered.
func (b *Breaker) RecordSuccess() { b.current().Success() }

// RecordFailure records that the service failed.
func (b *Breaker) RecordFailure() { b.current().Failure() }

func (b *Breaker) current() Permit {
	if b == nil {
		return Permit{}
	}
	w := word(b.cell.Load().Breaker.Load())
	return Permit{breaker: b, generation: w.generation(), probe: w.state() == HalfOpen}
}

// An OpenError is a call that was not made, because a breaker was not closed.
type OpenError struct {
	Name    string    // the breaker's
	State   State     // Open, HalfOpen (its probes are out) or Isolated
	RetryAt time.Time // when a probe may be let through; zero: not by itself

	noCall //nolint:unused // says to package class that no call was made
}

type noCall = class.NoCall //nolint:unused // as above

// Error names the breaker, its state and when to come back.
func (e *OpenError) Error() string {
	text := fmt.Sprintf("circuit breaker %q is %v", e.Name, e.State)
	if e.RetryAt.IsZero() {
		return text
	}
	return text + "; next probe at " + e.RetryAt.Format(time.RFC3339)
}
