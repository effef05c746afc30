package retry

import (
	"context"
	"sync/atomic"
)

// An attemptContext tells f which attempt it is. Only attempts from the second
// on have one, and the first of an operation within one of those.
type attemptContext struct {
	context.Context //nolint:containedctx // it is a context

	number int
}

type attemptKey struct{}

// Value returns the context itself for the key of this package.
func (c *attemptContext) Value(key any) any {
	if key == (attemptKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// numbered is how many attempts are under way whose context has a number. While
// it is 0, as it is in health, a first attempt need not look for one: its
// context is then the caller's own.
var numbered atomic.Int64 //nolint:gochecknoglobals // of all operations, since one may be within another

// Attempt returns the number of the attempt, from 1, that the function which was
// called with ctx makes for [Do] or [Value]: the innermost, where operations are
// nested. It is 1 for a context of no attempt.
func Attempt(ctx context.Context) int {
	if c, ok := ctx.Value(attemptKey{}).(*attemptContext); ok {
		return c.number
	}
	return 1
}

// firstAttempt returns the context for the first attempt of an operation with
// ctx: ctx itself, unless it belongs to a later attempt of an operation further
// out.
func firstAttempt(ctx context.Context) context.Context {
	if numbered.Load() == 0 {
		return ctx
	}
	return hideAttempt(ctx)
}

func hideAttempt(ctx context.Context) context.Context {
	if Attempt(ctx) == 1 {
		return ctx
	}
	return &attemptContext{ctx, 1}
}

// nextAttempt returns the context for attempt n, of 2 or more. Subtract 1 from
// numbered when the attempt has ended.
func nextAttempt(ctx context.Context, n int) context.Context {
	numbered.Add(1)
	return &attemptContext{ctx, n}
}
