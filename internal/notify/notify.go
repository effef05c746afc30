// Package notify calls observers, whose panics must not fail the call that they observe.
package notify

import (
	"context"
	"log/slog"
)

// Call calls observe with e. A panic is logged, with the name of the observer, and nothing else.
func Call[E any](ctx context.Context, observer string, observe func(context.Context, E), e E) {
	defer func() {
		if v := recover(); v != nil {
			slog.Default().ErrorContext(ctx, observer+" panicked", "panic", v)
		}
	}()
	observe(ctx, e)
}
