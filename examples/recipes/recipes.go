// Package recipes builds what the library leaves to golang.org/x/sync: a cache that serves old values while a service
// fails, and bulkheads that are no property of a service. docs/combining.md explains them.
package recipes

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"github.com/seed-0f2c7998/perdure/fallback"
	"github.com/seed-0f2c7998/perdure/hedge"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Cached is a value that is fetched at most once a minute, however many callers there are. While the service fails,
// callers get the last value.
type Cached[T any] struct {
	Fetch    func(context.Context) (T, error)
	Policy   *retry.Policy
	Fallback *fallback.Policy

	last  atomic.Pointer[dated[T]]
	calls singleflight.Group
}

type dated[T any] struct {
	value T
	at    time.Time
}

// Get returns the value. If it is old, replaced is the error of the service.
func (c *Cached[T]) Get(ctx context.Context) (value T, replaced, err error) {
	if last := c.last.Load(); last != nil && time.Since(last.at) < time.Minute {
		return last.value, nil, nil
	}
	return fallback.Replaced(ctx, c.Fallback, c.fetch, func(_ context.Context, err error) (value T, _ error) {
		if last := c.last.Load(); last != nil {
			return last.value, nil
		}
		return value, err // declines: nothing is cached yet
	})
}

// fetch joins the fetch of another caller, or begins one, which does not end with its caller's context.
func (c *Cached[T]) fetch(ctx context.Context) (value T, err error) {
	fetched := c.calls.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		v, err := retry.Value(ctx, c.Policy, c.Fetch)
		if err == nil {
			c.last.Store(&dated[T]{v, time.Now()})
		}
		return v, err
	})
	select {
	case r := <-fetched:
		value, _ = r.Val.(T)
		return value, r.Err
	case <-ctx.Done():
		return value, ctx.Err()
	}
}

// Lookup retries a call, each attempt of which is hedged, and returns another value if the service is not available.
func Lookup[T any](ctx context.Context, p *retry.Policy, h *hedge.Hedge[T], lookup func(context.Context) (T, error), instead T) (T, error) {
	return fallback.Value(ctx, nil, func(ctx context.Context) (T, error) {
		return retry.Value(ctx, p, func(ctx context.Context) (T, error) {
			return hedge.Value(ctx, h, lookup)
		})
	}, func(context.Context, error) (T, error) { return instead, nil })
}

// Each calls f for each key, at most workers at once, and returns the first error, at which the others are cancelled.
func Each(ctx context.Context, keys []string, workers int, p *retry.Policy, f func(ctx context.Context, key string) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for _, key := range keys {
		group.Go(func() error {
			return retry.Do(ctx, p, func(ctx context.Context) error { return f(ctx, key) })
		})
	}
	return group.Wait()
}

// Weighted calls f once memory admits size bytes, which other calls give back. The wait between attempts keeps none.
func Weighted(ctx context.Context, memory *semaphore.Weighted, size int64, p *retry.Policy, f func(context.Context) error) error {
	return retry.Do(ctx, p, func(ctx context.Context) error {
		if err := memory.Acquire(ctx, size); err != nil {
			return err // ctx has ended
		}
		defer memory.Release(size)
		return f(ctx)
	})
}
