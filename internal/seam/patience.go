package seam

import (
	"context"
	"time"
)

type patienceKey struct{}

// WithPatience returns a context by which calls wait at a gate, or for a rate, no longer
// than until the instant that end returns: it is asked when a call first has to wait.
func WithPatience(ctx context.Context, end func() time.Time) context.Context {
	return context.WithValue(ctx, patienceKey{}, end)
}

// PatienceEnds returns the instant until which a call waits at most that has to wait now.
// It reports false if ctx is not by WithPatience.
func PatienceEnds(ctx context.Context) (time.Time, bool) {
	end, ok := ctx.Value(patienceKey{}).(func() time.Time)
	if !ok {
		return time.Time{}, false
	}
	return end(), true
}
