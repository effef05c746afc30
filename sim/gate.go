package sim

import (
	"math"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/gate"
)

// gated is the gate of one process, as package circuit would drive it by timers.
type gated struct {
	gate.Gate

	line    gate.Line
	until   *int64 // of all who share the words: Gate.NotBefore
	watched int64  // when an attempt was last
	look    int64  // when the line needs a step; in the past: no step is scheduled
}

// newGates returns the gates of all processes, about which nothing is known. Who
// waits in the line of an old one waits in that of the new one.
func newGates(c Clients, old []gated) []gated {
	if c.Breaker == nil || c.Breaker.Gate == circuit.NoGate {
		return nil
	}
	gates := make([]gated, c.Processes)
	newGate := func() gated {
		return gated{Gate: gate.Gate{Words: new(gate.Words)}, until: new(int64), look: -1}
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

// view returns the gate with the instant that its service has asked for.
func (g *gated) view() gate.Gate {
	view := g.Gate
	view.NotBefore = *g.until
	return view
}

// gateNow returns the time by the clock of the gates' words.
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

// enter brings an operation to the gate of its process.
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
		o.waiter = &gate.Waiter{Tag: op}
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
		m.move(o.process)
	}
}

// pass sends the attempt that the gate has admitted. A retry that goes as a probe
// costs no token: the rate of the probes bounds it.
func (m *model) pass(op int32) {
	o := &m.clients.operations[op]
	o.pass = o.waiter.Permit
	if m.now >= o.deadline { // a clock was set back while it waited
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

// watch looks after one attempt in 100 ms of those that are not timed, to learn of
// a service that does not answer before the deadlines of its callers end.
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

// move lets go of whoever in the line of a process need not wait any more.
func (m *model) move(process int32) {
	g := &m.clients.gates[process]
	now := m.gateNow()
	for w := g.line.Step(g.view(), now); w != nil; w = g.line.Step(g.view(), now) {
		m.clients.waiting--
		op := w.Tag.(int32) //nolint:errcheck // enter puts nothing else there
		if w.Admitted {
			m.pass(op)
		} else {
			m.giveUp(op)
		}
	}
	at, ok := g.line.Next(g.view(), now)
	if ok && g.line.Shared { // all processes know when the next probe is due: whose timer is first is chance
		at += m.random.Int64N(int64(time.Millisecond))
	}
	if ok {
		m.moveAt(process, m.now+at-now)
	}
}

// moveAt schedules a step of the line of a process, unless an earlier one is.
func (m *model) moveAt(process int32, at int64) {
	if g := &m.clients.gates[process]; g.look < m.now || at < g.look {
		g.look = at
		m.agenda.add(event{at: at, kind: look, op: process})
	}
}

// looks is the step of a line that was scheduled.
func (m *model) looks(e event) {
	if g := &m.clients.gates[e.op]; g.look == e.at && !m.stands(int(e.op), e) {
		g.look = -1
		m.move(e.op)
	}
}

// ended records at the gate, or the library, how an attempt has ended.
func (m *model) ended(o *operation, a answer) {
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
	if !o.late {
		m.done(o, outcome(a))
	}
	o.late = false
	if g.line.Len() > 0 {
		m.moveAt(o.process, m.now)
	}
}

// done tells the gate of an operation's process how its attempt has ended.
func (m *model) done(o *operation, how gate.Outcome) {
	if m.clients.gates[o.process].Done(o.pass, how, m.gateNow()) == gate.Limited {
		m.recorder.trip()
	}
}

// outcome returns what an answer is for a gate.
func outcome(a answer) gate.Outcome {
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

// lag notes that an attempt without a timeout takes too long.
func (m *model) lag(e event) {
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
