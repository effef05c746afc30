// Package breakers is what package circuit does for this module's own packages,
// and keeps from its users. A nil breaker admits everything and has no budget.
package breakers

import (
	"context"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/seam"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
)

//nolint:gochecknoglobals // functions, so that a struct of them is read once
var face = seam.TakeCircuit[*circuit.Breaker, circuit.Permit, *circuit.OpenError, circuit.Tokens]()

// Begin is Acquire for a call that may come by the same breaker again, further in:
// a retry around a client that has the breaker too, say. Make the call with the
// context that Begin returns. Such layers then ask once and count once: who comes
// by while a call with this breaker's permit is out passes without being asked,
// and of all that they record the innermost failure counts, or, if the last call
// further in has succeeded, what the layer around it says.
//
// The context is ctx itself, and nothing is allocated, while the breaker is
// healthy and no call is known to have come by it twice: that is looked for in the
// first call, and whenever the breaker is not healthy. Where it is not found, a
// first failure may count once for each layer that does not recognize it as the
// same; what the layers further out say then does not undo it. Breakers that share
// their state, by a Store, are the same.
func Begin(ctx context.Context, b *circuit.Breaker) (context.Context, circuit.Permit, error) {
	return face.Begin(b, ctx)
}

// BeginAttempt is Begin for an attempt of a retry. Both may wait at a gate, and for
// the rate.
func BeginAttempt(ctx context.Context, b *circuit.Breaker, a seam.Ask) (context.Context, circuit.Permit, error) {
	return face.BeginAttempt(b, ctx, a)
}

// AtGate reports whether the call of p may have waited: at a gate that is limited, or
// for the rate. A gate's probe costs no token of the retry budget.
func AtGate(p circuit.Permit) (waited, asProbe bool) { return face.AtGate(p) }

// Guarded reports whether the permit must be used even when the call panics.
func Guarded(p circuit.Permit) bool { return face.Guarded(p) }

// KeepPlace takes over the place that the call whose context is ctx has of those
// that the breaker's Concurrency limits, and returns the function that frees it;
// nil if there is none. Without that, the place is free when the permit is used.
// The end of until frees it, too: whoever forgets to close a body does not keep it for ever.
func KeepPlace(ctx, until context.Context, b *circuit.Breaker) (free func()) {
	return face.KeepPlace(b, ctx, until)
}

// Nested returns ctx with the calls that are out by the context from, and whether
// that is another context: for a client whose requests have one of their own.
func Nested(ctx, from context.Context) (nested context.Context, another bool) {
	return face.Nested(ctx, from)
}

// Refuse returns the refusal of a call whose context is ctx if that is known
// without more ado, and counts it as Acquire does; else nil, which says nothing.
func Refuse(ctx context.Context, b *circuit.Breaker) *circuit.OpenError { return face.Refuse(b, ctx) }

// Refusal reports whether err holds that a breaker has not admitted a call, and
// when it makes sense to come back; the zero Time means not known.
func Refusal(err error) (retryAt time.Time, refused bool) {
	if open, ok := unwrap.As[*circuit.OpenError](err); ok {
		return open.RetryAt, true
	}
	if limit, ok := unwrap.As[*circuit.LimitError](err); ok {
		return limit.RetryAt, true
	}
	return retryAt, false
}

// Refused returns how many calls this process has refused in the present opening,
// if that is to be logged now, and else 0: for who logs after a refusal.
func Refused(b *circuit.Breaker) uint64 { return face.Refused(b) }

// Peek returns the refusal that a breaker which is open or isolated has for a call,
// and nil for one that would let it pass or, half-open, might. It acquires nothing.
func Peek(b *circuit.Breaker) *circuit.OpenError { return face.Peek(b) }

// Invalid returns what is wrong with the breaker's Config, a
// [*circuit.ConfigError], or nil.
func Invalid(b *circuit.Breaker) error { return face.Invalid(b) }

// Balance returns the tokens that retries may spend; on is false when the breaker
// has no budget, and every retry is free.
func Balance(b *circuit.Breaker) (t circuit.Tokens, on bool) { return face.Balance(b) }

// Withdraw takes t from the budget and reports whether there was enough. It never
// waits. Without a budget it takes nothing and reports true.
func Withdraw(b *circuit.Breaker, t circuit.Tokens) bool { return face.Withdraw(b, t) }

// Refund gives t back, up to the ceiling: a retry that worked costs nothing.
func Refund(b *circuit.Breaker, t circuit.Tokens) { face.Refund(b, t) }

// Permit returns the permit of a call that [seam.Hot.Quick] has admitted when word
// was the breaker's.
func Permit(b *circuit.Breaker, word uint64) circuit.Permit { return face.Permit(b, word) }

// Succeed is the permit's Success with the context of the call, which
// Config.Observe is given.
func Succeed(ctx context.Context, p circuit.Permit) { face.Succeed(p, ctx) }

// Record records that the call, whose context is ctx, ended as r says.
func Record(ctx context.Context, p circuit.Permit, r seam.Result) { face.Record(p, ctx, r) }
