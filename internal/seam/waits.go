package seam

import (
	"context"
	"time"
)

type waitsKey struct{}

// WithWaits returns a context under which a retry passes each wait at once, after a call of pass with its duration. It is
// for package retrytest.
func WithWaits(ctx context.Context, pass func(time.Duration)) context.Context {
	return context.WithValue(ctx, waitsKey{}, pass)
}

// Waits returns the pass of [WithWaits], or nil.
func Waits(ctx context.Context) func(time.Duration) {
	pass, _ := ctx.Value(waitsKey{}).(func(time.Duration))
	return pass
}
