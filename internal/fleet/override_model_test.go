package fleet

import (
	"cmp"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// What the model of two hosts has besides, if somebody sets states by hand: each
// host has a cell, which says what was set there and outlives its process; a
// breaker obeys in a step of its own; and instants count. Each set has one.

// pace is how many milliseconds there are between two sets.
const pace = 100

// A hands is how much somebody may do by hand, and what came of it.
type hands struct {
	resets, isolations, trips int8 // that may still come
	kills                     int8 // of processes

	any   bool
	last  circuit.State // that was set
	raced bool          // before what was set before it was told: which holds is a matter of chance
	lazy  bool          // a breaker obeys in a step of its own
}

// set is what one of Isolate, Trip and Reset does on host i.
func (w *world) set(i int, state circuit.State, budget *int8, bug string) bool {
	n := &w.n[i]
	from, to := n.state(), map[circuit.State]local{circuit.Closed: closed, circuit.Open: waiting, circuit.Isolated: isolated}[state]
	if *budget == 0 || from == state && state != circuit.Closed || state == circuit.Open && from == circuit.Isolated {
		return false
	}
	*budget--
	w.s.Now += pace
	w.hands.any, w.hands.last = true, state
	for j := range w.n {
		w.hands.raced = w.hands.raced || w.n[j].waitsForHand()
	}
	if bug != "no memo" {
		n.memo.state, n.memo.at = state, at(w.s.Now)
	}
	if from == state {
		return true
	}
	n.local, n.memo.since = to, at(w.s.Now)
	j, _ := n.m.transition(cell.Change{From: uint8(from), To: uint8(state), Until: future, Manual: true})
	j.overriddenAt, j.token = at(w.s.Now), 0
	n.next = request{byHand: true, hand: j, ask: n.next.ask} // key.byHand
	return true
}

// waitsForHand reports whether n does not know yet that the server has been told
// what was set on its host.
func (n *node) waitsForHand() bool {
	return n.next.byHand || n.sent && n.flight.byHand
}

// state is that of the breaker.
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

// heeds is Store.hands, after n has learned from the answer to what told of j.
func (n *node) heeds(j *report, bug string) {
	if j != nil && n.m.acknowledge(j) && j.kind == manual {
		n.heard()
	}
	if bug == "any opening is as good as the fleet's" && j != nil && j.own && j.state == n.m.view.state {
		n.m.appliedGen = n.m.view.gen
	}
	if n.next.byHand || n.sent && n.flight.tells() {
		return
	}
	switch n.rule() {
	case remoteNewer:
		if !n.m.isSameOverride(n.memo) || bug == "an echo overrules" {
			n.memo.at = time.Time{}
		}
		n.m.reapplyClosed(n.memo)
		n.heard()
	case localStale:
		n.memo.at = time.Time{}
	case localNewer:
		n.next.byHand, n.next.old, n.next.hand = true, true, report{kind: manual, state: n.memo.state, overriddenAt: n.memo.at}
	case inSync:
	}
}

// heard is key.heeds.
func (n *node) heard() {
	n.owed = n.m.view.overrideID()
	if _, due := n.due(); !due {
		n.memo.seenID, n.owed = n.owed, 0
	}
}

// rule is what follows from what was set by hand.
func (n *node) rule() verdict {
	here := n.memo
	here.seenID = cmp.Or(n.owed, here.seenID)
	return n.m.compareOverride(here, present)
}

// due is key.due.
func (n *node) due() (cell.RemoteState, bool) {
	if n.next.tells() || n.sent && n.flight.tells() {
		return cell.RemoteState{}, false
	}
	return n.m.pendingState(present)
}

// follows is what the breaker does with an order.
func (n *node) follows(o cell.RemoteState, now int64) {
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
		n.memo.since = at(now)
	}
	if n.owed != 0 {
		n.memo.seenID, n.owed = n.owed, 0
	}
}

// byHands are the steps of host i besides.
func byHands(i int, bug string) []step {
	set := func(state circuit.State, budget func(*hands) *int8) func(*world) bool {
		return func(w *world) bool { return w.set(i, state, budget(&w.hands), bug) }
	}
	return []step{
		{"isolated by hand", set(circuit.Isolated, func(h *hands) *int8 { return &h.isolations })},
		{"tripped by hand", set(circuit.Open, func(h *hands) *int8 { return &h.trips })},
		{"reset by hand", set(circuit.Closed, func(h *hands) *int8 { return &h.resets })},
		{"it obeys", func(w *world) bool {
			n := &w.n[i]
			if n.takes {
				n.follows(n.order, w.s.Now)
				n.takes, n.order = false, cell.RemoteState{}
				return true
			}
			o, due := n.due()
			if !due || !w.hands.lazy {
				return false
			}
			n.m.markApplied(o)
			if bug == "an order comes in between" {
				n.takes, n.order = true, o
				return true
			}
			n.follows(o, w.s.Now)
			return true
		}},
		{"it is killed", func(w *world) bool {
			n := &w.n[i]
			if w.hands.kills == 0 || n.state() == circuit.HalfOpen {
				return false
			}
			w.hands.kills--
			m := remote{process: n.m.process, node: n.m.node, margin: n.m.margin, appliedGen: -1}
			*n = node{m: m, local: n.local, alone: n.alone, memo: n.memo}
			return true
		}},
	}
}

// quiet reports whether nothing more will happen by itself to what is set by hand.
func (w *world) quiet() bool {
	for i := range w.n {
		n := &w.n[i]
		if _, due := n.due(); due || n.alone || n.sent || n.pushed || n.takes || n.useful(&w.s) {
			return false
		}
	}
	return true
}

// disagree returns in what the hosts and the server do not agree, when nothing
// is under way any more that could change it.
func (w *world) disagree() string {
	if !w.hands.any || !w.quiet() {
		return ""
	}
	for i := range w.n {
		switch local := w.n[i].state(); {
		case local == circuit.Isolated && w.s.State == circuit.Open: // isolation is for a person to end, and he has only tripped it
		case (local == circuit.Isolated) != (w.s.State == circuit.Isolated), local == circuit.Closed && w.s.State == circuit.Open,
			local == circuit.Open && w.s.State == circuit.Closed:
			return "they do not agree"
		}
	}
	if !w.hands.raced && w.hands.last != circuit.Open && w.s.State != w.hands.last {
		return "what was set last does not hold"
	}
	return ""
}

// Whatever is set by hand on two hosts, and whatever is lost on the way: they
// agree in the end, and on what was set last.
func TestHandModel(t *testing.T) {
	holds(t, map[string]func(w *world){
		"all is well":         func(w *world) { w.hands = hands{lazy: true, resets: 1, isolations: 1, trips: 1} },
		"answers are lost":    func(w *world) { w.drops, w.slow, w.hands = 1, true, hands{lazy: true, resets: 1, isolations: 1} },
		"a process is killed": func(w *world) { w.hands = hands{lazy: true, resets: 1, isolations: 1, kills: 1} },
		"a host is cut off":   func(w *world) { w.cuts, w.hands = 1, hands{lazy: true, resets: 1, isolations: 1} },
		"the server forgets":  func(w *world) { w.losses, w.hands = 1, hands{lazy: true, resets: 1, isolations: 1} },
		"killed, and forgets": func(w *world) { w.losses, w.hands = 1, hands{lazy: true, isolations: 2, kills: 1} },
	})
}

// The model finds what is wrong with what is set by hand.
func TestHandModelFindsBugs(t *testing.T) {
	for bug, want := range map[string]string{
		"an order comes in between": "they do not agree",               // as it once did
		"an echo overrules":         "what was set last does not hold", // as it once did
		"no memo":                   "what was set last does not hold",
	} {
		w := newWorld()
		w.losses, w.hands = 1, hands{lazy: true, resets: 1, isolations: 1}
		if bug == "an echo overrules" {
			w.hands.kills = 1
		}
		if wrong, trail, states := explore(w, bug); wrong != want {
			t.Errorf("with the bug %q: found %q after %q, want %q (%d states)", bug, wrong, trail, want, states)
		}
	}
}
