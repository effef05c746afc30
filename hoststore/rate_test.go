//go:build unix

package hoststore_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
)

// Callers of several stores of one file share the instants of one schedule. A caller that
// leaves gives its instant back, or the instant is lost.
func TestStoresOfOneFileShareARate(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		const calls, interval = 300, 20 * time.Millisecond
		var breakers []*circuit.Breaker
		for range 4 {
			store := hoststore.Open(dir)
			defer store.Close()
			breakers = append(breakers, circuit.New("api", circuit.Config{Store: store, Rate: 50}))
		}
		var mu sync.Mutex
		var at []time.Duration
		var all sync.WaitGroup
		start := time.Now()
		for i := range calls {
			all.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i%10 == 0 {
					time.AfterFunc(interval/2, cancel)
				}
				_ = breakers[i%4].Do(ctx, func(context.Context) error {
					mu.Lock()
					defer mu.Unlock()
					at = append(at, time.Since(start))
					return nil
				})
			})
		}
		all.Wait()
		slices.Sort(at)
		if most := calls * 9 / 10; len(at) < most || len(at) > most+1 {
			t.Fatalf("%d calls were made, want %d or, if the first was to leave, one more", len(at), most)
		}
		for i, d := range at {
			if turn := d / interval; d%interval != 0 || turn >= calls || i > 0 && d == at[i-1] {
				t.Errorf("call %d was made after %v, want an instant of its own on a schedule of %d", i+1, d, calls)
			}
		}
	})
}
