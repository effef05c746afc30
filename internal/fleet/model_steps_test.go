package fleet

import (
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/fleet/twin"
)

// steps returns all events of process i.
func steps(i int, bug string) []step {
	each := func(do func(w *world, n *node) bool) func(*world) bool {
		return func(w *world) bool { return do(w, &w.n[i]) }
	}
	return []step{
		{"its breaker trips", each(func(w *world, n *node) bool {
			if n.local != closed || w.trips == 0 {
				return false
			}
			w.trips--
			n.changed(circuit.Closed, circuit.Open, waiting)
			return true
		})},
		{"it is throttled until it trips", each(func(w *world, n *node) bool {
			if n.local != closed || w.asks == 0 {
				return false
			}
			w.asks--
			n.changed(circuit.Closed, circuit.Open, held)
			return true
		})},
		{"its open time is up", each(func(w *world, n *node) bool { return !w.overrides.lazy && n.ripen(&w.s) })},
		{"it calls", each(func(_ *world, n *node) bool {
			if n.local != ready && n.local != idle || n.sent && n.flight.lost {
				return false
			}
			return n.call(bug)
		})},
		{"its probe succeeds", each(func(_ *world, n *node) bool {
			if n.local != probing {
				return false
			}
			n.out = max(n.out-1, 0)
			n.changed(circuit.HalfOpen, circuit.Closed, closed)
			return true
		})},
		{"its probe fails", each(func(w *world, n *node) bool {
			if n.local != probing || w.failures == 0 {
				return false
			}
			w.failures--
			n.out = max(n.out-1, 0)
			n.changed(circuit.HalfOpen, circuit.Open, waiting)
			return true
		})},
		{"its probe is throttled", each(func(w *world, n *node) bool {
			if n.local != probing || w.asks == 0 {
				return false
			}
			w.asks--
			n.out = max(n.out-1, 0)
			n.changed(circuit.HalfOpen, circuit.Open, held)
			return true
		})},
		{"its probe is cancelled", each(func(w *world, n *node) bool {
			if n.local != probing || w.cancels == 0 {
				return false
			}
			w.cancels--
			n.out, n.local = max(n.out-1, 0), idle
			return true
		})},
		{"it sends", each(func(w *world, n *node) bool {
			if n.sent || n.alone || !n.useful(&w.s) {
				return false
			}
			n.flight, n.next = n.next, request{}
			n.flight.ask = n.flight.ask || n.m.renewsLease(present)
			n.sent, n.done, n.fresh = true, false, true
			if !w.slow {
				w.execute(i, bug)
			}
			return true
		})},
		{"the server executes", func(w *world) bool { return w.execute(i, bug) }},
		{"the response arrives", each(func(w *world, n *node) bool {
			if !n.sent || !n.done {
				return false
			}
			if bug == "a lease outlives its use" {
				n.m.settledToken = 0
			}
			return n.arrive(w, bug)
		})},
		{"the response is lost", each(func(w *world, n *node) bool {
			if !n.sent || w.drops == 0 {
				return false
			}
			w.drops--
			n.requeue()
			return true
		})},
		{"a push arrives", each(func(_ *world, n *node) bool {
			if !n.pushed {
				return false
			}
			n.pushed = false
			n.applyView(n.message, time.Time{}, nil, bug)
			n.message = view{}
			return true
		})},
		{"it is cut off", each(func(w *world, n *node) bool {
			if w.cuts == 0 || n.alone {
				return false
			}
			w.cuts--
			n.alone, n.out = true, 0
			if n.sent {
				n.requeue()
			}
			n.next.old = n.next.manual
			return true
		})},
		{"it is back", each(func(_ *world, n *node) bool {
			was := n.alone
			n.alone = false
			return was
		})},
	}
}

// serverSteps returns the events of the server.
func serverSteps() []step {
	return []step{
		{"the fleet's open time is up", func(w *world) bool {
			was := w.s.Due || w.overrides.lazy // no step waits for the end of an override
			w.s.Due, w.s.Far = true, false
			return !was
		}},
		{"the lease ends", func(w *world) bool {
			if !w.s.Leased {
				return false
			}
			for i := range w.n {
				if n := &w.n[i]; n.name() == w.s.Owner {
					n.m.leaseEnds, n.out = past, 0 // it ended there before; the probe hangs
					if n.m.view.process == n.name() {
						n.m.view.lease = past
					}
				} else if n.m.view.gen == w.s.Gen {
					n.m.view.lease = past
				}
			}
			w.s.Leased = false
			return true
		}},
		{"the server loses its memory", func(w *world) bool {
			if w.losses == 0 {
				return false
			}
			w.losses--
			w.double = -1 // from here on two probes are possible
			w.s = server{twin.Record{Epoch: w.s.Epoch + "+", Now: w.s.Now}}
			return true
		}},
	}
}
