// Package breakers holds the functions of package circuit for this module's own
// packages, which users do not see. A nil breaker admits every call and has no budget.
package breakers

import (
	"context"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/seam"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
)

//nolint:gochecknoglobals // functions, so that a struct of them is read once
var functions = seam.TakeCircuit[*circuit.Breaker, circuit.Permit, *circuit.OpenError, circuit.Tokens]()

// BeginAttempt acquires a permit for an attempt, like Acquire, and waits at a gate or
// for the rate if necessary. Make the attempt with the context that BeginAttempt
// returns.
//
// Several layers of one call may have the same breaker, such as a retry around a client.
// Together they acquire and count once: while a permit of the breaker is in use, an inner
// layer passes without one. Of the results the innermost failure counts; if the last
// inner call succeeded, the result of the outer layer counts. Breakers that share their
// state, by a Store, are the same breaker here.
//
// While the breaker is healthy and each call is known to pass it once, the context is
// ctx itself and nothing is allocated. The first call, and each call of a breaker that
// is not healthy, looks for layers. Until layers are found, a first failure may count
// once for each layer; later results of the outer layers do not undo it.
func BeginAttempt(ctx context.Context, b *circuit.Breaker, a seam.Attempt) (context.Context, circuit.Permit, error) {
	return functions.BeginAttempt(b, ctx, a)
}

// AtGate reports whether the call of p may have waited, at a gate that limits calls or
// for the rate, and whether the call is a probe of the gate, which costs no token of the
// retry budget.
func AtGate(p circuit.Permit) (waited, asProbe bool) { return functions.AtGate(p) }

// KeepPlace takes over the place that the call with the context ctx holds under the
// breaker's Concurrency, and returns the function that frees the place; nil if the call
// holds no place. Without KeepPlace, the place is free when the permit is used. The end
// of until also frees the place, so that a body that is never closed does not keep it.
func KeepPlace(ctx, until context.Context, b *circuit.Breaker) (free func()) {
	return functions.KeepPlace(b, ctx, until)
}

// Nested returns ctx with the permits of the context from, and whether the result
// differs from ctx: for a client whose requests have a context of their own.
func Nested(ctx, from context.Context) (nested context.Context, differs bool) {
	return functions.Nested(ctx, from)
}

// RefuseKnown returns the error of a call with the context ctx if the breaker is known to
// refuse the call, and counts the refusal as Acquire does. If it returns nil, the
// breaker may admit or refuse the call.
func RefuseKnown(ctx context.Context, b *circuit.Breaker) *circuit.OpenError {
	return functions.RefuseKnown(b, ctx)
}

// Refusal reports whether err contains the refusal of a breaker, and its RetryAt; zero
// means not known.
func Refusal(err error) (retryAt time.Time, refused bool) {
	if open, ok := unwrap.As[*circuit.OpenError](err); ok {
		return open.RetryAt, true
	}
	if limit, ok := unwrap.As[*circuit.LimitError](err); ok {
		return limit.RetryAt, true
	}
	return retryAt, false
}

// RefusedDue returns the number of calls that this process has refused since the breaker
// opened, if the caller must log it now; otherwise 0. Call it after a refusal.
func RefusedDue(b *circuit.Breaker) uint64 { return functions.RefusedDue(b) }

// Peek returns the error with which b refuses calls while it is open or isolated; nil if
// b admits calls or, half-open, may admit them. Peek acquires nothing.
func Peek(b *circuit.Breaker) *circuit.OpenError { return functions.Peek(b) }

// Invalid returns the [*circuit.ConfigError] of the breaker's Config, or nil.
func Invalid(b *circuit.Breaker) error { return functions.Invalid(b) }

// Balance returns the tokens that retries may spend. on is false if the breaker has no
// budget: then every retry is free.
func Balance(b *circuit.Breaker) (t circuit.Tokens, on bool) { return functions.Balance(b) }

// Withdraw takes t from the budget, and reports whether the balance was sufficient. It
// never waits. Without a budget it reports true.
func Withdraw(b *circuit.Breaker, t circuit.Tokens) bool { return functions.Withdraw(b, t) }

// Refund returns t to the budget, up to the ceiling: a retry that succeeded is free.
func Refund(b *circuit.Breaker, t circuit.Tokens) { functions.Refund(b, t) }

// Permit returns the permit of a call that [seam.Hot.Healthy] admitted at state.
func Permit(b *circuit.Breaker, state uint64) circuit.Permit { return functions.Permit(b, state) }

// Succeed is the Success of the permit, with the context of the call for Config.Observe.
func Succeed(ctx context.Context, p circuit.Permit) { functions.Succeed(p, ctx) }

// Record records the end of a failed call whose context is ctx.
func Record(ctx context.Context, p circuit.Permit, r seam.Result) { functions.Record(p, ctx, r) }
