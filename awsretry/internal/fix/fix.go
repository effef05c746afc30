// Package fix lets the code around an operation correct the cause of an attempt's error.
package fix

import "context"

type key struct{}

// With returns a context for an operation. Its loop calls fix with the error of an attempt, on the operation's
// goroutine, and makes another attempt at once if fix returns true. A fix of an outer context is replaced.
func With(ctx context.Context, fix func(error) bool) context.Context {
	return context.WithValue(ctx, key{}, fix)
}

// Try reports whether the fix of ctx, if any, has corrected the cause of err.
func Try(ctx context.Context, err error) bool {
	fix, ok := ctx.Value(key{}).(func(error) bool)
	return ok && fix(err)
}
