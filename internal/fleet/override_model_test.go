package fleet

import (
	"cmp"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// The model of two hosts with manual overrides: each host has a cell, which records its
// override and outlives its process; a breaker applies a remote state in a step of its
// own; and each override has an instant.

// pace is the number of milliseconds between two overrides.
const pace = 100

// overrides counts the overrides that may still come, and records the last one.
type overrides struct {
	resets, isolations, trips int8
	kills                     int8 // of processes

	any   bool
	last  circuit.State // state that was set last
	raced bool          // it was set before the one before was reported: either may win
	lazy  bool          // a breaker applies a remote state in a step of its own
}

// set is one of Isolate, Trip and Reset on host i.
func (w *world) set(i int, state circuit.State, budget *int8, bug string) bool {
	n := &w.n[i]
	from, to := n.state(), map[circuit.State]local{circuit.Closed: closed, circuit.Open: waiting, circuit.Isolated: isolated}[state]
	if *budget == 0 || from == state && state != circuit.Closed || state == circuit.Open && from == circuit.Isolated {
		return false
	}
	*budget--
	w.s.Now += pace
	w.overrides.any, w.overrides.last = true, state
	for j := range w.n {
		w.overrides.raced = w.overrides.raced || w.n[j].overridePending()
	}
	if bug != "the cell records no override" {
		n.cell.state, n.cell.at = state, at(w.s.Now)
	}
	if from == state {
		return true
	}
	n.local, n.cell.since = to, at(w.s.Now)
	j, _ := n.m.transition(cell.Change{From: uint8(from), To: uint8(state), Until: future, Manual: true})
	j.overriddenAt, j.token = at(w.s.Now), 0
	n.next = request{manual: true, override: j, ask: n.next.ask} // key.setOverride
	return true
}

// overridePending reports whether n has no response yet to its host's override.
func (n *node) overridePending() bool {
	return n.next.manual || n.sent && n.flight.manual
}

// state returns the state of the breaker.
func (n *node) state() circuit.State {
	switch n.local {
	case waiting, held, ready:
		return circuit.Open
	case probing, idle:
		return circuit.HalfOpen
	case isolated:
		return circuit.Isolated
	default:
		return circuit.Closed
	}
}

// reconcile is Store.reconcileOverride, after the response to the report j.
func (n *node) reconcile(j *report, bug string) {
	if j != nil && n.m.acknowledge(j) && j.kind == manual {
		n.ack()
	}
	if bug == "any opening is as good as the fleet's" && j != nil && j.own && j.state == n.m.view.state {
		n.m.appliedGen = n.m.view.gen
	}
	if n.next.manual || n.sent && n.flight.hasReport() {
		return
	}
	switch n.verdict() {
	case remoteNewer:
		if !n.m.isSameOverride(n.cell) || bug == "an echo replaces the override" {
			n.cell.at = time.Time{}
		}
		n.m.reapplyClosed(n.cell)
		n.ack()
	case localStale:
		n.cell.at = time.Time{}
	case localNewer:
		n.next.manual, n.next.old, n.next.override = true, true, report{kind: manual, state: n.cell.state, overriddenAt: n.cell.at}
	case inSync:
	}
}

// ack is key.ackOverride.
func (n *node) ack() {
	n.pendingAck = n.m.view.overrideID()
	if _, due := n.due(); !due {
		n.cell.seenID, n.pendingAck = n.pendingAck, 0
	}
}

// verdict is remote.compareOverride.
func (n *node) verdict() verdict {
	here := n.cell
	here.seenID = cmp.Or(n.pendingAck, here.seenID)
	return n.m.compareOverride(here, present)
}

// due is key.pendingState.
func (n *node) due() (cell.RemoteState, bool) {
	if n.next.hasReport() || n.sent && n.flight.hasReport() {
		return cell.RemoteState{}, false
	}
	return n.m.pendingState(present)
}

// apply is what the breaker does with a remote state.
func (n *node) apply(o cell.RemoteState, now int64) {
	before := n.local
	switch {
	case o.OnlyIfIsolated && n.local != isolated:
	case circuit.State(o.State) == circuit.Closed:
		n.local = closed
	case circuit.State(o.State) == circuit.Isolated:
		n.local = isolated
	case n.local == isolated:
	case o.Until.Equal(far):
		n.local = held
	case o.Until.After(present):
		n.local = waiting
	default:
		n.local = ready
	}
	if n.local != before {
		n.cell.since = at(now)
	}
	if n.pendingAck != 0 {
		n.cell.seenID, n.pendingAck = n.pendingAck, 0
	}
}

// overrideSteps returns the steps of host i with overrides.
func overrideSteps(i int, bug string) []step {
	set := func(state circuit.State, budget func(*overrides) *int8) func(*world) bool {
		return func(w *world) bool { return w.set(i, state, budget(&w.overrides), bug) }
	}
	return []step{
		{"isolated manually", set(circuit.Isolated, func(h *overrides) *int8 { return &h.isolations })},
		{"tripped manually", set(circuit.Open, func(h *overrides) *int8 { return &h.trips })},
		{"reset manually", set(circuit.Closed, func(h *overrides) *int8 { return &h.resets })},
		{"it applies a remote state", func(w *world) bool {
			n := &w.n[i]
			if n.applying {
				n.apply(n.remote, w.s.Now)
				n.applying, n.remote = false, cell.RemoteState{}
				return true
			}
			o, due := n.due()
			if !due || !w.overrides.lazy {
				return false
			}
			n.m.markApplied(o)
			if bug == "a remote state comes in between" {
				n.applying, n.remote = true, o
				return true
			}
			n.apply(o, w.s.Now)
			return true
		}},
		{"it is killed", func(w *world) bool {
			n := &w.n[i]
			if w.overrides.kills == 0 || n.state() == circuit.HalfOpen {
				return false
			}
			w.overrides.kills--
			m := remote{process: n.m.process, node: n.m.node, margin: n.m.margin, appliedGen: -1}
			*n = node{m: m, local: n.local, alone: n.alone, cell: n.cell}
			return true
		}},
	}
}

// quiet reports whether no step is left that could change the states.
func (w *world) quiet() bool {
	for i := range w.n {
		n := &w.n[i]
		if _, due := n.due(); due || n.alone || n.sent || n.pushed || n.applying || n.useful(&w.s) {
			return false
		}
	}
	return true
}

// disagree returns how the hosts and the server differ once the world is quiet.
func (w *world) disagree() string {
	if !w.overrides.any || !w.quiet() {
		return ""
	}
	for i := range w.n {
		switch local := w.n[i].state(); {
		case local == circuit.Isolated && w.s.State == circuit.Open: // Trip does not end an isolation
		case (local == circuit.Isolated) != (w.s.State == circuit.Isolated), local == circuit.Closed && w.s.State == circuit.Open,
			local == circuit.Open && w.s.State == circuit.Closed:
			return "they do not agree"
		}
	}
	if !w.overrides.raced && w.overrides.last != circuit.Open && w.s.State != w.overrides.last {
		return "what was set last does not hold"
	}
	return ""
}

// Whatever overrides are set on two hosts, and whatever messages are lost: both hosts
// end in the same state, that of the last override.
func TestOverrideModel(t *testing.T) {
	holds(t, map[string]func(w *world){
		"all is well": func(w *world) { w.overrides = overrides{lazy: true, resets: 1, isolations: 1, trips: 1} },
		"responses are lost": func(w *world) {
			w.drops, w.slow, w.overrides = 1, true, overrides{lazy: true, resets: 1, isolations: 1}
		},
		"a process is killed": func(w *world) { w.overrides = overrides{lazy: true, resets: 1, isolations: 1, kills: 1} },
		"a host is cut off":   func(w *world) { w.cuts, w.overrides = 1, overrides{lazy: true, resets: 1, isolations: 1} },
		"the server forgets":  func(w *world) { w.losses, w.overrides = 1, overrides{lazy: true, resets: 1, isolations: 1} },
		"killed, and forgets": func(w *world) { w.losses, w.overrides = 1, overrides{lazy: true, isolations: 2, kills: 1} },
	})
}

// The model finds faults in overrides.
func TestOverrideModelFindsBugs(t *testing.T) {
	for bug, want := range map[string]string{
		"a remote state comes in between": "they do not agree",               // as it once did
		"an echo replaces the override":   "what was set last does not hold", // as it once did
		"the cell records no override":    "what was set last does not hold",
	} {
		w := newWorld()
		w.losses, w.overrides = 1, overrides{lazy: true, resets: 1, isolations: 1}
		if bug == "an echo replaces the override" {
			w.overrides.kills = 1
		}
		if wrong, trail, states := explore(w, bug); wrong != want {
			t.Errorf("with the bug %q: found %q after %q, want %q (%d states)", bug, wrong, trail, want, states)
		}
	}
}
