// Package retry repeats calls that fail, without making the failures worse.
//
// [Do] and [Value] run this loop until a step ends the operation:
//
//	admit → attempt → classify → decide → wait → admit …
//
// The steps classify and decide are pure functions, [Policy.ClassOf] and
// [Policy.Decide]: the time and the random number are arguments, so that tests,
// simulations and plans run the same code as a call.
//
//	upload := retry.S3Upload() // a Policy: plain data
//	upload.Name = "upload_to_s3"
//	upload.Classify = retry.Always // if nil, only errors that are known to be transient are retried
//	err := retry.Do(ctx, &upload, func(ctx context.Context) error { ... })
//
// The Breaker of a Policy holds what its calls share: a circuit breaker and, if
// configured, a retry budget, a gate and limits.
package retry

import (
	"context"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/seam"
)

// Do calls f until f succeeds or p stops the operation. See [Value], which also says
// which errors Do returns.
func Do(ctx context.Context, p *Policy, f func(context.Context) error) (err error) {
	var permit circuit.Permit
	state, quick, refusal := p.quick(ctx)
	if quick {
		// This call of f saves the 2.5 ns of Value with a function around f, by BenchmarkDo/retry.
		if err = f(firstAttempt(ctx)); err == nil {
			if b := p.Breaker; b != nil && !seam.Of(b).IgnoresSuccess() {
				breakers.Succeed(ctx, breakers.Permit(b, state))
			}
			p.countFirstTry()
			return nil
		}
		permit = breakers.Permit(p.Breaker, state)
	} else if refusal != nil {
		return p.refused(ctx, refusal)
	}
	_, err = loop(ctx, p, permit, time.Time{}, withValue(f), struct{}{}, err)
	return err
}

// Value calls f until f succeeds or p stops the operation, and returns the value of
// the last attempt, even if that attempt failed. If p is nil, the zero Policy is used.
//
// If the operation fails, Value returns
//   - the error of f, unchanged, if the first attempt failed and p does not retry that
//     error;
//   - otherwise, if at least one attempt was made, an [*Error]: it holds why no attempt
//     follows, and the last attempt's error as f returned it;
//   - if no attempt was made, a [*circuit.OpenError], a [*circuit.LimitError], a
//     [*ConfigError], or the error of ctx, in which [errors.Is] also finds the cause of
//     ctx.
//
// Value calls f on the caller's goroutine, with ctx or a child of ctx. When ctx ends, a
// wait ends at once and no attempt follows. A panic in f passes through.
func Value[T any](ctx context.Context, p *Policy, f func(context.Context) (T, error)) (v T, err error) {
	var permit circuit.Permit
	state, quick, refusal := p.quick(ctx)
	if quick {
		// This call of f saves the 45 ns of the loop, by BenchmarkDo/value.
		if v, err = f(firstAttempt(ctx)); err == nil {
			if b := p.Breaker; b != nil && !seam.Of(b).IgnoresSuccess() {
				breakers.Succeed(ctx, breakers.Permit(b, state))
			}
			p.countFirstTry()
			return v, nil
		}
		permit = breakers.Permit(p.Breaker, state)
	} else if refusal != nil {
		return v, p.refused(ctx, refusal)
	}
	return loop(ctx, p, permit, time.Time{}, f, v, err)
}

// quick decides about the first attempt of a call in the common case: p needs no
// clock and has no lists. It returns the state of the breaker that admits the
// attempt, or the refusal. If it returns neither, the loop decides.
func (p *Policy) quick(ctx context.Context) (state uint64, admitted bool, refusal *circuit.OpenError) {
	if p == nil || p.timed() || len(p.RetryOn)+len(p.IgnoreOn) != 0 || !p.hasValidNumbers() || ctx.Err() != nil {
		return 0, false, nil //nolint:nilerr // the loop decides
	}
	if p.Breaker == nil {
		return 0, true, nil
	}
	if state, admitted = seam.Of(p.Breaker).Healthy(); !admitted {
		refusal = breakers.RefuseKnown(ctx, p.Breaker)
	}
	return state, admitted, refusal
}

// loop makes attempts until a step stops the operation. If err is not nil, err and v are the
// results of the first attempt, which began at start and was admitted with permit.
func loop[T any](ctx context.Context, p *Policy, permit circuit.Permit, start time.Time,
	f func(context.Context) (T, error), v T, err error,
) (T, error) {
	c := call{policy: p}
	if err != nil {
		c.resume(permit, start)
	} else if err := c.begin(ctx); err != nil {
		return v, err
	}
	for {
		if err != nil {
			delay, stop := c.Failed(ctx, err)
			if stop != nil {
				return v, stop
			}
			c.wait(ctx, delay) // if ctx ends during the wait, Admit returns the error
		}
		if err := c.Admit(ctx); err != nil {
			return v, err
		}
		if v, err = attempt(c.Context(ctx), &c, f); err == nil {
			c.Succeeded(ctx)
			return v, nil
		}
	}
}

// attempt calls f once, and cleans up even if f panics.
func attempt[T any](ctx context.Context, c *call, f func(context.Context) (T, error)) (v T, err error) {
	timeout := c.policy.AttemptTimeout
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
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
			c.countPanic()
		}
	}()
	v, err = f(ctx)
	returned = true
	c.timedOut = timeout > 0 && err != nil && ctx.Err() != nil
	return v, err
}

// continueAfterFirst is Do for an adapter that has made the first attempt itself. Package calls
// says what the arguments mean.
func continueAfterFirst(ctx context.Context, p *Policy, permit circuit.Permit, start time.Time, err error,
	f func(context.Context) error,
) error {
	if p == nil {
		p = new(Policy)
	}
	if err == nil {
		breakers.Succeed(ctx, permit)
		p.countFirstTry()
		return nil
	}
	if bad := p.check(); bad != nil {
		permit.Cancel()
		return bad
	}
	_, err = loop(ctx, p, permit, start, withValue(f), struct{}{}, err)
	return err
}

func withValue(f func(context.Context) error) func(context.Context) (struct{}, error) {
	return func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) }
}
