package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/fleet/memory"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/retry"
)

// The storm of package sim, for hosts that share nothing but a fleet: 1,600 operations a
// second of 20 hosts, to a service with 40 workers of 20 ms and a queue, with a fault
// from the fourth second to the ninth.
const (
	stormHosts = 20
	stormRate  = 1600.0
	faultFrom  = 4 * time.Second
	faultFor   = 5 * time.Second
	stormEnd   = 14 * time.Second
)

// A storm is one run, and what came of it.
type storm struct {
	mu      sync.Mutex
	chance  *rand.Rand
	began   time.Time
	workers []time.Time // when each is free
	down    bool
	queue   int

	lost, attempts int // operations, and attempts in the fault
	calls          int // of the fleet's server in the fault
}

func (s *storm) random(f func(*rand.Rand)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.chance)
}

// call is one attempt.
func (s *storm) call(ctx context.Context) error {
	s.mu.Lock()
	now := time.Now()
	if in := now.Sub(s.began) - faultFrom; in >= 0 && in < faultFor {
		s.attempts++
	}
	if s.down || s.queue >= 2000 {
		s.mu.Unlock()
		return retry.Transient(errors.New("503"))
	}
	first := 0
	for i, free := range s.workers {
		if free.Before(s.workers[first]) {
			first = i
		}
	}
	done := s.workers[first]
	if done.Before(now) {
		done = now
	}
	done = done.Add(time.Duration(10+s.chance.IntN(20)) * time.Millisecond)
	s.workers[first] = done
	s.queue++
	s.mu.Unlock()
	time.AfterFunc(done.Sub(now), func() { s.random(func(*rand.Rand) { s.queue-- }) })
	select {
	case <-time.After(done.Sub(now)):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// operate makes h's operations until the end.
func (s *storm) operate(ctx context.Context, h host, work *sync.WaitGroup) {
	p := retry.Policy{
		MaxAttempts: 5, JitterMode: retry.FullJitter, BaseDelay: 50 * time.Millisecond, MaxDelay: time.Second,
		AttemptTimeout: 200 * time.Millisecond, Breaker: h.Breaker, Observe: func(context.Context, retry.Event) {},
	}
	for time.Since(s.began) < stormEnd {
		var pause float64
		s.random(func(u *rand.Rand) { pause = u.ExpFloat64() * stormHosts / stormRate })
		<-time.After(time.Duration(pause * float64(time.Second)))
		work.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			if retry.Do(ctx, &p, s.call) != nil {
				s.random(func(*rand.Rand) { s.lost++ })
			}
		})
	}
}

// run makes one storm, of hosts that share their gates or do not.
func (s *storm) run(t *testing.T, fault func(), shared bool) {
	t.Helper()
	server, work := new(memory.Server), new(sync.WaitGroup)
	var of []host
	for i := range stormHosts {
		of = append(of, limited(t, fmt.Sprint("node-", i), server, circuit.Config{Gate: circuit.Wait, Budget: 10}))
		ready(t, of[i].Store)
	}
	if !shared {
		server.Stop()
	}
	s.began, s.workers = time.Now(), make([]time.Time, 40)
	for _, h := range of {
		work.Go(func() { s.operate(t.Context(), h, work) })
	}
	<-time.After(faultFrom)
	before := server.Calls()
	s.random(func(*rand.Rand) { fault() })
	<-time.After(faultFor)
	s.random(func(*rand.Rand) {
		s.down = false
		s.workers = append(s.workers, make([]time.Time, 40-len(s.workers))...)
	})
	s.calls = server.Calls() - before
	work.Wait()
}

// Hosts that share the state of their gates lose no more operations than they would alone,
// send fewer attempts in an outage, and send the server little more than that they are
// alive.
func TestAStormOfAFleet(t *testing.T) {
	seed := testseed.Of(t, 1)
	for _, fault := range []string{"outage", "brownout"} {
		var of [2]storm
		for i := range of {
			synctest.Test(t, func(t *testing.T) {
				s := &of[i]
				s.chance = rand.New(rand.NewPCG(seed, 0))
				s.run(t, map[string]func(){
					"outage":   func() { s.down = true },
					"brownout": func() { s.workers = s.workers[:8] },
				}[fault], i == 1)
			})
			t.Logf("%s, shared %v: lost %.2f s, %d attempts and %d calls of the server in the fault",
				fault, i == 1, float64(of[i].lost)/stormRate, of[i].attempts, of[i].calls)
		}
		alone, shared := &of[0], &of[1]
		if float64(shared.lost-alone.lost) > 0.3*stormRate {
			t.Errorf("%s: %d operations are lost, and %d alone", fault, shared.lost, alone.lost)
		}
		if most := map[string]int{"outage": alone.attempts * 3 / 4, "brownout": alone.attempts * 11 / 10}[fault]; shared.attempts > most {
			t.Errorf("%s: %d attempts, and %d alone", fault, shared.attempts, alone.attempts)
		}
		if shared.calls > 20*stormHosts {
			t.Errorf("%s: %d hosts have made %d calls of the server in %v", fault, stormHosts, shared.calls, faultFor)
		}
	}
}
