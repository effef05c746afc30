package retry_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// tenants has 20 tenants call a service for ten seconds, each one call after the
// other. The service takes 20 ms, but the first tenant is told at once to come
// back in 3 s. It returns how many calls of the others succeeded.
func tenants(t *testing.T, b *circuit.Breaker) (succeeded int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	p := retry.Policy{Breaker: b, Observe: func(context.Context, retry.Event) {}}
	var mu sync.Mutex
	var all sync.WaitGroup
	for tenant := range 20 {
		all.Go(func() {
			for ctx.Err() == nil {
				err := retry.Do(ctx, &p, func(context.Context) error {
					if tenant == 0 {
						return retry.After(errDown, 3*time.Second)
					}
					<-time.After(20 * time.Millisecond)
					return nil
				})
				if mu.Lock(); err == nil {
					succeeded++
				}
				mu.Unlock()
				if err != nil {
					<-time.After(10 * time.Millisecond) // or a refusal would take no time at all
				}
			}
		})
	}
	all.Wait()
	return succeeded
}

// One tenant of twenty whose server asks it to wait used to cost the others 527
// of 555 calls: all were delayed.
func TestThrottledTenantDelaysNoOther(t *testing.T) {
	t.Parallel()
	count := func(b *circuit.Breaker) (n int) {
		synctest.Test(t, func(t *testing.T) { n = tenants(t, b) })
		return n
	}
	alone, together := count(nil), count(breaker(circuit.Config{}))
	if together*100 < alone*95 || alone < 9000 {
		t.Errorf("%d calls succeed with a breaker, %d without one; want 95%%", together, alone)
	}
}

// A server that asks one call to wait for a day ends that call, and delays no other call:
// not even when no call gets through.
func TestLongHintDelaysNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker(circuit.Config{})
		p := retry.Policy{Breaker: b}
		export, _ := always(retry.After(errDown, 24*time.Hour))
		for range 20 {
			e := stopped(t, retry.Do(t.Context(), &p, export), retry.ErrRetryLater, 1)
			if left := time.Until(e.RetryAt); left != 24*time.Hour {
				t.Fatalf("to come back in %v", left)
			}
		}
		f, made := calls()
		if err := retry.Do(t.Context(), &p, f); err != nil || made.n != 1 || b.State() != circuit.Closed {
			t.Errorf("another call: %v after %d attempts, breaker %v", err, made.n, b.State())
		}
	})
}

// As many throttled responses in a row as failures would open the breaker do so:
// visibly, until the longest wait is over, and one probe goes first.
func TestThrottledInARowOpens(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ threshold, want int }{{0, 5}, {1, 5}, {2, 5}, {3, 3}, {7, 7}, {circuit.Off, 5}} {
		synctest.Test(t, func(t *testing.T) {
			b := breaker(circuit.Config{FailureThreshold: c.threshold, RecoveryTimeout: time.Hour})
			p := retry.Policy{Breaker: b, MaxAttempts: 1}
			for i := range c.want {
				if b.State() != circuit.Closed {
					t.Fatalf("threshold %d: %v after %d", c.threshold, b.State(), i)
				}
				wait := time.Duration(10+10*(i%2)) * time.Second
				f, _ := always(retry.After(errDown, wait))
				stopped(t, retry.Do(t.Context(), &p, f), retry.ErrExhausted, 1)
			}
			m := b.Metrics()
			if m.State != circuit.Open || m.Reason.Cause() != circuit.Throttled || time.Until(m.RetryAt) != 20*time.Second || !m.NotBefore.Equal(m.RetryAt) {
				t.Fatalf("threshold %d: %+v, %v", c.threshold, m, m.Reason)
			}
			f, made := calls()
			if err := retry.Do(t.Context(), &p, f); !isOpen(err) || made.n != 0 {
				t.Errorf("while it is open: %v after %d attempts", err, made.n)
			}
			<-time.After(20 * time.Second)
			var all sync.WaitGroup
			for range 100 { // a herd: one of it is the probe
				all.Go(func() {
					_ = retry.Do(t.Context(), &p, func(context.Context) error {
						made.n++
						<-time.After(time.Second)
						return nil
					})
				})
			}
			all.Wait()
			if made.n != 1 || b.State() != circuit.Closed {
				t.Errorf("threshold %d: %d probes, then %v", c.threshold, made.n, b.State())
			}
		})
	}
}

func isOpen(err error) bool {
	_, ok := errors.AsType[*circuit.OpenError](err)
	return ok
}

// The success of a call that began before the first throttled response says
// nothing of what came after it; that of a later one ends the row, and so does a
// response that says no.
func TestWhatEndsAThrottledRow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker(circuit.Config{})
		p := retry.Policy{Breaker: b, MaxAttempts: 1}
		throttle := func(n int) {
			for range n {
				f, _ := always(retry.After(errDown, time.Second))
				_ = retry.Do(t.Context(), &p, f)
			}
		}
		for name, end := range map[string]error{"success": nil, "404": &coded{status: 404}, "conflict": retry.Conflict(errDown)} {
			throttle(4)
			_ = retry.Do(t.Context(), &p, func(context.Context) error { return end })
			if throttle(4); b.State() != circuit.Closed {
				t.Fatalf("a %s does not end the row", name)
			}
			_ = retry.Do(t.Context(), &p, func(context.Context) error { return nil })
		}
		before := make(chan error)
		go func() {
			before <- retry.Do(t.Context(), &p, func(context.Context) error { return <-before })
		}()
		synctest.Wait()
		throttle(4)
		before <- nil
		if err := <-before; err != nil {
			t.Fatal(err)
		}
		if throttle(1); b.State() != circuit.Open {
			t.Error("a call from before the row has ended it")
		}
	})
}
