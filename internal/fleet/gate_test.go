package fleet_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/fleet"
	"github.com/seed-0f2c7998/perdure/internal/fleet/memory"
)

// In an outage the fleet sends fewer attempts than its hosts would alone. After the
// first success on one host, all others probe within the time between two probes.
func TestAFleetProbesAsOne(t *testing.T) {
	counts := map[bool]int{}
	for _, shared := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			server := new(memory.Server)
			of, s := hosts(t, 20, server), new(service)
			if !shared {
				server.Stop()
			}
			s.set(false)
			operations := load(t, of, s)
			<-time.After(5 * time.Second)
			s.set(true)
			before := operations()
			<-time.After(20 * time.Second)
			counts[shared] = s.sent()
			t.Logf("shared %v: %d attempts of %d operations in an outage of 20 s", shared, counts[shared], operations()-before)
			if shared && fleetState(of) != circuit.Open {
				t.Errorf("the fleet is %v", fleetState(of))
			}
			s.set(false)
			back := time.Now()
			<-time.After(2500 * time.Millisecond)
			s.mu.Lock()
			defer s.mu.Unlock()
			var first, last time.Time
			for i := range of {
				at := s.succeeded[i]
				if at.IsZero() {
					t.Fatalf("shared %v: host %d has no success", shared, i)
				}
				if first.IsZero() || at.Before(first) {
					first = at
				}
				if at.After(last) {
					last = at
				}
			}
			t.Logf("shared %v: first success after %v, last %v later", shared, first.Sub(back), last.Sub(first))
			if shared && last.Sub(first) > 700*time.Millisecond {
				t.Errorf("the last host has its first success %v after the first host, want one probe's time", last.Sub(first))
			}
			if shared && fleetState(of) != circuit.Closed {
				t.Errorf("after the outage the fleet is %v", fleetState(of))
			}
		})
	}
	if counts[true] > counts[false]/2 {
		t.Errorf("%d attempts in an outage where the fleet shares its gates, %d where it does not, want less than half", counts[true], counts[false])
	}
}

// limit has each of the hosts fail until its gate is limited.
func limit(t *testing.T, of ...host) {
	t.Helper()
	for i, h := range of {
		for n := range 40 {
			if p, err := h.Acquire(); err == nil && n < 20 {
				p.Success() // it knows the service
			} else if err == nil {
				p.Failure()
			}
		}
		if h.State() == circuit.Closed {
			t.Fatalf("failures have not limited host %d", i)
		}
	}
}

// A manual override on one node used to have no effect on a limited gate of another
// node.
func TestAnOverrideReachesALimitedGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of := hosts(t, 3, new(memory.Server))
		for _, set := range []struct {
			name string
			do   func(*circuit.Breaker)
			want circuit.State
		}{
			{"trip", (*circuit.Breaker).Trip, circuit.Open},
			{"reset", (*circuit.Breaker).Reset, circuit.Closed},
			{"isolate", (*circuit.Breaker).Isolate, circuit.Isolated},
			{"reset", (*circuit.Breaker).Reset, circuit.Closed},
			{"reset by one that is not limited", func(b *circuit.Breaker) {
				b.Reset()
				<-time.After(3 * time.Second)
				limit(t, of[1])
				<-time.After(time.Second)
				b.Reset()
			}, circuit.Closed},
			{"reset of the whole fleet", func(*circuit.Breaker) { of[0].Store.Reset("backend") }, circuit.Closed},
		} {
			<-time.After(3 * time.Second)
			limit(t, of...)
			<-time.After(time.Second)
			set.do(of[0].Breaker)
			<-time.After(2500 * time.Millisecond) // a read
			for i, h := range of {
				if h.State() != set.want {
					t.Errorf("%s at one node: node %d is %v, want %v", set.name, i, h.State(), set.want)
				}
			}
			if set.want == circuit.Closed && !of[2].Allow() {
				t.Errorf("%s at one node: another node's gate is still limited", set.name)
			}
		}
	})
}

// A node whose own network fails limits itself and no other node: one node is no quorum.
// Two of five nodes warn the others, whose calls still succeed.
func TestNodesThatFailAloneLimitNoOther(t *testing.T) {
	for _, broken := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			of, s := hosts(t, 5, new(memory.Server)), new(service)
			s.set(false)
			load(t, of, s)
			<-time.After(2 * time.Second)
			s.mu.Lock()
			s.refuses = map[int]bool{0: true, 1: broken > 1}
			s.mu.Unlock()
			for range 200 {
				<-time.After(100 * time.Millisecond)
				for i, h := range of[broken:] {
					if h.State() != circuit.Closed {
						t.Fatalf("%d of 5 are broken, and node %d is %v", broken, broken+i, h.State())
					}
				}
			}
			if want := []circuit.State{1: circuit.Closed, 2: circuit.Open}[broken]; fleetState(of) != want {
				t.Errorf("%d of 5 are broken: the fleet is %v, want %v", broken, fleetState(of), want)
			}
		})
	}
}

// A process that starts in an outage sends as many probes as the fleet does, not ten
// failures of its own.
func TestALaterProcessFollowsTheFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, s := new(memory.Server), new(service)
		of := hosts(t, 2, server)
		s.set(true)
		load(t, of, s)
		<-time.After(5 * time.Second)
		late := hosts(t, 3, server)[2:]
		if late[0].State() != circuit.Open {
			t.Errorf("a later process starts %v, want open", late[0].State())
		}
		sent := 0
		for range 100 {
			if p, err := late[0].Acquire(); err == nil {
				sent++
				p.Failure()
			}
			<-time.After(20 * time.Millisecond)
		}
		if sent > 2 {
			t.Errorf("a later process has sent %d attempts in two seconds, want at most 2", sent)
		}
	})
}

// Whatever the network does, all hosts recover after the service.
func TestGatesOverABadNetwork(t *testing.T) {
	for seed := range uint64(5) {
		synctest.Test(t, func(t *testing.T) {
			server, s := new(memory.Server), new(service)
			server.Disturb(memory.Faults{Delay: 200 * time.Millisecond, Loss: 0.2, LostPush: 0.5, Duplicate: 0.5}, seed)
			of := hosts(t, 5, server)
			s.set(false)
			load(t, of, s)
			for round := range 3 {
				s.set(true)
				<-time.After(10 * time.Second)
				if round == 1 {
					server.Forget()
				}
				s.set(false)
				<-time.After(10 * time.Second) // the queues have to drain
				for i, h := range of {
					if h.State() != circuit.Closed {
						t.Errorf("seed %d, outage %d: node %d is %v ten seconds after it", seed, round, i, h.State())
					}
				}
			}
		})
	}
}

// In an outage in which the server is unreachable too, each host sends its own probes.
func TestGatesWithoutTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, s := new(memory.Server), new(service)
		of := hosts(t, 4, server)
		s.set(true)
		load(t, of, s)
		sent := func() (n int) {
			s.set(true)
			<-time.After(10 * time.Second)
			return s.sent()
		}
		<-time.After(5 * time.Second)
		shared := sent()
		server.Stop()
		<-time.After(4 * time.Second)
		if alone := sent(); alone < shared*3/2 {
			t.Errorf("four hosts without the server send %d probes, and %d with it", alone, shared)
		}
	})
}

// A breaker without a gate takes part: the votes of gates open it, until a probe of its
// own or a success at a gate, and its own votes shut no gate.
func TestGatesBesideABreakerWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, s := new(memory.Server), new(service)
		of := hosts(t, 3, server)
		of = append(of, limited(t, "old", server, circuit.Config{}))
		ready(t, of[3].Store)
		s.set(false)
		load(t, of, s)
		for round := range 3 {
			<-time.After(2 * time.Second)
			s.set(true)
			<-time.After(20 * time.Second)
			if of[3].State() == circuit.Closed {
				t.Errorf("outage %d: the breaker without a gate is closed", round)
			}
			s.set(false)
			<-time.After(3 * time.Second)
			for i := range of[:3] {
				if !s.has(i) {
					t.Errorf("outage %d: host %d has no success in three seconds", round, i)
				}
			}
			<-time.After(40 * time.Second) // its own open time, and the probe
			for i, h := range of {
				if h.State() != circuit.Closed {
					t.Errorf("outage %d: node %d is %v after it", round, i, h.State())
				}
			}
			if fleetState(of) != circuit.Closed {
				t.Errorf("outage %d: the fleet is %v after it", round, fleetState(of))
			}
		}
	})
}

// A process with a gate and no calls used to take the lease when it started, and a
// breaker without a gate waited for its probe.
func TestAnIdleGateLeavesTheLeaseToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := new(memory.Server)
		of := []host{limited(t, "a", server, circuit.Config{}), limited(t, "b", server, circuit.Config{})}
		for _, h := range of {
			ready(t, h.Store)
			for range 5 {
				h.RecordFailure()
			}
		}
		<-time.After(31 * time.Second)
		hosts(t, 1, server)
		<-time.After(time.Second)
		of[0].Allow() // refused while the lease is requested
		<-time.After(2500 * time.Millisecond)
		if p, err := of[0].Acquire(); err != nil || !p.Probe() {
			t.Errorf("no probe: %v", err)
		}
	})
}

// The processes of one host share one gate. The vote of one process used to remain after
// the first success of another.
func TestAVoteEndsWithASuccessOfTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, shared := new(memory.Server), new(cell.Memory)
		var of []host
		for _, node := range []string{"a", "a", "b", "c"} {
			local := cell.Store(new(cell.Memory))
			if node == "a" {
				local = shared
			}
			s := fleet.Start(fleet.Config{
				Name: "fleet", Where: "memory", Node: node, Quorum: 2, Local: local, Sync: 2 * time.Second, Stale: 3 * time.Second, Connect: server.Connect,
			})
			t.Cleanup(s.Close)
			hidden := cell.Hide(s.Cells())
			b := circuit.New("backend", circuit.Config{Store: &hidden, Gate: circuit.Wait, Observe: func(context.Context, circuit.Transition) {}})
			ready(t, s)
			of = append(of, host{s, b})
		}
		votes := func(h host) {
			limit(t, h)
			<-time.After(time.Second)
			if p, err := h.Acquire(); err == nil { // a probe
				p.Failure()
			}
			<-time.After(10 * time.Millisecond)
		}
		votes(of[0])
		<-time.After(time.Second)
		p, err := of[1].Acquire()
		if err != nil {
			t.Fatal(err)
		}
		p.Success()
		<-time.After(2500 * time.Millisecond)
		votes(of[2])
		if fleetState(of) != circuit.Closed {
			t.Error("the fleet opens by the votes of a host that has recovered and of another host")
		}
		votes(of[3])
		if <-time.After(time.Second); fleetState(of) != circuit.Open {
			t.Errorf("by two votes the fleet is %v, want open", fleetState(of))
		}
	})
}
