package sim

import (
	"math"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/gate"
)

// A gated is the gate of one process, which package circuit would drive by timers.
type gated struct {
	gate.Gate

	line    gate.Line
	until   *int64 // Gate.NotBefore, of all who share the words
	watched int64  // when an attempt was last watched
	look    int64  // when a step of the line is scheduled; in the past: none is
}

// newGates returns new gates for all processes; nil if the clients have no gate. The lines of
// the old gates are kept.
func newGates(c Clients, old []gated) []gated {
	if c.Breaker == nil || c.Breaker.Gate == circuit.NoGate {
		return nil
	}
	gates := make([]gated, c.Processes)
	newGate := func() gated {
		return gated{Gate: gate.Gate{Words: new(gate.Words), FailFast: c.Breaker.Gate == circuit.FailFast}, until: new(int64), look: -1}
	}
	shared := newGate()
	for i := range gates {
		if gates[i] = shared; !c.Shared {
			gates[i] = newGate()
		}
		gates[i].line.Shared = c.Shared
		if old != nil {
			gates[i].line, gates[i].look = old[i].line, old[i].look
		}
	}
	return gates
}

// view returns the gate with its not-before instant.
func (g *gated) view() gate.Gate {
	view := g.Gate
	if g.Heeds() {
		view.NotBefore = *g.until
	}
	return view
}

// gateNow returns the time by the clock of the gates.
func (m *model) gateNow() int64 {
	if m.scenario.Clients.Shared {
		return epoch + m.now + m.set
	}
	return epoch + m.now
}

// patience returns how long an operation would wait at a gate.
func (m *model) patience(o *operation) int64 {
	end := o.deadline
	if limit := m.clients.config.Policy.MaxElapsed; limit > 0 {
		end = min(end, o.arrived+int64(limit))
	}
	if end == math.MaxInt64 {
		end = m.now + int64(gate.Patience)
	}
	return end - m.now
}

// enter asks the gate of the process for an attempt of an operation.
func (m *model) enter(op int32) {
	o := &m.clients.operations[op]
	g := &m.clients.gates[o.process]
	now := m.gateNow()
	end := now
	observes := m.clients.config.Breaker.ObserveOnly
	if m.clients.config.Breaker.Gate == circuit.Wait && !observes {
		end += m.patience(o)
	}
	if o.waiter == nil {
		o.waiter = &gate.Waiter{Tag: op, Timeout: m.clients.config.Policy.AttemptTimeout}
	}
	switch g.line.Enter(g.view(), o.waiter, now, end, o.attempt == 0, m.Float64()) {
	case gate.Admitted:
		m.pass(op)
	case gate.Refused:
		if observes {
			o.waiter.Permit = g.Unmarked()
			m.pass(op)
			return
		}
		m.giveUp(op)
	case gate.Waiting:
		m.clients.waiting++
		m.serveLine(o.process)
	}
}

// pass sends the attempt that the gate has admitted. A retry that is admitted as a probe
// costs no token, since the rate of the probes limits it.
func (m *model) pass(op int32) {
	o := &m.clients.operations[op]
	o.pass = o.waiter.Permit
	if m.now >= o.deadline { // the clock was put back while the operation waited
		m.done(o, gate.Cancelled)
		m.giveUp(op)
		return
	}
	if o.attempt > 0 && o.pass.How == gate.AsProbe {
		breakers.Refund(m.clients.breakers[o.process], o.cost)
		o.spent -= o.cost
		o.cost = 0
	}
	if o.pass.Start != 0 && m.clients.config.Policy.AttemptTimeout == 0 {
		g := &m.clients.gates[o.process]
		m.agenda.add(event{at: m.now + int64(g.LateAfter(time.Duration(m.patience(o)))), kind: late, op: op, turn: o.turn})
	}
	if o.pass.Start == 0 && m.clients.config.Policy.AttemptTimeout == 0 {
		m.watch(op)
	}
	m.send(op)
}

// watch watches one untimed attempt in 100 ms, so that the gate learns of a service that does
// not respond before the deadlines of the callers.
func (m *model) watch(op int32) {
	const rarely = int64(100 * time.Millisecond)
	o := &m.clients.operations[op]
	g := &m.clients.gates[o.process]
	if m.now-g.watched < rarely {
		return
	}
	g.watched = m.now
	m.agenda.add(event{at: m.now + 5*int64(g.Base()), kind: late, op: op, turn: o.turn})
}

// serveLine ends the waits in the line of a process that are over.
func (m *model) serveLine(process int32) {
	g := &m.clients.gates[process]
	now := m.gateNow()
	for w := g.line.Step(g.view(), now); w != nil; w = g.line.Step(g.view(), now) {
		m.clients.waiting--
		op := w.Tag.(int32) //nolint:errcheck // enter sets no other
		if w.Admitted {
			m.pass(op)
		} else {
			m.giveUp(op)
		}
	}
	at, ok := g.line.Next(g.view(), now)
	if ok && g.line.Shared { // all processes know when the next probe is due: whose timer fires first is random
		at += m.random.Int64N(int64(time.Millisecond))
	}
	if ok {
		m.serveLineAt(process, m.now+at-now)
	}
}

// serveLineAt schedules a step of the line of a process, unless an earlier step is scheduled.
func (m *model) serveLineAt(process int32, at int64) {
	if g := &m.clients.gates[process]; g.look < m.now || at < g.look {
		g.look = at
		m.agenda.add(event{at: at, kind: look, op: process})
	}
}

// serveScheduled is the scheduled step of a line.
func (m *model) serveScheduled(e event) {
	if g := &m.clients.gates[e.op]; g.look == e.at && !m.deferred(int(e.op), e) {
		g.look = -1
		m.serveLine(e.op)
	}
}

// ended reports the outcome of an attempt to the gate or the library.
func (m *model) ended(o *operation, a outcome) {
	if m.clients.peers != nil {
		m.peerResult(o, a)
	}
	if m.clients.gates == nil {
		return
	}
	g := &m.clients.gates[o.process]
	switch {
	case a == succeeded:
		*g.until = 0
	case a == throttled && m.backend.hint > 0:
		*g.until = max(*g.until, m.gateNow()+int64(m.backend.hint))
	}
	if a == timedOut && o.pass.Start == 0 {
		o.pass.Start = m.gateNow() - int64(m.clients.config.Policy.AttemptTimeout)
	}
	if !o.late || a == succeeded && g.Learns(o.pass) {
		m.done(o, gateOutcome(a))
	}
	o.late = false
	if a == succeeded && g.Limited() {
		g.line.Succeeded(m.gateNow())
	}
	if g.line.Len() > 0 {
		m.serveLineAt(o.process, m.now)
	}
}

// done reports the outcome of an attempt to the gate of its process.
func (m *model) done(o *operation, how gate.Outcome) {
	if m.clients.gates[o.process].Done(o.pass, how, m.gateNow()) == gate.Limited {
		m.recorder.trip()
	}
}

// gateOutcome returns what a means for a gate.
func gateOutcome(a outcome) gate.Outcome {
	switch a {
	case succeeded:
		return gate.Success
	case throttled:
		return gate.Throttled
	case timedOut:
		return gate.TimedOut
	case cut:
		return gate.Cut
	default:
		return gate.Failure
	}
}

// markLate reports that an attempt without a timeout takes long.
func (m *model) markLate(e event) {
	o := &m.clients.operations[e.op]
	switch {
	case o.turn != e.turn:
	case o.pass.Start == 0:
		m.clients.gates[o.process].Doubt(o.pass)
	default:
		m.done(o, gate.Late)
		o.late = true
	}
}
