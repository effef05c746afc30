package retry

import (
	"context"
	"sync/atomic"
)

// An attemptContext holds the number of an attempt. Attempts from the second on have
// one, and so has the first attempt of an operation inside such an attempt.
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

// numbered counts the running attempts whose context has a number. While numbered is
// 0, as in health, a first attempt uses the caller's context as it is.
var numbered atomic.Int64 //nolint:gochecknoglobals // of all operations, since one may be within another

// Attempt returns the number, from 1, of the attempt whose context is ctx: the ctx that
// [Do] or [Value] gave to its function, or a child of that ctx. If operations are
// nested, Attempt returns the number of the innermost. It returns 1 if ctx belongs to
// no attempt.
func Attempt(ctx context.Context) int {
	if c, ok := ctx.Value(attemptKey{}).(*attemptContext); ok {
		return c.number
	}
	return 1
}

// firstAttempt returns the context for the first attempt of an operation whose
// context is ctx: ctx itself, unless ctx belongs to a retry of an outer operation.
func firstAttempt(ctx context.Context) context.Context {
	if numbered.Load() == 0 {
		return ctx
	}
	return hideAttempt(ctx)
}

// attemptUntilEnd returns the context for attempt n of an operation whose loop is another
// client's. ctx must end when the attempt ends.
func attemptUntilEnd(ctx context.Context, n int) context.Context {
	if n == 1 {
		return firstAttempt(ctx)
	}
	context.AfterFunc(ctx, func() { numbered.Add(-1) })
	return nextAttempt(ctx, n)
}

func hideAttempt(ctx context.Context) context.Context {
	if Attempt(ctx) == 1 {
		return ctx
	}
	return &attemptContext{ctx, 1}
}

// nextAttempt returns the context for attempt n, which is 2 or more. The caller
// subtracts 1 from numbered when the attempt ends.
func nextAttempt(ctx context.Context, n int) context.Context {
	numbered.Add(1)
	return &attemptContext{ctx, n}
}
