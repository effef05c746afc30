package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/fleet"
	"github.com/seed-0f2c7998/perdure/internal/fleet/memory"
)

// A host is a process of a fleet.
type host struct {
	*fleet.Store
	*circuit.Breaker
}

// hosts returns n hosts with a gate, ready, in a fleet with a quorum of two.
func hosts(t *testing.T, n int, server *memory.Server) (all []host) {
	t.Helper()
	for i := range n {
		s := fleet.Start(fleet.Config{
			Name: "fleet", Where: "memory", Node: fmt.Sprint("node-", i), Quorum: 2, Sync: 2 * time.Second, Stale: 3 * time.Second, Connect: server.Connect,
		})
		t.Cleanup(s.Close)
		hidden := cell.Hide(s.Cells())
		b := circuit.New("backend", circuit.Config{Store: &hidden, Gate: circuit.Wait, Observe: func(context.Context, circuit.Transition) {}})
		ready(t, s)
		all = append(all, host{s, b})
	}
	return all
}

var errDown = errors.New("down")

// A service is what hosts call. It counts what it is sent.
type service struct {
	mu        sync.Mutex
	down      bool
	refuses   map[int]bool // hosts whose calls always fail
	attempts  map[int]int
	succeeded map[int]time.Time // when each host had its first success since set
}

func (s *service) set(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down, s.attempts, s.succeeded = down, map[int]int{}, map[int]time.Time{}
}

func (s *service) sent() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.attempts {
		n += k
	}
	return n
}

// has reports whether the host has had a success since set.
func (s *service) has(host int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.succeeded[host].IsZero()
}

func (s *service) call(host int) error {
	<-time.After(10 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts[host]++
	if s.down || s.refuses[host] {
		return errDown
	}
	if s.succeeded[host].IsZero() {
		s.succeeded[host] = time.Now()
	}
	return nil
}

// load has each host call s from now on, 20 times a second, each caller for at most
// three seconds, until the test ends. It returns how many operations there were.
func load(t *testing.T, of []host, s *service) (operations func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	t.Cleanup(func() { cancel(); work.Wait() })
	var mu sync.Mutex
	n := 0
	for i, h := range of {
		work.Go(func() {
			<-time.After(time.Duration(i) * 2345678 * time.Nanosecond)
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
				mu.Lock()
				n++
				mu.Unlock()
				work.Go(func() {
					ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
					defer cancel()
					_ = h.Do(ctx, func(context.Context) error { return s.call(i) })
				})
			}
		})
	}
	return func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// fleetState is what the first of them knows of the fleet.
func fleetState(of []host) circuit.State {
	st, _ := of[0].Status("backend")
	return st.State
}
