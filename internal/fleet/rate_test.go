package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/fleet"
	"github.com/seed-0f2c7998/perdure/internal/fleet/memory"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// limited returns a process of a node with the settings c.
func limited(t *testing.T, node string, server *memory.Server, c circuit.Config) host {
	t.Helper()
	s := fleet.Start(fleet.Config{
		Name: "fleet", Where: "memory", Node: node, Quorum: 2, Sync: 2 * time.Second, Stale: 3 * time.Second, Connect: server.Connect,
	})
	t.Cleanup(s.Close)
	hidden := cell.Hide(s.Cells())
	c.Store, c.Observe = &hidden, func(context.Context, circuit.Transition) {}
	return host{s, circuit.New("backend", c)}
}

// A callLog records when calls were admitted.
type callLog struct {
	mu sync.Mutex
	at []time.Time
}

// do makes a call of h that waits for at most an hour.
func (l *callLog) do(ctx context.Context, h host) error {
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	return h.Do(ctx, func(context.Context) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.at = append(l.at, time.Now())
		return nil
	})
}

// holds checks that in no time t more than burst + rate x t + 1 calls were admitted. delay
// is how much the network may have moved two calls together.
func (l *callLog) holds(t *testing.T, c circuit.Config, delay time.Duration) {
	t.Helper()
	slices.SortFunc(l.at, time.Time.Compare)
	for i := range l.at {
		for j := i; j < len(l.at); j++ {
			span := l.at[j].Sub(l.at[i]) + delay
			if n, most := j-i+1, float64(max(c.Burst, 1))+c.Rate*span.Seconds()+1; float64(n) > most+1e-6 {
				t.Fatalf("rate %v, burst %d: %d calls in %v, want at most %.2f", c.Rate, c.Burst, n, l.at[j].Sub(l.at[i]), most)
			}
		}
	}
}

// In no time the fleet makes more calls than its rate allows, and it makes them as soon
// as the rate allows: for any rate, any hosts and any calls, over any network.
func TestAFleetKeepsToItsRate(t *testing.T) {
	seed := testseed.Of(t, 0)
	for round := range 12 {
		synctest.Test(t, func(t *testing.T) {
			u := rand.New(rand.NewPCG(seed, uint64(round)))
			c := circuit.Config{Rate: []float64{0.5, 7, 10, 300, 4000}[u.IntN(5)], Burst: 1 + u.IntN(2)*u.IntN(20)}
			server, delay := new(memory.Server), time.Duration(0)
			if round%3 == 2 {
				delay = 20 * time.Millisecond
				server.Disturb(memory.Faults{Delay: delay / 2}, seed)
			}
			loses := round%3 == 1
			if loses {
				server.Disturb(memory.Faults{Loss: 0.05}, seed)
			}
			var log callLog
			var work sync.WaitGroup
			began, n := time.Now(), 0
			for i := range 1 + u.IntN(6) {
				h := limited(t, fmt.Sprint("node-", i), server, c)
				calls := 1 + u.IntN(5)*u.IntN(60)
				n += calls
				for range calls {
					late := time.Duration(u.Int64N(int64(2 * time.Second)))
					work.Go(func() {
						<-time.After(late)
						if err := log.do(t.Context(), h); err != nil {
							t.Error(err)
						}
					})
				}
			}
			work.Wait()
			took := time.Since(began)
			log.holds(t, c, delay)
			most := time.Duration(float64(n) / c.Rate * 1.05 * float64(time.Second))
			t.Logf("round %d: %d calls at %v/s, burst %d, in %v", round, n, c.Rate, c.Burst, took)
			if most += 3*time.Second + time.Duration(3/c.Rate*float64(time.Second)); took > most && !loses {
				t.Errorf("round %d: %d calls at %v/s have taken %v, want at most %v", round, n, c.Rate, took, most)
			}
		})
	}
}

// What a process has reserved when it ends is lost, and no other process has it: the
// others continue at the rate. A process reserves at most a second ahead.
func TestInstantsOfTheDeadAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := circuit.Config{Rate: 20}
		server := new(memory.Server)
		dead, other := limited(t, "dead", server, c), limited(t, "other", server, c)
		ctx, kill := context.WithCancel(t.Context())
		var log callLog
		var work sync.WaitGroup
		for range 200 {
			work.Go(func() { _ = log.do(ctx, dead) })
		}
		<-time.After(time.Second)
		for range 100 {
			work.Go(func() {
				if err := log.do(t.Context(), other); err != nil {
					t.Error(err)
				}
			})
		}
		<-time.After(time.Second)
		server.Cut("dead", true)
		kill()
		began := time.Now()
		work.Wait()
		log.holds(t, c, 0)
		if took := time.Since(began); took > 6500*time.Millisecond {
			t.Errorf("the other process has taken %v, want 100 calls at 20/s and a second", took)
		}
	})
}

// A call that does not wait is admitted when an instant is reserved, and not more often.
func TestCallsThatDoNotWaitHaveTheirShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := circuit.Config{Rate: 10}
		server := new(memory.Server)
		of := []host{limited(t, "a", server, c), limited(t, "b", server, c)}
		for _, h := range of {
			ready(t, h.Store)
		}
		var log callLog
		refused := 0
		for range 2000 {
			for _, h := range of {
				p, err := h.Acquire()
				if err == nil {
					p.Success()
					log.at = append(log.at, time.Now())
				} else if e, ok := errors.AsType[*circuit.LimitError](err); !ok || e.RetryAt.Before(time.Now().Add(-time.Millisecond)) {
					t.Fatalf("refused with %v at %v", err, time.Now())
				} else {
					refused++
				}
			}
			<-time.After(5 * time.Millisecond)
		}
		log.holds(t, c, 0)
		if n := len(log.at); n < 90 {
			t.Errorf("%d calls in ten seconds, and %d were refused, want 100 at 10/s", n, refused)
		}
		before := server.Calls()
		<-time.After(20 * time.Second)
		if n := server.Calls() - before; n > 28 {
			t.Errorf("two processes without calls have called the server %d times in 20 s, want once each read", n)
		}
	})
}

// Reserved instants that are not used expire soon: processes cannot save instants for a
// moment at which all have calls.
func TestInstantsAreNotSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := circuit.Config{Rate: 10}
		server := new(memory.Server)
		var of []host
		for i := range 10 {
			of = append(of, limited(t, fmt.Sprint("node-", i), server, c))
			ready(t, of[i].Store)
		}
		for range 5 {
			for _, h := range of {
				_, _ = h.Acquire() // refused, and the next call would be admitted
				<-time.After(200 * time.Millisecond)
			}
			n := 0
			for _, h := range of {
				if h.Allow() {
					n++
				}
			}
			if n > 2 {
				t.Fatalf("%d calls of ten processes at once, want 2 at most", n)
			}
			<-time.After(time.Second)
		}
	})
}

// A call that cannot wait long enough is refused at once, with the instant.
func TestARateThatCannotBeWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := new(memory.Server)
		a, b := limited(t, "a", server, circuit.Config{Rate: 1}), limited(t, "b", server, circuit.Config{Rate: 1})
		var log callLog
		for range 20 {
			go func() { _ = log.do(t.Context(), a) }()
		}
		for i := range 10 {
			go func() { _ = log.do(t.Context(), b) }()
			<-time.After(100 * time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			began := time.Now()
			err := b.Do(ctx, func(context.Context) error { return nil })
			cancel()
			e, ok := errors.AsType[*circuit.LimitError](err)
			if !ok || time.Since(began) > 10*time.Millisecond || e.RetryAt.Before(began.Add(400*time.Millisecond)) {
				t.Fatalf("call %d: %v after %v", i, err, time.Since(began))
			}
		}
		<-time.After(550 * time.Millisecond) // between two instants
		if n := b.Metrics().Queued; n == 0 {
			t.Error("Metrics show no queued calls")
		}
	})
}

// Without the server each host has an equal share of the rate, and together they do not
// exceed it; a host that was alone has the whole rate.
func TestARateWithoutTheServer(t *testing.T) {
	for _, n := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			c := circuit.Config{Rate: 20}
			server := new(memory.Server)
			var of []host
			var log callLog
			for i := range n {
				of = append(of, limited(t, fmt.Sprint("node-", i), server, c))
				ready(t, of[i].Store)
			}
			for range 2 { // so each knows how many hosts are alive
				for _, h := range of {
					if err := log.do(t.Context(), h); err != nil {
						t.Error(err)
					}
				}
			}
			server.Stop()
			<-time.After(5 * time.Second)
			var work sync.WaitGroup
			began := time.Now()
			for _, h := range of {
				for range 100 / n {
					work.Go(func() {
						if err := log.do(t.Context(), h); err != nil {
							t.Error(err)
						}
					})
				}
			}
			work.Wait()
			c.Burst = n // each has one
			log.holds(t, c, 0)
			if took := time.Since(began); took > 6*time.Second {
				t.Errorf("%d hosts without the server: 100 calls at 20/s have taken %v", n, took)
			}
			server.Start()
			<-time.After(5 * time.Second)
			if err := log.do(t.Context(), of[0]); err != nil {
				t.Error(err)
			}
			log.holds(t, c, 0)
		})
	}
}

// Of two limits on one key the lower one is in force, until no process has it.
func TestTheLowerRateIsInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := new(memory.Server)
		low, high := limited(t, "low", server, circuit.Config{Rate: 2}), limited(t, "high", server, circuit.Config{Rate: 50})
		var log callLog
		var work sync.WaitGroup
		each := func(n int, of ...host) time.Duration {
			began := time.Now()
			for range n {
				for _, h := range of {
					work.Go(func() {
						if err := log.do(t.Context(), h); err != nil {
							t.Error(err)
						}
					})
				}
			}
			work.Wait()
			return time.Since(began)
		}
		_ = log.do(t.Context(), low)
		log.at = nil
		if took := each(10, high, low); took < 9*time.Second {
			t.Errorf("20 calls of two rates have taken %v, want those of the lower one, 2/s", took)
		}
		log.holds(t, circuit.Config{Rate: 2}, 0)
		if m := high.Metrics(); m.Rate != 2 {
			t.Errorf("a process with a higher rate uses %v/s, want 2", m.Rate)
		}
		<-time.After(3 * time.Minute)
		_ = each(1, high)
		if took := each(20, high); took > time.Second {
			t.Errorf("20 calls have taken %v, and no process has the lower rate any more", took)
		}
	})
}

// Calls that came when a process had reserved all that it may used to get their instants
// with the next read of the server, two seconds later.
func TestLaterCallsAreOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := limited(t, "a", new(memory.Server), circuit.Config{Rate: 10})
		ready(t, h.Store)
		var log callLog
		var work sync.WaitGroup
		began := time.Now()
		for range 60 {
			work.Go(func() {
				if err := log.do(t.Context(), h); err != nil {
					t.Error(err)
				}
			})
			<-time.After(7 * time.Millisecond)
		}
		work.Wait()
		slices.SortFunc(log.at, time.Time.Compare)
		for i, at := range log.at {
			if want := time.Duration(i) * 100 * time.Millisecond; at.Sub(began) > want+time.Millisecond {
				t.Fatalf("call %d went after %v, want %v", i, at.Sub(began), want)
			}
		}
	})
}
