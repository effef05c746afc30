// Package calls is what package retry does for the adapters of clients that have a
// loop, or a first attempt, of their own.
package calls

import (
	"context"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/seam"
	"github.com/seed-0f2c7998/perdure/retry"
)

//nolint:gochecknoglobals // functions, so that a struct of them is read once
var face = seam.TakeRetry[*retry.Policy, circuit.Permit]()

// A Call is one operation whose loop is another client's.
type Call = seam.Call

// Begin starts a Call. It returns the cause of ctx if that is done, or a
// [*retry.ConfigError] if p is not valid. A nil p is the zero Policy.
func Begin(ctx context.Context, p *retry.Policy) (Call, error) { return face.Begin(ctx, p) }

// Continue is [retry.Do] for a caller that has made the first attempt by itself:
// it ended with err, after p's Breaker had let it pass with permit; the zero Permit
// tells the Breaker nothing of it. f makes the attempts that follow.
//
// The first attempt began at start; zero means that this is not known: MaxElapsed
// then counts from the call of Continue, and Elapsed is not known either. A p that
// is not valid ends the call with its [*retry.ConfigError]. Its AttemptTimeout is
// for the attempts that follow.
func Continue(ctx context.Context, p *retry.Policy, permit circuit.Permit, start time.Time, err error,
	f func(context.Context) error,
) error {
	return face.Continue(ctx, p, permit, start, err, f)
}
