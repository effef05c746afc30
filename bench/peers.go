package main

import (
	"context"
	"errors"
	"slices"
	"time"

	retrygo "github.com/avast/retry-go/v5"
	"github.com/cenkalti/backoff/v7"
	"github.com/eapache/go-resiliency/breaker"
	"github.com/eapache/go-resiliency/retrier"
	goretry "github.com/sethvargo/go-retry"
	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// cenkalti/backoff. The backoff is stateful, so each call makes its own.

func backoffRetry(f call) call {
	return func(ctx context.Context) error {
		_, err := backoff.Retry(ctx, func() (none, error) { return none{}, f(ctx) },
			backoff.WithBackOff(backoff.NewConstantBackOff(delay)), backoff.WithMaxTries(attempts))
		return err
	}
}

// backoffGuarded does not retry against an open breaker.
func backoffGuarded(f call, b *sonyCircuit) call {
	guarded := sonyDo(f, b)
	return backoffRetry(func(ctx context.Context) error {
		err := guarded(ctx)
		if errors.Is(err, gobreaker.ErrOpenState) {
			return backoff.Permanent(err)
		}
		return err
	})
}

func backoffBreaker(f call) call { return backoffGuarded(f, newSony()) }
func backoffWindow(f call) call  { return backoffGuarded(f, newSonyWindow()) }
func backoffOpen(f call) call    { return backoffGuarded(f, newSonyOpen()) }

// avast/retry-go. The context is an option of the Retrier, so each call makes its own.

func avastDo(f call, options ...retrygo.Option) call {
	options = append([]retrygo.Option{
		retrygo.Attempts(attempts), retrygo.Delay(delay), retrygo.DelayType(retrygo.FixedDelay), retrygo.LastErrorOnly(true),
	}, options...)
	return func(ctx context.Context) error {
		all := append(slices.Clip(options), retrygo.Context(ctx))
		return retrygo.New(all...).Do(func() error { return f(ctx) })
	}
}

func avastRetry(f call) call { return avastDo(f) }

// avastRetryDeaf makes the Retrier once and uses it for all calls: no context ends its waits.
func avastRetryDeaf(f call) call {
	r := retrygo.New(retrygo.Attempts(attempts), retrygo.Delay(delay), retrygo.DelayType(retrygo.FixedDelay),
		retrygo.LastErrorOnly(true))
	return func(ctx context.Context) error {
		return r.Do(func() error { return f(ctx) })
	}
}

// avastGuarded does not retry against an open breaker.
func avastGuarded(f call, b *sonyCircuit, options ...retrygo.Option) call {
	return avastDo(sonyDo(f, b), append(options, retrygo.RetryIf(func(err error) bool {
		return !errors.Is(err, gobreaker.ErrOpenState)
	}))...)
}

func avastBreaker(f call) call { return avastGuarded(f, newSony()) }
func avastWindow(f call) call  { return avastGuarded(f, newSonyWindow()) }
func avastOpen(f call) call    { return avastGuarded(f, newSonyOpen()) }

// avastBudget has the default token bucket.
func avastBudget(f call) call {
	bucket := retrygo.NewFixedTokenBucketThrottle(retrygo.FixedTokenBucketThrottleConfig{})
	return avastGuarded(f, newSony(), retrygo.WithThrottle(bucket))
}

// sethvargo/go-retry. The backoff is stateful, so each call makes its own; an error is retried if it is marked.

func sethvargoDo(f call, retryable func(error) bool, limits ...time.Duration) call {
	return func(ctx context.Context) error {
		b := goretry.WithMaxRetries(attempts-1, goretry.NewConstant(delay))
		for _, limit := range limits {
			b = goretry.WithMaxDuration(limit, b)
		}
		return goretry.Do(ctx, b, func(ctx context.Context) error {
			err := f(ctx)
			if err != nil && retryable(err) {
				return goretry.RetryableError(err)
			}
			return err
		})
	}
}

func always(error) bool { return true }

func sethvargoRetry(f call) call   { return sethvargoDo(f, always) }
func sethvargoLimited(f call) call { return sethvargoDo(f, always, limit) }

// sethvargoGuarded does not retry against an open breaker.
func sethvargoGuarded(f call, b *sonyCircuit) call {
	return sethvargoDo(sonyDo(f, b), func(err error) bool { return !errors.Is(err, gobreaker.ErrOpenState) })
}

func sethvargoBreaker(f call) call { return sethvargoGuarded(f, newSony()) }
func sethvargoWindow(f call) call  { return sethvargoGuarded(f, newSonyWindow()) }
func sethvargoOpen(f call) call    { return sethvargoGuarded(f, newSonyOpen()) }

// eapache/go-resiliency. Retrier and breaker are made once.

func eapacheRetry(f call) call {
	r := retrier.New(retrier.ConstantBackoff(attempts-1, delay), nil)
	return func(ctx context.Context) error { return r.RunCtx(ctx, f) }
}

func eapacheRetryDeaf(f call) call {
	r := retrier.New(retrier.ConstantBackoff(attempts-1, delay), nil)
	return func(ctx context.Context) error {
		return r.Run(func() error { return f(ctx) })
	}
}

func eapacheDo(f call, b *breaker.Breaker) call {
	return func(ctx context.Context) error {
		return b.Run(func() error { return f(ctx) })
	}
}

func eapacheBreaker(f call) call { return eapacheDo(f, breaker.New(threshold, 1, recovery)) }

func eapacheRetryBreaker(f call) call { return eapacheRetry(eapacheBreaker(f)) }

// eapacheOpen is a breaker that has seen enough failures.
func eapacheOpen(f call) call {
	b := breaker.New(threshold, 1, recovery)
	for range threshold {
		_ = b.Run(func() error { return errFailure })
	}
	return eapacheDo(f, b)
}

// sony/gobreaker. Breakers are made once.

type none = struct{}

type sonyCircuit = gobreaker.CircuitBreaker[none]

func sonySettings() gobreaker.Settings {
	return gobreaker.Settings{
		Name: "bench", Timeout: recovery,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= threshold },
	}
}

// sonyWindowSettings has the rolling window of ten buckets.
func sonyWindowSettings() gobreaker.Settings {
	s := sonySettings()
	s.Interval, s.BucketPeriod = window, window/10
	s.ReadyToTrip = func(c gobreaker.Counts) bool {
		return c.Requests >= minCalls && float64(c.TotalFailures) >= ratio*float64(c.Requests)
	}
	return s
}

func newSony() *sonyCircuit { return gobreaker.NewCircuitBreaker[none](sonySettings()) }

func newSonyWindow() *sonyCircuit { return gobreaker.NewCircuitBreaker[none](sonyWindowSettings()) }

// newSonyOpen returns a breaker that has seen enough failures.
func newSonyOpen() *sonyCircuit {
	b := newSony()
	for range threshold {
		_, _ = b.Execute(func() (none, error) { return none{}, errFailure })
	}
	return b
}

func sonyDo(f call, b *sonyCircuit) call {
	return func(ctx context.Context) error {
		_, err := b.Execute(func() (none, error) { return none{}, f(ctx) })
		return err
	}
}

func sonyBreaker(f call) call { return sonyDo(f, newSony()) }

func sonyWindow(f call) call { return sonyDo(f, newSonyWindow()) }

func sonyOpen(f call) call { return sonyDo(f, newSonyOpen()) }

func sonyTwoStep(f call) call { return sonyInTwoSteps(f, sonySettings()) }

func sonyWindowTwoStep(f call) call { return sonyInTwoSteps(f, sonyWindowSettings()) }

func sonyInTwoSteps(f call, s gobreaker.Settings) call {
	b := gobreaker.NewTwoStepCircuitBreaker[none](s)
	return func(ctx context.Context) error {
		done, err := b.Allow()
		if err != nil {
			return err
		}
		err = f(ctx)
		done(err)
		return err
	}
}

// golang.org/x/time/rate.

func xtimeRate(f call) call {
	l := rate.NewLimiter(often, burst)
	return func(ctx context.Context) error {
		if err := l.Wait(ctx); err != nil {
			return err
		}
		return f(ctx)
	}
}

func xtimeRefused(call) call {
	l := rate.NewLimiter(rate.Every(24*time.Hour), 1)
	l.Allow()
	return func(context.Context) error {
		if !l.Allow() {
			return errRefused
		}
		return nil
	}
}

// golang.org/x/sync/semaphore.

func xsyncSemaphore(f call) call {
	s := semaphore.NewWeighted(inFlight)
	return func(ctx context.Context) error {
		if err := s.Acquire(ctx, 1); err != nil {
			return err
		}
		defer s.Release(1)
		return f(ctx)
	}
}

func xsyncTwoStep(f call) call {
	s := semaphore.NewWeighted(inFlight)
	return func(ctx context.Context) error {
		if !s.TryAcquire(1) {
			return errRefused
		}
		err := f(ctx)
		s.Release(1)
		return err
	}
}
