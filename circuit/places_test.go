package circuit_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// With more callers than the places can serve, calls that get a place can still finish.
// Each call used to get its place when its deadline was near, and most calls were cut: at
// four times the load, 16 of 100 a second succeeded.
func TestPlacesGoToCallsThatCanEnd(t *testing.T) {
	for _, gate := range []circuit.GateMode{circuit.NoGate, circuit.Wait, circuit.FailFast} {
		for _, callers := range []int{20, 200, 400, 1000} {
			for _, spread := range []bool{false, true} {
				t.Run(fmt.Sprintf("gate %v, %d callers, spread %v", gate, callers, spread), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { saturate(t, gate, callers, spread) })
				})
			}
		}
	}
}

// saturate has so many callers, of a second's patience each, make calls of 20 ms on 2 places.
func saturate(t *testing.T, gate circuit.GateMode, callers int, spread bool) {
	t.Helper()
	b := circuit.New("x", circuit.Config{Concurrency: 2, Gate: gate, Observe: func(context.Context, circuit.Transition) {}})
	var all sync.WaitGroup
	var succeeded, cut atomic.Int32
	const runs = 10 * time.Second
	begin := time.Now()
	for i := range callers {
		r := rand.New(rand.NewPCG(1, uint64(i)))
		all.Go(func() {
			_ = sleep(t.Context(), time.Duration(r.Int64N(int64(time.Second))))
			for time.Since(begin) < runs {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				err := b.Do(ctx, func(ctx context.Context) error {
					took := 20 * time.Millisecond
					if spread {
						took = time.Duration(r.Int64N(int64(2 * took)))
					}
					err := sleep(ctx, took)
					if err != nil {
						cut.Add(1)
					}
					return err
				})
				cancel()
				if err == nil {
					succeeded.Add(1)
				}
				_ = sleep(t.Context(), 10*time.Millisecond)
			}
		})
	}
	all.Wait()
	if want := int32(min(callers*25, 850)); succeeded.Load() < want || cut.Load() > 100 {
		t.Errorf("%d calls succeeded and %d were cut, want at least %d, and at most 100", succeeded.Load(), cut.Load(), want)
	}
	allFree(t, b, 2)
}

// A permit that is used twice, as by a deferred Cancel, frees one place. It used to free
// two, so more calls than allowed were in flight from then on.
func TestAPermitThatIsUsedTwiceFreesOnePlace(t *testing.T) {
	uses := map[string]func(circuit.Permit){
		"success":  circuit.Permit.Success,
		"failure":  circuit.Permit.Failure,
		"cancel":   circuit.Permit.Cancel,
		"conflict": circuit.Permit.Conflict,
		"told":     func(p circuit.Permit) { p.Throttled(0) },
	}
	for first, use := range uses {
		for second, again := range uses {
			b := circuit.New("x", limited(2))
			other, err := b.Acquire()
			p, err2 := b.Acquire()
			if err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
			use(p)
			again(p)
			if n := b.Metrics().InFlight; n != 1 {
				t.Errorf("%s, then %s: %d in flight, want the other call", first, second, n)
			}
			other.Success()
			allFree(t, b, 2)
		}
	}
}
