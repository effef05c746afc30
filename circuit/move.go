package circuit

import (
	"context"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// apply makes the step for e, and returns the word that it led to. Config.Observe
// is given ctx.
func (b *Breaker) apply(ctx context.Context, e event) (packedState, bool) {
	return b.applyFor(ctx, e, Reason{})
}

// applyFor is apply with the reason of a verdict.
func (b *Breaker) applyFor(ctx context.Context, e event, why Reason) (packedState, bool) {
	if b == nil || b.err != nil {
		return 0, false
	}
	for {
		m := b.plan(e)
		if m.next == m.old {
			return m.old, m.admitted
		}
		if m.admitted && m.next.state() == HalfOpen && !b.store.AllowProbe(b.key, time.Duration(b.rules.lease)*time.Millisecond) {
			return m.old, false
		}
		if b.commit(ctx, m, why) {
			return m.next, m.admitted
		}
	}
}

// A transition is a step that a breaker is about to make.
type transition struct {
	cell      *cell.Cell
	signal    signal
	old, next packedState
	admitted  bool
	now       int64 // as now returns it
}

// plan returns the step for e.
func (b *Breaker) plan(e event) transition {
	// The word comes first: read the other way round, another goroutine may
	// set an instant in between that seems to lie too far ahead.
	m := transition{cell: b.cell.Load(), signal: e.signal}
	m.old = packedState(m.cell.Breaker.Load())
	m.now = b.now()
	if b.window.length > 0 && b.virtual == nil {
		align(time.Now())
	}
	e.now, e.begin, e.u = floor(m.now), ceil(m.now), b.chance()
	switch e.signal {
	case throttled, failure, verdict:
		e.hint = instant(m.cell.Hint(int64(e.begin)))
	default:
	}
	m.next, m.admitted = b.rules.step(m.old, e)
	return m
}

// swap puts the word after m in the place of the one before it, if that is
// still there.
func (m *transition) swap() bool { return m.cell.Breaker.CompareAndSwap(uint64(m.old), uint64(m.next)) }

// changesState reports whether m changes the state.
func (m *transition) changesState() bool { return m.old.state() != m.next.state() }

// commit makes m, unless the word has changed since, and does what follows from it.
func (b *Breaker) commit(ctx context.Context, m transition, why Reason) bool {
	var t Transition
	made := false
	if m.changesState() {
		t, made = b.commitLocked(m, why)
	} else {
		made = m.swap()
	}
	switch {
	case !made:
		return false
	case m.signal == acquire && m.next.state() == HalfOpen:
		recordProber(m.cell, m.next)
	case m.signal == cancel, m.signal == cut && m.old.state() == HalfOpen:
		b.store.ProbeCancelled(b.key)
	}
	if m.changesState() {
		b.publish(ctx, t)
	}
	return true
}

// publish does what follows from t, for which nothing may be locked.
func (b *Breaker) publish(ctx context.Context, t Transition) {
	if t.To == Open || t.To == Isolated {
		b.cell.Interrupt()
		if b.gate != nil {
			b.serveLine()
		}
	}
	b.report(ctx, t)
}

// commitLocked makes m, which changes the state, and tells the store, before another
// change can be made here.
func (b *Breaker) commitLocked(m transition, why Reason) (t Transition, made bool) {
	b.cell.Lock()
	defer b.cell.Unlock()
	if made = m.swap(); made {
		t = b.recordTransition(m, why)
	}
	return t, made
}

// applyRemote puts the breaker in the state that those who share it have agreed on.
func (b *Breaker) applyRemote(agreed cell.FetchRemote) {
	t, changed, o, due := b.applyRemoteLocked(agreed)
	if changed {
		b.publish(noCaller(), t)
	}
	if due && b.gate != nil {
		b.applyRemoteToGate(o)
	}
}

// applyRemoteLocked is obey without the report, and without the gate, for which nothing may
// be locked. What gates have found is for the gate alone.
func (b *Breaker) applyRemoteLocked(agreed cell.FetchRemote) (t Transition, changed bool, o cell.RemoteState, due bool) {
	b.cell.Lock()
	defer b.cell.Unlock()
	o, due = agreed()
	gated := b.gate != nil && State(o.State) == Open && !o.Manual && packedState(b.cell.Load().Breaker.Load()).state() == Closed
	for again := due && !gated; again; {
		m := b.plan(event{signal: remote, state: State(o.State), until: b.instant(o.Until), onlyIfIsolated: o.OnlyIfIsolated})
		if again = !m.swap(); !again && m.changesState() {
			return b.recordTransition(m, Reason{code: FleetDecision}), true, o, due
		}
	}
	return t, false, o, due
}

// recordTransition does what follows from a change of state, which was made.
func (b *Breaker) recordTransition(m transition, why Reason) Transition {
	c, from, to := m.cell, m.old.state(), m.next.state()
	if why.code == Unknown {
		why = reason(&b.rules, m.old, m.signal)
	}
	now := b.clock()
	c.Since.Store(now.UnixNano())
	c.Reason.Store(why.pack())
	if why.code == Manual {
		c.SetOverride(now, uint8(to))
	}
	switch to {
	case Open:
		c.Trips.Add(1)
	case Closed:
		b.window.clear(c)
	case HalfOpen, Isolated:
	}
	t := Transition{Name: b.name, From: from, To: to, Reason: why, At: now, ObserveOnly: b.config.ObserveOnly}
	t.Refused = b.refusals.count.Swap(0)
	if to == Open || to == Isolated {
		b.refusals.begin(b.opening(to), b.elapsed())
	}
	if to == Open {
		t.RetryAt = b.refusal(m.next, floor(m.now)).RetryAt
	}
	if m.signal != remote {
		b.store.Transitioned(b.key, cell.Change{
			From: uint8(from), To: uint8(to), Until: b.end(m.next, floor(m.now)), Reason: why.pack(), Manual: why.code == Manual,
		})
	}
	return t
}
