package fleet

import (
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A view is a [View] with instants of this process's clock in place of durations.
type view struct {
	epoch        string // changes when the server has lost its data
	gen          int64  // grows with each change of state, and with each lease that is granted to another process
	state        circuit.State
	manual       bool
	until        time.Time // of open: when the first probe may be sent
	reason       string    // packed, as in the cell
	process      string    // holder of the lease, "" if no process holds it
	node         string    // host of process
	lease        time.Time // when the lease ends
	overriddenAt time.Time // when the latest override was set, zero if there was no override
	override     string    // View.Override
}

// at returns v with instants, for a View that was received at now. No instant is too
// early.
func (v *View) at(now time.Time) view {
	w := view{
		epoch: v.Epoch, gen: v.Gen, state: v.State, manual: v.Manual, until: now.Add(v.Open), reason: v.Reason,
		process: v.Process, node: v.Node, lease: now.Add(v.Lease), override: v.Override,
	}
	if v.Override != "" {
		w.overriddenAt = now.Add(-v.Ago)
	}
	return w
}

// A lostState is the state to restore on a server that has lost it.
type lostState struct {
	view view
}

// A remote is the fleet's state of one breaker as this process knows it, and decides
// what follows from it. It is plain data, and each method takes the time; the model
// test walks through all its states. The caller holds a lock.
type remote struct {
	process string        // this process
	node    string        // its host
	margin  time.Duration // how much of a lease must remain when a probe begins

	known          bool // view is from the server's current epoch
	view           view
	updatedAt      time.Time // when view.gen was received
	local          circuit.State
	appliedGen     int64 // generation that the local breaker has applied; -1 if none
	onlyIfIsolated bool  // the pending state is closed, for an isolated breaker only

	hasGate     bool      // the local breaker has a gate
	gateApplied bool      // the gate has been warned that no call succeeds elsewhere
	votedAt     time.Time // when this process last voted that no call succeeds here

	token        int64     // of the lease that this process holds, 0 if it holds none
	settledToken int64     // of the last lease whose result is reported, or in flight
	leaseEnds    time.Time // when the lease ends, counted from before it was requested
	leaseUsed    bool      // a probe has been sent under the lease
	wantsLease   bool      // a call would have been a probe under a lease
	leaseAskedAt time.Time // when such a call last requested a lease
}

// update applies a view: from the response to a call that was sent at sent, or from a
// push if sent is zero. It returns true, with the state to restore, if the server has
// lost data.
func (r *remote) update(v view, sent, now time.Time) (lostState, bool) {
	switch {
	case !r.known:
	case v.epoch != r.view.epoch, v.gen < r.view.gen && sent.After(r.updatedAt):
		// The server has lost all its data, or the latest.
		before := r.view
		if r.restoreNeeded(v) {
			r.known, r.token = false, 0 // the response to Restore has the state
			return lostState{before}, true
		}
	case v.gen < r.view.gen:
		return lostState{}, false // an older view, which a later one has overtaken
	}
	r.correctOverrideTime(&v, sent, now)
	if !r.known || v.epoch != r.view.epoch || v.gen != r.view.gen {
		r.updatedAt, r.onlyIfIsolated = now, false
	}
	if !r.known || v.epoch != r.view.epoch {
		closes := r.known && r.view.state == circuit.Closed && r.appliedGen != r.view.gen // and this is not applied yet
		r.appliedGen, r.settledToken = -1, 0
		if v.state == circuit.Closed && !closes {
			r.appliedGen = v.gen // the fleet has no state yet, and leaves the local breaker as it is
		}
	}
	r.known, r.view = true, v
	r.updateLease(v, sent)
	return lostState{}, false
}

// correctOverrideTime replaces v.overriddenAt, which is too late in a slow response, by
// that of an earlier view of the same override. It does nothing if the two differ by
// more than the call took: then a clock has been set in between.
func (r *remote) correctOverrideTime(v *view, sent, now time.Time) {
	if !r.known || v.override == "" || v.epoch != r.view.epoch || v.override != r.view.override {
		return
	}
	before, latest := r.view.overriddenAt.Round(0), v.overriddenAt.Round(0) // wall clock, as in cells
	took := now.Round(0).Sub(sent.Round(0)) + rounding
	if before.Before(latest) && (sent.IsZero() || latest.Sub(before) <= took) {
		v.overriddenAt = r.view.overriddenAt
	}
}

// restoreNeeded reports whether a server that has lost data and now returns v must be
// sent the state that it has lost.
func (r *remote) restoreNeeded(v view) bool {
	return r.view.state != circuit.Closed && v.state == circuit.Closed
}

// updateLease records whether this process holds the lease in v.
func (r *remote) updateLease(v view, sent time.Time) {
	if v.state != circuit.Open || r.openByGate() { // a gate wants it again with each failed probe
		r.wantsLease = false
	}
	if v.process != r.process || v.state != circuit.Open {
		r.token, r.leaseUsed = 0, false
		return
	}
	if r.token != v.gen {
		r.leaseUsed = false
	}
	if !sent.IsZero() && v.gen != r.settledToken { // a push says nothing of when the lease was requested
		r.token, r.leaseEnds = v.gen, v.lease
	}
}

// allowProbe reports whether a probe may be sent now, and whether to request a lease, or
// to report that the lease is in use.
func (r *remote) allowProbe(lease time.Duration, now time.Time) (ok, request bool) {
	switch {
	case !r.known:
		r.wantsLease = true
		return false, true
	case r.view.state == circuit.Closed:
		return true, false // only this node is open
	case r.view.state != circuit.Open:
		return false, false
	case r.token != 0 && r.token == r.view.gen && r.leaseEnds.Sub(now) >= r.margin:
		r.leaseUsed = true
		return true, r.leaseEnds.Sub(now) < lease // the lease must last as long as the probe
	}
	free := !r.view.lease.After(now) && !r.view.until.After(now)
	if request = !r.wantsLease || free && now.Sub(r.leaseAskedAt) >= r.margin/20; request {
		r.leaseAskedAt = now
	}
	r.wantsLease = true
	return false, request
}

// renewsLease reports whether to request the lease with each read of the server: this
// process wants it, or holds it unused.
func (r *remote) renewsLease(now time.Time) bool {
	return r.known && r.wantsLease && !r.leaseUsed && r.view.state == circuit.Open && !r.view.until.After(now)
}

// needsLease reports whether the holder of the lease may send a probe, and this process
// does not hold it.
func (r *remote) needsLease(now time.Time) bool {
	return r.known && r.view.state == circuit.Open && !r.view.until.After(now) && r.token == 0
}

// pendingState returns the state that the local breaker must apply, and false if it is
// in that state.
func (r *remote) pendingState(now time.Time) (cell.RemoteState, bool) {
	v, o := &r.view, cell.RemoteState{State: uint8(r.view.state), Until: r.view.until, Manual: r.view.manual, Spread: r.spread()}
	switch {
	case !r.known:
		return o, false
	case v.state == circuit.Closed:
		o.OnlyIfIsolated = r.onlyIfIsolated
		return o, r.appliedGen != v.gen
	case v.state == circuit.Isolated:
		return o, r.appliedGen != v.gen || r.local != circuit.Isolated
	case r.openByGate():
		return o, !r.gateApplied
	case v.node == r.node && v.lease.After(now):
		return o, false // the breaker of this host is half-open, or about to be
	}
	return o, r.appliedGen != v.gen || r.local != circuit.Open
}

// markApplied records that the local breaker is applying o.
func (r *remote) markApplied(o cell.RemoteState) {
	r.appliedGen, r.onlyIfIsolated = r.view.gen, false
	if r.gateApplied = r.openByGate(); !r.gateApplied {
		r.votedAt = time.Time{} // an earlier vote no longer counts
	}
	if !o.OnlyIfIsolated && !r.gateApplied {
		r.local = circuit.State(o.State)
	}
}

// acknowledge records that the server has executed j, and reports whether the fleet is
// in the state of j. A local breaker that has made the transition itself need not
// apply it again.
func (r *remote) acknowledge(j *report) bool {
	late := r.view.until.Sub(j.until).Abs()
	holds := r.known && r.view.state == j.state && (j.state != circuit.Open || j.gate || late < r.margin/2)
	if holds && j.own && r.local == j.state {
		r.appliedGen = r.view.gen
	}
	return holds
}

// transition records a transition of the local breaker, and returns the report of it.
func (r *remote) transition(c cell.Change) (j report, ok bool) {
	r.local = circuit.State(c.To)
	token := r.token
	if r.local != circuit.HalfOpen && token != 0 {
		r.token, r.settledToken, r.leaseUsed = 0, token, false
	}
	j = report{state: r.local, until: c.Until, reason: c.Reason, token: token, own: true}
	switch {
	case c.Manual:
		j.kind = manual
	case r.local == circuit.HalfOpen:
		return report{}, false // the lease allowed it
	case circuit.State(c.From) == circuit.HalfOpen && token != 0, r.local == circuit.Closed:
		j.kind = settle
	default:
		j.kind = trip
	}
	return j, true
}
