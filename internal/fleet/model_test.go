package fleet

import (
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// The model: two processes on two hosts with the real type remote, a twin of the
// scripts as their server, and every order of events between them. There are two
// instants, past and future; a step of its own moves an end from the future to the
// past, so all orders of ends are tried. TestTwin of redisstore compares the twin with
// the scripts.

var (
	present = time.Unix(1_000_000, 0)
	past    = present.Add(-time.Hour)
	future  = present.Add(time.Hour)
	far     = future.Add(time.Hour) // end of an open time as long as only a Retry-After
)

// when returns an instant that is over, or is not.
func when(over bool) time.Time {
	if over {
		return past
	}
	return future
}

// A local is the state of a process's own breaker, as far as the model needs it.
type local uint8

const (
	closed   local = iota
	waiting        // open, for its own open time
	held           // open, for as long as a Retry-After
	ready          // open, and its open time has elapsed
	probing        // half-open, with a probe in flight
	idle           // half-open, and the probe was cancelled
	isolated       // manually
)

// A request is what a process has sent, or is about to send.
type request struct {
	lost   bool
	was    lostState
	asked  bool // the lost state is for as long as a Retry-After
	has    bool
	report report
	ask    bool // for a lease, used or not

	manual   bool // override is to be reported
	override report
	old      bool // the server could not be reached when it was set
}

// hasReport reports whether r has a report, whose response decides.
func (r *request) hasReport() bool { return r.has || r.manual }

// A node is one process.
type node struct {
	m     remote
	local local
	alone bool // cut off for so long that it decides alone
	out   int8 // probes in flight under leases that have not ended

	next     request // pending
	flight   request // in flight
	sent     bool
	done     bool // the server has executed it
	fresh    bool // no view was applied since it was sent
	response view
	pushed   bool
	message  view

	cell       localOverride // in the cell of the host
	pendingAck uint64        // key.pendingAck

	applying bool // with a bug: the breaker is about to apply remote
	remote   cell.RemoteState
}

// A world is one state of the model, with the number of faults that may still happen.
type world struct {
	s                                   server
	n                                   [2]node
	trips, losses, cuts, drops          int8
	failures, cancels, double, unfenced int8
	asks                                int8 // trips and failed probes of throttled calls
	forgot                              bool // a lost opening was restored without the Retry-After
	pushes, slow                        bool // changes are pushed; requests take time as responses do
	overrides                           overrides
}

// A step is one event.
type step struct {
	name string
	do   func(w *world) bool // returns false if the event cannot happen now
}

func (n *node) changed(from, to circuit.State, over local) {
	until := future
	if over == held {
		until = far
	}
	j, ok := n.m.transition(cell.Change{From: uint8(from), To: uint8(to), Until: until})
	n.local = over
	if ok {
		if n.next.has {
			j = *j.after(&n.next.report)
		}
		n.next.has, n.next.report = true, j
	}
}

func (n *node) name() string { return n.m.process }

// applyView is Store.applyView.
func (n *node) applyView(v view, sent time.Time, j *report, bug string) {
	before := n.m
	l, restore := n.m.update(v, sent, present)
	if restore {
		n.next.lost, n.next.was, n.next.asked = true, l, l.view.until.Equal(far)
		if bug == "a hint is lost with the server" && n.next.asked {
			n.next.was.view.until = future
		}
	}
	n.m.leaseAskedAt = time.Time{}
	n.reconcile(j, bug)
	if !n.m.known || n.m.view.gen != before.view.gen || n.m.view.epoch != before.view.epoch {
		n.fresh = false
	}
}

// ripen ends the open time of a breaker, or of the fleet as n knows it.
func (n *node) ripen(s *server) bool {
	current := n.m.known && s.Gen == n.m.view.gen
	switch {
	case n.local == waiting && current && s.Far:
		n.local = ready // while the fleet stays open
		return true
	case current && !s.Due, n.local == held && s.Far, n.local != waiting && n.local != held && !n.m.view.until.After(present):
		return false
	}
	n.m.view.until = past
	if n.local == held {
		n.next.overdue()
		n.flight.overdue()
	}
	if n.local == waiting || n.local == held {
		n.local = ready
	}
	return true
}

// overdue shortens what r reports for as long as a Retry-After, which has elapsed.
func (r *request) overdue() {
	r.asked = false
	for _, until := range []*time.Time{&r.report.until, &r.was.view.until} {
		if until.Equal(far) {
			*until = future
		}
	}
}

// early reports whether the breaker would let a call pass before the end of a Retry-After
// that both the server and n know.
func (n *node) early(s *server) bool {
	_, due := n.due()
	return n.local == ready && s.Far && n.m.known && n.m.view.epoch == s.Epoch && n.m.view.gen == s.Gen &&
		!due && !n.applying && !n.next.hasReport() && (!n.sent || !n.flight.hasReport())
}

// call attempts a call.
func (n *node) call(bug string) bool {
	if n.alone {
		n.changed(circuit.Open, circuit.HalfOpen, probing)
		return true
	}
	before := *n
	fleet := n.m.known && n.m.view.state == circuit.Open
	ok, ask := n.m.allowProbe(0, present)
	if bug == "no lease" && fleet {
		ok = true
	}
	n.m.leaseAskedAt = time.Time{}
	n.next.ask = n.next.ask || ask
	if ok {
		if fleet {
			n.out++
		}
		n.changed(circuit.Open, circuit.HalfOpen, probing)
	}
	return *n != before
}

// useful reports whether a look at the server would change anything.
func (n *node) useful(s *server) bool {
	if n.next.lost || n.next.hasReport() || n.next.ask || !n.m.known {
		return true
	}
	if n.verdict() != inSync && (!n.sent || !n.flight.hasReport()) {
		return true
	}
	now := s.view()
	if now.until.Equal(past) {
		now.until = n.m.view.until
	}
	return now != n.m.view || n.m.renewsLease(present) && s.Due && !s.Leased
}

// execute has the server run what process i has sent.
func (w *world) execute(i int, bug string) bool {
	n := &w.n[i]
	if !n.sent || n.done || n.alone {
		return false
	}
	f, published := &n.flight, false
	if f.lost {
		w.s.Now += pace
		published = w.s.restore(f.was.view)
		w.forgot = w.forgot || published && f.asked && !w.s.Far
	}
	if f.manual {
		then := w.s.Now
		if f.old {
			then = f.override.overriddenAt.Sub(past).Milliseconds()
		}
		published = w.s.Override(f.override.state, false, then) || published
	}
	if f.has && f.report.kind == trip {
		if w.s.Trip(false) {
			w.s.Far, published = f.report.until.Equal(far), true
		}
	}
	if f.has && f.report.kind == settle {
		late := w.s.Owner != n.name() || w.s.Gen != f.report.token
		if bug == "no fence" && w.s.State == circuit.Open && f.report.token != 0 {
			w.s.Owner, w.s.Gen = n.name(), f.report.token
		}
		if w.s.Settle(n.name(), f.report.token, f.report.state, false) {
			w.s.Far, published = f.report.state == circuit.Open && f.report.until.Equal(far), true
			if late {
				w.unfenced++
			}
		}
	}
	if f.ask {
		if bug == "two leases" {
			w.s.Leased = false
		}
		w.s.Lease(n.name())
	}
	n.done, n.response = true, w.s.view()
	if published && w.pushes {
		for j := range w.n {
			w.n[j].pushed, w.n[j].message = true, w.s.view()
		}
	}
	return true
}

// arrive applies the response. The process's own lease ends here no later than at the
// server, since it counts from the request.
func (n *node) arrive(w *world, bug string) bool {
	v := n.response
	if v.process == n.name() && (!w.s.Leased || w.s.Owner != v.process || w.s.Gen != v.gen) {
		v.lease = past
	}
	sent := present
	if !n.fresh {
		n.m.updatedAt = sent.Add(1)
	}
	f := n.flight
	n.sent, n.done, n.flight, n.response = false, false, request{}, view{}
	var j *report
	switch {
	case f.has:
		j = &f.report
	case f.manual:
		j = &f.override
	}
	n.applyView(v, sent, j, bug)
	n.fresh = false
	return true
}

// requeue is key.requeue.
func (n *node) requeue() {
	f := n.flight
	if f.lost && !n.next.lost && !n.next.manual {
		n.next.lost, n.next.was, n.next.asked = true, f.was, f.asked
	}
	if f.has && !n.next.hasReport() {
		n.next.has, n.next.report = true, f.report
	}
	if f.manual && !n.next.manual {
		n.next.manual, n.next.override, n.next.old = true, f.override, f.old
	}
	n.sent, n.done, n.fresh, n.flight, n.response = false, false, false, request{}, view{}
}

// applyPending is Store.applyAll, with what the breaker does.
func (n *node) applyPending(now int64, bug string) {
	if o, due := n.due(); due {
		if bug == "a hint is cut to a breaker's own time" && o.Until.Equal(far) {
			o.Until = future
		}
		n.m.markApplied(o)
		n.apply(o, now)
	}
}

func (w *world) wrong() string {
	switch {
	case w.double == 0 && w.n[0].out+w.n[1].out > 1:
		return "two probes are out"
	case w.unfenced > 0:
		return "a result without the lease decided"
	case w.forgot:
		return "a Retry-After is lost"
	case w.n[0].early(&w.s), w.n[1].early(&w.s):
		return "a call passes before the end of a Retry-After"
	}
	return w.disagree()
}

// healed reports whether all are closed, or it is for a person to close them.
func (w *world) healed() bool {
	return w.s.State == circuit.Closed && w.n[0].local == closed && w.n[1].local == closed || w.overrides.any
}
