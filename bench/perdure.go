package main

import (
	"context"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/retry"
)

// perdurePolicy waits a nanosecond, retries all errors and reports to no observer, as the peers do.
func perdurePolicy(b *circuit.Breaker) *retry.Policy {
	return &retry.Policy{
		MaxAttempts: attempts, BaseDelay: delay, Jitter: retry.NoJitter,
		Classify: retry.Always, Observe: func(context.Context, retry.Event) {}, Breaker: b,
	}
}

// breakerConfig has the rule of consecutive failures.
func breakerConfig() circuit.Config {
	return circuit.Config{FailureThreshold: threshold, RecoveryTimeout: recovery, Observe: func(context.Context, circuit.Transition) {}}
}

// windowConfig has the rule of a failure ratio over the calls of the last ten seconds.
func windowConfig() circuit.Config {
	c := breakerConfig()
	c.Window, c.MinCalls, c.FailureRatio = window, minCalls, ratio
	return c
}

func perdureDo(f call, b *circuit.Breaker) call {
	p := perdurePolicy(b)
	return func(ctx context.Context) error { return retry.Do(ctx, p, f) }
}

func perdureRetry(f call) call { return perdureDo(f, nil) }

func perdureLimited(f call) call {
	p := perdurePolicy(nil)
	p.MaxElapsed = limit
	return func(ctx context.Context) error { return retry.Do(ctx, p, f) }
}

func perdureRetryBreaker(f call) call { return perdureDo(f, circuit.New("bench", breakerConfig())) }

func perdureBudget(f call) call { return perdureDo(f, circuit.New("bench", budgetConfig())) }

func budgetConfig() circuit.Config {
	c := breakerConfig()
	c.Budget = 10
	return c
}

// perdureHost has breaker and budget in a file that all processes of the host share.
func perdureHost(store *hoststore.Store) cell {
	return func(f call) call {
		c := budgetConfig()
		c.Store = store
		do := perdureDo(f, circuit.New("bench", c))
		if err := store.Err(); err != nil {
			return func(context.Context) error { return err } // or its memory would be measured
		}
		return do
	}
}

func perdureRetryWindow(f call) call { return perdureDo(f, circuit.New("bench", windowConfig())) }

func rateConfig(perSecond float64) circuit.Config {
	c := breakerConfig()
	c.Rate = perSecond
	return c
}

func perdureRate(f call) call {
	c := rateConfig(often)
	c.Burst = burst
	b := circuit.New("bench", c)
	return func(ctx context.Context) error { return b.Do(ctx, f) }
}

func perdureRefused(call) call {
	b := circuit.New("bench", rateConfig(1.0/86400))
	b.Allow()
	return func(context.Context) error {
		_, err := b.Acquire()
		return err
	}
}

// inFlight is the limit of concurrency.
const inFlight = 100

func perdurePlaces(f call) call {
	c := breakerConfig()
	c.Concurrency = inFlight
	b := circuit.New("bench", c)
	return func(ctx context.Context) error { return b.Do(ctx, f) }
}

func perdurePlacesTwoStep(f call) call {
	c := breakerConfig()
	c.Concurrency = inFlight
	b := circuit.New("bench", c)
	return func(ctx context.Context) error {
		permit, err := b.Acquire()
		if err != nil {
			return err
		}
		if err = f(ctx); err != nil {
			permit.Failure()
			return err
		}
		permit.Success()
		return nil
	}
}

// perdureRetryOpen has no observer, and the default logger is off.
func perdureRetryOpen(f call) call { return perdureOpenDo(f, nil) }

func perdureObservedOpen(f call) call {
	return perdureOpenDo(f, func(context.Context, retry.Event) {})
}

func perdureOpenDo(f call, observe func(context.Context, retry.Event)) call {
	p := perdurePolicy(circuit.New("bench", breakerConfig()))
	p.Observe = observe
	p.Breaker.Trip()
	return func(ctx context.Context) error { return retry.Do(ctx, p, f) }
}

func perdureGuard(f call, b *circuit.Breaker) call {
	return func(ctx context.Context) error { return b.Do(ctx, f) }
}

func perdureBreaker(f call) call { return perdureGuard(f, circuit.New("bench", breakerConfig())) }

func perdureWindow(f call) call { return perdureGuard(f, circuit.New("bench", windowConfig())) }

func perdureOpen(f call) call {
	b := circuit.New("bench", breakerConfig())
	b.Trip()
	return perdureGuard(f, b)
}

func perdureTwoStep(f call) call { return perdurePermit(f, breakerConfig()) }

func perdureWindowTwoStep(f call) call { return perdurePermit(f, windowConfig()) }

func perdureOpenTwoStep(store *hoststore.Store) cell {
	return func(f call) call {
		c := breakerConfig()
		if store != nil {
			c.Store = store
		}
		b := circuit.New("bench, open", c)
		b.Trip()
		return byPermit(f, b)
	}
}

func perdurePermit(f call, c circuit.Config) call { return byPermit(f, circuit.New("bench", c)) }

func byPermit(f call, b *circuit.Breaker) call {
	return func(ctx context.Context) error {
		permit, err := b.Acquire()
		if err != nil {
			return err
		}
		if err := f(ctx); err != nil {
			permit.Failure()
			return err
		}
		permit.Success()
		return nil
	}
}

// The settings of every library, as far as it has them.
const (
	attempts  = 5
	delay     = time.Nanosecond
	limit     = time.Minute // for all attempts, where there is one
	threshold = 5           // consecutive failures that open a breaker
	recovery  = time.Hour   // an open breaker stays open
	window    = 10 * time.Second
	minCalls  = 20
	ratio     = 0.5
	often     = 1_000_000 // calls per second
	burst     = 10_000
)
