package main

import (
	"context"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
)

// failsafeDo makes the executor once, and gives it the context of each call.
func failsafeDo(f call, policies ...failsafe.Policy[any]) call {
	executor := failsafe.With(policies...)
	return func(ctx context.Context) error {
		return executor.WithContext(ctx).Run(func() error { return f(ctx) })
	}
}

func failsafePolicy() retrypolicy.Builder[any] {
	return retrypolicy.NewBuilder[any]().WithMaxAttempts(attempts).WithDelay(delay)
}

// failsafeGuarded retries around b, but not against it when it is open.
func failsafeGuarded(f call, p retrypolicy.Builder[any], b circuitbreaker.CircuitBreaker[any]) call {
	return failsafeDo(f, p.AbortOnErrors(circuitbreaker.ErrOpen).Build(), b)
}

func failsafeCircuit() circuitbreaker.CircuitBreaker[any] {
	return circuitbreaker.NewBuilder[any]().WithFailureThreshold(threshold).WithDelay(recovery).Build()
}

func failsafeWindowed() circuitbreaker.CircuitBreaker[any] {
	return circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(ratio, minCalls, window).
		WithDelay(recovery).Build()
}

func failsafeRetry(f call) call { return failsafeDo(f, failsafePolicy().Build()) }

func failsafeLimited(f call) call {
	return failsafeDo(f, failsafePolicy().WithMaxDuration(limit).Build())
}

// failsafeRetryDeaf has only the operation's own context.
func failsafeRetryDeaf(f call) call {
	executor := failsafe.With(failsafePolicy().Build())
	return func(ctx context.Context) error {
		return executor.Run(func() error { return f(ctx) })
	}
}

func failsafeRetryBreaker(f call) call {
	return failsafeGuarded(f, failsafePolicy(), failsafeCircuit())
}

func failsafeRetryWindow(f call) call {
	return failsafeGuarded(f, failsafePolicy(), failsafeWindowed())
}

// failsafeBudget has the default budget: a fifth of the executions in flight may be retries.
func failsafeBudget(f call) call {
	return failsafeGuarded(f, failsafePolicy().WithBudget(budget.New()), failsafeCircuit())
}

func failsafeBreaker(f call) call { return failsafeDo(f, failsafeCircuit()) }

func failsafeWindow(f call) call { return failsafeDo(f, failsafeWindowed()) }

func failsafeOpen(f call) call {
	b := failsafeCircuit()
	b.Open()
	return failsafeDo(f, b)
}

func failsafeRetryOpen(f call) call {
	b := failsafeCircuit()
	b.Open()
	return failsafeGuarded(f, failsafePolicy(), b)
}

func failsafeTwoStep(f call) call { return failsafePermit(f, failsafeCircuit()) }

func failsafeWindowTwoStep(f call) call { return failsafePermit(f, failsafeWindowed()) }

func failsafePermit(f call, b circuitbreaker.CircuitBreaker[any]) call {
	return func(ctx context.Context) error {
		if !b.TryAcquirePermit() {
			return circuitbreaker.ErrOpen
		}
		if err := f(ctx); err != nil {
			b.RecordError(err)
			return err
		}
		b.RecordSuccess()
		return nil
	}
}

func failsafeRate(f call) call {
	return failsafeDo(f, ratelimiter.NewBurstyBuilder[any](often, time.Second).WithMaxWaitTime(time.Minute).Build())
}

func failsafeRefused(call) call {
	r := ratelimiter.NewSmoothWithMaxRate[any](24 * time.Hour)
	r.TryAcquirePermit()
	return func(context.Context) error {
		if !r.TryAcquirePermit() {
			return ratelimiter.ErrExceeded
		}
		return nil
	}
}

func failsafeBulkhead(f call) call {
	return failsafeDo(f, bulkhead.NewBuilder[any](inFlight).WithMaxWaitTime(time.Minute).Build())
}

func failsafeBulkheadTwoStep(f call) call {
	b := bulkhead.New[any](inFlight)
	return func(ctx context.Context) error {
		if !b.TryAcquirePermit() {
			return errRefused
		}
		err := f(ctx)
		b.ReleasePermit()
		return err
	}
}
