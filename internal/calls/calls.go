// Package calls holds the functions of package retry for adapters of clients that have
// a loop, or a first attempt, of their own.
package calls

import (
	"context"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/seam"
	"github.com/seed-0f2c7998/perdure/retry"
)

//nolint:gochecknoglobals // functions, so that a struct of them is read once
var functions = seam.TakeRetry[*retry.Policy, circuit.Permit]()

// A Call is one operation whose loop is another client's.
type Call = seam.Call

// Begin starts a Call. It returns the cause of ctx if ctx has ended, or a
// [*retry.ConfigError] if p is invalid. If p is nil, the zero Policy is used.
func Begin(ctx context.Context, p *retry.Policy) (Call, error) { return functions.Begin(ctx, p) }

// Number returns a context that is ctx with the number n of an attempt, for [retry.Attempt].
// ctx must end when the attempt ends.
func Number(ctx context.Context, n int) context.Context { return functions.Number(ctx, n) }

// Waits returns what passes a wait at once under retrytest.NoWaits; else nil.
func Waits(ctx context.Context) func(time.Duration) { return seam.Waits(ctx) }

// Continue is [retry.Do] after the first attempt, which the caller has made itself: the
// breaker of p admitted that attempt with permit, and the attempt ended with err. f makes
// the attempts that follow. If permit is zero, the breaker does not count the first
// attempt.
//
// The first attempt began at start. If start is zero, MaxElapsed counts from the call of
// Continue, and Elapsed is not known. AttemptTimeout applies to the attempts that follow.
// If p is invalid, Continue returns a [*retry.ConfigError].
func Continue(ctx context.Context, p *retry.Policy, permit circuit.Permit, start time.Time, err error,
	f func(context.Context) error,
) error {
	return functions.Continue(ctx, p, permit, start, err, f)
}
