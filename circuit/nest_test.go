package circuit

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Concurrent calls within a probe are all admitted, and the probe counts once: the breaker
// closes if all succeed, and opens if one fails.
func TestCallsSideBySideWithinAProbe(t *testing.T) {
	for name, c := range map[string]struct {
		fails int // how many of ten
		want  State
	}{"all succeed": {0, Closed}, "one fails": {1, Open}, "all fail": {10, Open}} {
		synctest.Test(t, func(t *testing.T) {
			b := New("x", quiet(Config{}))
			b.Trip()
			after(30 * time.Second)
			var made atomic.Int32
			err := b.Do(t.Context(), func(ctx context.Context) error {
				errs := make([]error, 10)
				var all sync.WaitGroup
				for i := range errs {
					all.Go(func() {
						errs[i] = b.Do(ctx, func(context.Context) error {
							made.Add(1)
							after(time.Second)
							if i < c.fails {
								return errDown
							}
							return nil
						})
					})
				}
				all.Wait()
				return errors.Join(errs...)
			})
			if made.Load() != 10 || (err != nil) != (c.fails > 0) || b.State() != c.want {
				t.Errorf("%s: %d calls, %v, and the breaker is %v, want %v", name, made.Load(), err, b.State(), c.want)
			}
		})
	}
}

// Nested calls of several breakers find their own frames.
func TestCallsOfSeveralBreakers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := New("a", quiet(Config{})), New("b", quiet(Config{}))
		a.Trip()
		b.Trip()
		after(30 * time.Second)
		nothing := func(context.Context) error { return nil }
		err := a.Do(t.Context(), func(ctx context.Context) error {
			return b.Do(ctx, func(ctx context.Context) error {
				return errors.Join(a.Do(ctx, nothing), b.Do(ctx, nothing))
			})
		})
		if err != nil || a.State() != Closed || b.State() != Closed {
			t.Errorf("%v, and the breakers are %v and %v", err, a.State(), b.State())
		}
	})
}
