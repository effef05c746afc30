// Package fix is how what surrounds an operation can put right the cause of an error of one of its attempts.
package fix

import "context"

type key struct{}

// With returns the context of an operation. Its loop calls fix with the error of an attempt, on the goroutine of the
// operation, and makes another one at once if fix returns true. An outer fix is replaced.
func With(ctx context.Context, fix func(error) bool) context.Context {
	return context.WithValue(ctx, key{}, fix)
}

// Try reports whether the fix of ctx, if there is one, has put right the cause of err.
func Try(ctx context.Context, err error) bool {
	fix, ok := ctx.Value(key{}).(func(error) bool)
	return ok && fix(err)
}
