package circuit

import (
	"context"
	"errors"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/seam"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
)

// Do makes one call of f if b admits it, and returns its value. What f's error
// means for b is what it means in package retry with the zero Policy: a
// transient or unknown one is a failure, a permanent one is not, and one that
// says that no call was made counts for nothing. So does one that the deadline of
// ctx has cut short; but the breaker measures its next calls, and one that is cut
// short after a second or more is a failure. See [Permit.Throttled] for the others.
//
// f may come by b again, by the context that it is given: layers that share a
// breaker are admitted once, and count once.
//
// The error is f's own, an [*OpenError] if b did not admit the call, or the
// end of ctx, which is its cause and its Err, if that was done before. f is called on the caller's goroutine
// with ctx or a child of it. If it panics, that passes through and counts for
// nothing.
func Do[T any](ctx context.Context, b *Breaker, f func(context.Context) (T, error)) (v T, err error) {
	if ctx.Err() != nil {
		return v, class.Ended(ctx)
	}
	inner, permit, err := b.begin(ctx)
	if err != nil {
		b.reportRefusals(ctx)
		return v, err
	}
	ended := false
	defer func() {
		if !ended {
			permit.Cancel()
		}
	}()
	v, err = f(inner)
	permit.end(ctx, err) // which asks err, and may panic
	ended = true
	return v, err
}

// Do is the function [Do] for a call that has no value.
func (b *Breaker) Do(ctx context.Context, f func(context.Context) error) error {
	_, err := Do(ctx, b, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}

// maxWait is the longest wait that a server may ask the calls of Do for: that of
// a zero retry.Policy.
const maxWait = time.Minute

// end records the end of a call of Do.
func (p Permit) end(ctx context.Context, err error) {
	switch {
	case err == nil:
		p.successOf(ctx)
	case errors.Is(ctx.Err(), context.Canceled):
		p.Cancel()
	case p.breaker != nil:
		p.recordEnd(ctx, seam.Result{
			Err: err, Class: uint8(class.Of(err, false)), Hint: class.Hint(err), Limit: maxWait, Late: ctx.Err() != nil,
		})
	}
}

// recordEnd records that the call, whose context is ctx, ended as r says. If it is
// late, the class of an error that is no response of the service is not looked at.
func (p Permit) recordEnd(ctx context.Context, r seam.Result) {
	if p.breaker != nil {
		if p.breaker.gate != nil {
			p = p.withTiming(r.Took, r.TimedOut)
		}
		result := p.resultOf(r.Err, class.Class(r.Class), r.Hint, r.Limit, r.Late)
		result.class = class.Class(r.Class)
		p.done(ctx, result)
	}
}

// resultOf returns what recordEnd records.
func (p Permit) resultOf(err error, c class.Class, hint, limit time.Duration, late bool) result {
	switch {
	case p.early() && p.frame == nil && p.breaker.recorded(err):
		return result{signal: cancel} // the layers further in could not find this one
	case c == class.Permanent:
		return result{signal: success}
	case c == class.Conflict:
		return result{signal: success, free: true}
	case c == class.Throttled && hint <= limit:
		return result{signal: throttled, hint: hint}
	case c == class.Throttled, c == class.Ignored: // who is told to come back so late holds nobody else
		return result{signal: cancel}
	case late:
		return result{signal: cut}
	case hint > limit:
		hint = 0
	}
	return result{signal: failure, hint: hint, timedOut: p.kind&outOfTime != 0 || p.breaker.gate != nil && timedOut(err)}
}

// timedOut reports whether an attempt ended because it took too long.
func timedOut(err error) bool {
	return unwrap.Any(err, func(err error) bool {
		t, ok := err.(interface{ Timeout() bool })
		return ok && t.Timeout()
	})
}

// recorded reports whether err is the end of a retry whose attempts this breaker,
// or one that shares its state, has counted.
func (b *Breaker) recorded(err error) bool {
	if b == nil {
		return false
	}
	c := b.cell.Load()
	return unwrap.Any(err, func(err error) bool {
		by, _ := class.CountedBy(err).(*Breaker)
		return by != nil && (by.cell.Load() == c || by.cell.Load().ID() == c.ID())
	})
}
