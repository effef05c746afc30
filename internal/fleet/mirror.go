package fleet

import (
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A view is what the server knows of one key, with its remaining times turned
// into instants of this process's clock.
type view struct {
	epoch   string // another one: the server has lost what it knew
	gen     int64  // grows with each change of state and each lease that goes to another process
	state   circuit.State
	byHand  bool
	until   time.Time // of open: when the first probe may go
	reason  string    // packed, as in the cell
	process string    // who holds the lease, "" for nobody
	node    string    // the host of that
	lease   time.Time // when the lease ends
	hand    time.Time // when a state was last set by hand, zero for never
	handed  string    // the same as the server has it
}

// at returns v as it is at now. Nothing ends early.
func (v *View) at(now time.Time) view {
	w := view{
		epoch: v.Epoch, gen: v.Gen, state: v.State, byHand: v.Manual, until: now.Add(v.Open), reason: v.Reason,
		process: v.Process, node: v.Node, lease: now.Add(v.Lease), handed: v.Set,
	}
	if v.Set != "" {
		w.hand = now.Add(-v.Ago)
	}
	return w
}

// A lost is what to tell a server that knows less than this process does.
type lost struct {
	view view
}

// A mirror is what one process knows of one key's breaker in the fleet, and
// what follows from it. It is plain data and every method is given the time;
// the model check walks through it. Its user holds a lock.
type mirror struct {
	process string        // this one
	node    string        // its host
	margin  time.Duration // what must remain of a lease for a probe to begin

	known   bool      // view is what the server said, of its present epoch
	view    view      //
	learned time.Time // when view.gen was learned
	local   circuit.State
	told    int64 // generation that the local breaker has followed; -1: none
	mild    bool  // it has yet to close only if it is isolated

	gate   bool      // there is one
	warned bool      // it has been told that nothing gets through elsewhere
	voted  time.Time // when the server was last to be told that nothing gets through here

	token int64     // of the lease that this process holds; 0: none
	spent int64     // of the last one whose result is told, or on its way
	ends  time.Time // when that ends, counted from before it was asked for
	used  bool      // a probe has been sent under it
	want  bool      // a call would have been a probe, had there been a lease
	asked time.Time // when such a call last had the server asked for one
}

// learn takes in what the server says, in the answer to a script that was sent
// at that time, or by push, with no time. It reports whether the server must
// be told what it has lost.
func (m *mirror) learn(v view, sent, now time.Time) (lost, bool) {
	switch {
	case !m.known:
	case v.epoch != m.view.epoch, v.gen < m.view.gen && sent.After(m.learned):
		// Emptied, or gone back to an older copy of its data.
		before := m.view
		if m.worthRestoring(v) {
			m.known, m.token = false, 0 // the answer to restoring says what holds
			return lost{before}, true
		}
	case v.gen < m.view.gen:
		return lost{}, false // older news, overtaken on the way
	}
	m.dates(&v, sent, now)
	if !m.known || v.epoch != m.view.epoch || v.gen != m.view.gen {
		m.learned, m.mild = now, false
	}
	if !m.known || v.epoch != m.view.epoch {
		closes := m.known && m.view.state == circuit.Closed && m.told != m.view.gen // has yet to be told so
		m.told, m.spent = -1, 0
		if v.state == circuit.Closed && !closes {
			m.told = v.gen // nobody has agreed on anything: what the local breaker does is its own matter
		}
	}
	m.known, m.view = true, v
	m.holds(v, sent)
	return lost{}, false
}

// dates sets v.hand, which an answer that took long has too late, to what an
// earlier one has told of the same override. If a clock has been set since, v.hand
// stands: what was told earlier is not in the time that the call took.
func (m *mirror) dates(v *view, sent, now time.Time) {
	if !m.known || v.handed == "" || v.epoch != m.view.epoch || v.handed != m.view.handed {
		return
	}
	before, latest := m.view.hand.Round(0), v.hand.Round(0) // by the clock that a person sets, as cells have it
	took := now.Round(0).Sub(sent.Round(0)) + rounding
	if before.Before(latest) && (sent.IsZero() || latest.Sub(before) <= took) {
		v.hand = m.view.hand
	}
}

// worthRestoring reports whether a server that now says v has to be told of
// the state that the fleet had agreed on.
func (m *mirror) worthRestoring(v view) bool {
	return m.view.state != circuit.Closed && v.state == circuit.Closed
}

// holds notes from v whether this process has the lease.
func (m *mirror) holds(v view, sent time.Time) {
	if v.state != circuit.Open || m.gates() { // a gate wants it with each probe that fails
		m.want = false
	}
	if v.process != m.process || v.state != circuit.Open {
		m.token, m.used = 0, false
		return
	}
	if m.token != v.gen {
		m.used = false
	}
	if !sent.IsZero() && v.gen != m.spent { // a push came later than what it tells of
		m.token, m.ends = v.gen, v.lease
	}
}

// grant decides whether a probe may be sent now, and whether the server has to
// be asked for a lease, or told that the one at hand is in use.
func (m *mirror) grant(lease time.Duration, now time.Time) (ok, ask bool) {
	switch {
	case !m.known:
		m.want = true
		return false, true
	case m.view.state == circuit.Closed:
		return true, false // the fleet has no say in it: this node alone is open
	case m.view.state != circuit.Open:
		return false, false
	case m.token != 0 && m.token == m.view.gen && m.ends.Sub(now) >= m.margin:
		m.used = true
		return true, m.ends.Sub(now) < lease // it must last as long as the probe
	}
	free := !m.view.lease.After(now) && !m.view.until.After(now)
	if ask = !m.want || free && now.Sub(m.asked) >= m.margin/20; ask {
		m.asked = now
	}
	m.want = true
	return false, ask
}

// renews reports whether the lease is to be asked for at each look at the
// server: it is wanted, or held and not used.
func (m *mirror) renews(now time.Time) bool {
	return m.known && m.want && !m.used && m.view.state == circuit.Open && !m.view.until.After(now)
}

// needsLease reports whether a probe may be sent by who gets the lease, which is
// not this process.
func (m *mirror) needsLease(now time.Time) bool {
	return m.known && m.view.state == circuit.Open && !m.view.until.After(now) && m.token == 0
}

// order returns what the local breaker must be told, if anything.
func (m *mirror) order(now time.Time) (cell.RemoteState, bool) {
	v, o := &m.view, cell.RemoteState{State: uint8(m.view.state), Until: m.view.until, Manual: m.view.byHand, Spread: m.spread()}
	switch {
	case !m.known:
		return o, false
	case v.state == circuit.Closed:
		o.OnlyIfIsolated = m.mild
		return o, m.told != v.gen
	case v.state == circuit.Isolated:
		return o, m.told != v.gen || m.local != circuit.Isolated
	case m.gates():
		return o, !m.warned
	case v.node == m.node && v.lease.After(now):
		return o, false // the breaker of this host is half-open, or about to be
	}
	return o, m.told != v.gen || m.local != circuit.Open
}

// follow notes that the local breaker is being told o.
func (m *mirror) follow(o cell.RemoteState) {
	m.told, m.mild = m.view.gen, false
	if m.warned = m.gates(); !m.warned {
		m.voted = time.Time{} // and what was voted before counts no more
	}
	if !o.OnlyIfIsolated && !m.warned {
		m.local = circuit.State(o.State)
	}
}

// heard notes that the server has been told j, and reports whether that is what
// holds now. If the local breaker is in it by itself, there is no need to tell
// it, and it may have gone on already.
func (m *mirror) heard(j *job) bool {
	late := m.view.until.Sub(j.until).Abs()
	holds := m.known && m.view.state == j.state && (j.state != circuit.Open || j.gate || late < m.margin/2)
	if holds && j.own && m.local == j.state {
		m.told = m.view.gen
	}
	return holds
}

// changed notes a transition that the local breaker has made, and returns what
// the server must be told of it.
func (m *mirror) changed(c cell.Change) (j job, tell bool) {
	m.local = circuit.State(c.To)
	token := m.token
	if m.local != circuit.HalfOpen && token != 0 {
		m.token, m.spent, m.used = 0, token, false
	}
	j = job{state: m.local, until: c.Until, reason: c.Reason, token: token, own: true}
	switch {
	case c.Manual:
		j.kind = byHand
	case m.local == circuit.HalfOpen:
		return job{}, false // it had the leave for it
	case circuit.State(c.From) == circuit.HalfOpen && token != 0, m.local == circuit.Closed:
		j.kind = settle
	default:
		j.kind = trip
	}
	return j, true
}
