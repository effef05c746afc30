package retry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// around are the layers that a call may have around it, all with one breaker.
func around() map[string]func(context.Context, *circuit.Breaker, func(context.Context) error) error {
	return map[string]func(context.Context, *circuit.Breaker, func(context.Context) error) error{
		"Breaker.Do": func(ctx context.Context, b *circuit.Breaker, f func(context.Context) error) error {
			return b.Do(ctx, f)
		},
		"an error of its own": func(ctx context.Context, b *circuit.Breaker, f func(context.Context) error) error {
			return b.Do(ctx, func(ctx context.Context) error {
				if err := f(ctx); err != nil {
					return errors.New("the step failed")
				}
				return nil
			})
		},
		"retry.Do": func(ctx context.Context, b *circuit.Breaker, f func(context.Context) error) error {
			p := retry.Policy{MaxAttempts: 1, Breaker: b, Observe: func(context.Context, retry.Event) {}}
			return retry.Do(ctx, &p, f)
		},
	}
}

// deep makes a call of f within n layers.
func deep(ctx context.Context, n int, layer func(context.Context, *circuit.Breaker, func(context.Context) error) error,
	b *circuit.Breaker, f func(context.Context) error,
) error {
	if n == 0 {
		return f(ctx)
	}
	return layer(ctx, b, func(ctx context.Context) error { return deep(ctx, n-1, layer, b, f) })
}

// However many layers have one breaker, an operation that fails counts once: one after the other and side by side, in a
// process that has just begun and in one that was well before.
func TestLayersCountAnOperationOnce(t *testing.T) {
	for name, layer := range around() {
		for n := 1; n <= 4; n++ {
			for _, began := range []bool{false, true} {
				for _, together := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/%d layers/began=%v/together=%v", name, n, began, together), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							b := circuit.New("b", circuit.Config{Observe: func(context.Context, circuit.Transition) {}})
							var down error
							operation := func() error {
								return deep(t.Context(), n, layer, b, func(context.Context) error {
									time.Sleep(time.Second) //nolint:forbidigo // of the bubble
									return down
								})
							}
							if began {
								if err := operation(); err != nil {
									t.Fatal(err)
								}
							}
							down = errors.New("down")
							operations(4, together, operation)
							if got := b.Metrics(); got.State != circuit.Closed || got.Failures != 4 {
								t.Errorf("%v with %d failures after 4 operations that failed", b, got.Failures)
							}
							if _ = operation(); b.State() != circuit.Open {
								t.Errorf("%v after 5 operations that failed", b)
							}
						})
					})
				}
			}
		}
	}
}

// operations makes n operations.
func operations(n int, together bool, operation func() error) {
	var all sync.WaitGroup
	for range n {
		if !together {
			_ = operation()
			continue
		}
		all.Go(func() { _ = operation() })
	}
	all.Wait()
}

// An attempt that reaches the outer layer's timeout is a failure of the outer layer. The inner layer counts no failure:
// the deadline is its caller's.
func TestTimeoutAroundARetryCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := circuit.New("b", circuit.Config{Observe: func(context.Context, circuit.Transition) {}})
		inner := retry.Policy{Breaker: b, Observe: func(context.Context, retry.Event) {}}
		outer := inner
		outer.MaxAttempts, outer.AttemptTimeout = 1, 100*time.Millisecond
		for n := range 5 {
			if b.State() != circuit.Closed {
				t.Fatalf("open after %d operations", n)
			}
			_ = retry.Do(t.Context(), &outer, func(ctx context.Context) error {
				return retry.Do(ctx, &inner, func(ctx context.Context) error {
					<-ctx.Done()
					return ctx.Err()
				})
			})
		}
		if b.State() != circuit.Open {
			t.Errorf("%v with %d failures after 5 operations that timed out", b, b.Metrics().Failures)
		}
	})
}

// A context may outlive the operation that it is from: what is done with it then is an operation by itself, be it begun
// after that one ended or before.
func TestCallsThatOutliveTheirLayer(t *testing.T) {
	for name, layer := range around() {
		for _, overlaps := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/overlaps=%v", name, overlaps), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := circuit.New("b", circuit.Config{Observe: func(context.Context, circuit.Transition) {}})
					fine := func(context.Context) error { return nil }
					var kept context.Context
					begun, end, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
					_ = layer(t.Context(), b, func(ctx context.Context) error {
						kept = context.WithoutCancel(ctx)
						b.Trip()
						time.Sleep(30 * time.Second) //nolint:forbidigo // of the bubble
						if overlaps {
							_ = layer(ctx, b, func(context.Context) error { return errors.New("down") })
							go func() {
								ended <- layer(kept, b, func(context.Context) error { close(begun); <-end; return nil })
							}()
							<-begun
						}
						return nil
					})
					close(end)
					if !overlaps {
						ended <- layer(kept, b, fine)
					}
					if err := <-ended; err != nil || b.State() != circuit.Closed {
						t.Errorf("%v after a probe that ended with %v", b, err)
					}
					if err := layer(t.Context(), b, fine); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// The context of a call prints as one, without what others may be changing.
func TestContextOfALayerPrints(t *testing.T) {
	b := circuit.New("https://u:secret@bikes.example", circuit.Config{})
	_ = b.Do(t.Context(), func(ctx context.Context) error { // the first call of b looks for layers, and has its own
		text := fmt.Sprint(ctx)
		if strings.Contains(text, "secret") || strings.Contains(text, "{") || !strings.Contains(text, "WithBreaker") {
			t.Error(text)
		}
		return nil
	})
}
