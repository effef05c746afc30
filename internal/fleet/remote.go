package fleet

import (
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A view is what the server knows of one key, with its remaining times turned
// into instants of this process's clock.
type view struct {
	epoch        string // another one: the server has lost what it knew
	gen          int64  // grows with each change of state and each lease that goes to another process
	state        circuit.State
	manual       bool
	until        time.Time // of open: when the first probe may go
	reason       string    // packed, as in the cell
	process      string    // who holds the lease, "" for nobody
	node         string    // the host of that
	lease        time.Time // when the lease ends
	overriddenAt time.Time // when a state was last set by hand, zero for never
	override     string    // the same as the server has it
}

// at returns v as it is at now. Nothing ends early.
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

// A lostState is what to tell a server that knows less than this process does.
type lostState struct {
	view view
}

// A remote is what one process knows of one key's breaker in the fleet, and
// what follows from it. It is plain data and every method is given the time;
// the model check walks through it. Its user holds a lock.
type remote struct {
	process string        // this one
	node    string        // its host
	margin  time.Duration // what must remain of a lease for a probe to begin

	known          bool      // view is what the server said, of its present epoch
	view           view      //
	updatedAt      time.Time // when view.gen was learned
	local          circuit.State
	appliedGen     int64 // generation that the local breaker has followed; -1: none
	onlyIfIsolated bool  // it has yet to close only if it is isolated

	hasGate     bool      // there is one
	gateApplied bool      // it has been told that nothing gets through elsewhere
	votedAt     time.Time // when the server was last to be told that nothing gets through here

	token        int64     // of the lease that this process holds; 0: none
	settledToken int64     // of the last one whose result is told, or on its way
	leaseEnds    time.Time // when that ends, counted from before it was asked for
	leaseUsed    bool      // a probe has been sent under it
	wantsLease   bool      // a call would have been a probe, had there been a lease
	leaseAskedAt time.Time // when such a call last had the server asked for one
}

// update takes in what the server says, in the answer to a script that was sent
// at that time, or by push, with no time. It reports whether the server must
// be told what it has lost.
func (m *remote) update(v view, sent, now time.Time) (lostState, bool) {
	switch {
	case !m.known:
	case v.epoch != m.view.epoch, v.gen < m.view.gen && sent.After(m.updatedAt):
		// Emptied, or gone back to an older copy of its data.
		before := m.view
		if m.restoreNeeded(v) {
			m.known, m.token = false, 0 // the answer to restoring says what holds
			return lostState{before}, true
		}
	case v.gen < m.view.gen:
		return lostState{}, false // older news, overtaken on the way
	}
	m.correctOverrideTime(&v, sent, now)
	if !m.known || v.epoch != m.view.epoch || v.gen != m.view.gen {
		m.updatedAt, m.onlyIfIsolated = now, false
	}
	if !m.known || v.epoch != m.view.epoch {
		closes := m.known && m.view.state == circuit.Closed && m.appliedGen != m.view.gen // has yet to be told so
		m.appliedGen, m.settledToken = -1, 0
		if v.state == circuit.Closed && !closes {
			m.appliedGen = v.gen // nobody has agreed on anything: what the local breaker does is its own matter
		}
	}
	m.known, m.view = true, v
	m.updateLease(v, sent)
	return lostState{}, false
}

// correctOverrideTime sets v.hand, which an answer that took long has too late, to what an
// earlier one has told of the same override. If a clock has been set since, v.hand
// stands: what was told earlier is not in the time that the call took.
func (m *remote) correctOverrideTime(v *view, sent, now time.Time) {
	if !m.known || v.override == "" || v.epoch != m.view.epoch || v.override != m.view.override {
		return
	}
	before, latest := m.view.overriddenAt.Round(0), v.overriddenAt.Round(0) // by the clock that a person sets, as cells have it
	took := now.Round(0).Sub(sent.Round(0)) + rounding
	if before.Before(latest) && (sent.IsZero() || latest.Sub(before) <= took) {
		v.overriddenAt = m.view.overriddenAt
	}
}

// restoreNeeded reports whether a server that now says v has to be told of
// the state that the fleet had agreed on.
func (m *remote) restoreNeeded(v view) bool {
	return m.view.state != circuit.Closed && v.state == circuit.Closed
}

// updateLease notes from v whether this process has the lease.
func (m *remote) updateLease(v view, sent time.Time) {
	if v.state != circuit.Open || m.openByGate() { // a gate wants it with each probe that fails
		m.wantsLease = false
	}
	if v.process != m.process || v.state != circuit.Open {
		m.token, m.leaseUsed = 0, false
		return
	}
	if m.token != v.gen {
		m.leaseUsed = false
	}
	if !sent.IsZero() && v.gen != m.settledToken { // a push came later than what it tells of
		m.token, m.leaseEnds = v.gen, v.lease
	}
}

// allowProbe decides whether a probe may be sent now, and whether the server has to
// be asked for a lease, or told that the one at hand is in use.
func (m *remote) allowProbe(lease time.Duration, now time.Time) (ok, ask bool) {
	switch {
	case !m.known:
		m.wantsLease = true
		return false, true
	case m.view.state == circuit.Closed:
		return true, false // the fleet has no say in it: this node alone is open
	case m.view.state != circuit.Open:
		return false, false
	case m.token != 0 && m.token == m.view.gen && m.leaseEnds.Sub(now) >= m.margin:
		m.leaseUsed = true
		return true, m.leaseEnds.Sub(now) < lease // it must last as long as the probe
	}
	free := !m.view.lease.After(now) && !m.view.until.After(now)
	if ask = !m.wantsLease || free && now.Sub(m.leaseAskedAt) >= m.margin/20; ask {
		m.leaseAskedAt = now
	}
	m.wantsLease = true
	return false, ask
}

// renewsLease reports whether the lease is to be asked for at each look at the
// server: it is wanted, or held and not used.
func (m *remote) renewsLease(now time.Time) bool {
	return m.known && m.wantsLease && !m.leaseUsed && m.view.state == circuit.Open && !m.view.until.After(now)
}

// needsLease reports whether a probe may be sent by who gets the lease, which is
// not this process.
func (m *remote) needsLease(now time.Time) bool {
	return m.known && m.view.state == circuit.Open && !m.view.until.After(now) && m.token == 0
}

// pendingState returns what the local breaker must be told, if anything.
func (m *remote) pendingState(now time.Time) (cell.RemoteState, bool) {
	v, o := &m.view, cell.RemoteState{State: uint8(m.view.state), Until: m.view.until, Manual: m.view.manual, Spread: m.spread()}
	switch {
	case !m.known:
		return o, false
	case v.state == circuit.Closed:
		o.OnlyIfIsolated = m.onlyIfIsolated
		return o, m.appliedGen != v.gen
	case v.state == circuit.Isolated:
		return o, m.appliedGen != v.gen || m.local != circuit.Isolated
	case m.openByGate():
		return o, !m.gateApplied
	case v.node == m.node && v.lease.After(now):
		return o, false // the breaker of this host is half-open, or about to be
	}
	return o, m.appliedGen != v.gen || m.local != circuit.Open
}

// markApplied notes that the local breaker is being told o.
func (m *remote) markApplied(o cell.RemoteState) {
	m.appliedGen, m.onlyIfIsolated = m.view.gen, false
	if m.gateApplied = m.openByGate(); !m.gateApplied {
		m.votedAt = time.Time{} // and what was voted before counts no more
	}
	if !o.OnlyIfIsolated && !m.gateApplied {
		m.local = circuit.State(o.State)
	}
}

// acknowledge notes that the server has been told j, and reports whether that is what
// holds now. If the local breaker is in it by itself, there is no need to tell
// it, and it may have gone on already.
func (m *remote) acknowledge(j *report) bool {
	late := m.view.until.Sub(j.until).Abs()
	holds := m.known && m.view.state == j.state && (j.state != circuit.Open || j.gate || late < m.margin/2)
	if holds && j.own && m.local == j.state {
		m.appliedGen = m.view.gen
	}
	return holds
}

// transition notes a transition that the local breaker has made, and returns what
// the server must be told of it.
func (m *remote) transition(c cell.Change) (j report, tell bool) {
	m.local = circuit.State(c.To)
	token := m.token
	if m.local != circuit.HalfOpen && token != 0 {
		m.token, m.settledToken, m.leaseUsed = 0, token, false
	}
	j = report{state: m.local, until: c.Until, reason: c.Reason, token: token, own: true}
	switch {
	case c.Manual:
		j.kind = manual
	case m.local == circuit.HalfOpen:
		return report{}, false // it had the leave for it
	case circuit.State(c.From) == circuit.HalfOpen && token != 0, m.local == circuit.Closed:
		j.kind = settle
	default:
		j.kind = trip
	}
	return j, true
}
