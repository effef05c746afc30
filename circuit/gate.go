package circuit

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/gate"
	"github.com/seed-0f2c7998/perdure/internal/seam"
)

// A GateMode says whether a breaker has a gate, and what happens to a call that
// the gate does not admit.
//
// A gate replaces the fixed open time of a breaker. Five overloads in a row
// (throttled responses, attempts that timed out, or that have run for a quarter
// of their caller's patience and have no timeout) without a fast answer between
// them, or ten failures in a row of any kind, limit it. While it is limited an
// attempt needs a credit, which a success gives back and a fast success doubles,
// and every so often one goes without, as a probe: as the breaker's state, it is
// Open after five failures in a row, and HalfOpen while answers come back. The
// first success while nobody is in line lifts the limit. A limit and its end
// are the transitions that Config.Observe sees.
//
// FailureThreshold must be 5 or 0, and the other rules of opening and closing mean
// nothing, but that a window's verdict limits the gate. Trip, Isolate and
// Reset do what they do without a gate. A Retry-After holds nobody but who was
// told, unless nothing gets through: while the breaker is Open, nobody is admitted
// until the longest of them is over, and then one call, as a probe. A caller that
// has no deadline waits for 30 s at most. Set a Budget with it: of many small
// processes that share nothing, each sees too few results to be limited.
type GateMode uint8

// The modes of a gate.
const (
	NoGate   GateMode = iota // there is none: a breaker shuts for a fixed time
	Wait                     // the call waits, until it may go or until its caller's patience ends
	FailFast                 // the call is refused at once
)

// String returns off, wait or fail_fast.
func (m GateMode) String() string {
	if names := gateModes(); int(m) < len(names) {
		return names[m]
	}
	return fmt.Sprintf("GateMode(%d)", uint8(m))
}

// MarshalText returns the mode's name.
func (m GateMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

func gateModes() []string { return []string{"off", "wait", "fail_fast"} }

// gateOf returns the gate whose words are in c.
func (b *Breaker) gateOf(c *cell.Cell) gate.Gate {
	g := gate.Gate{Words: (*gate.Words)(c.Gate[:3])}
	if g.Shut() {
		g.Rare, g.NotBefore = b.store.ProbedElsewhere(b.key), b.gateNotBefore(c)
	}
	return g
}

// gateNotBefore returns the instant that servers have asked for since the last
// success, or 0.
func (b *Breaker) gateNotBefore(c *cell.Cell) int64 {
	now := b.now()
	if left := c.Hint(int64(ceil(now))); left > 0 {
		return now + left*int64(time.Millisecond)
	}
	return 0
}

// calm reports whether a call through c, whose word is w, is admitted without
// more ado, and its success changes no state.
func (b *Breaker) calm(c *cell.Cell, w packedState) bool {
	return w.healthy() && !seam.Of(b).Paced && seam.Of(b).GateHealthy(c)
}

// passGate asks the gate for a call that the breaker's word admits by p.
func (b *Breaker) passGate(ctx context.Context, c *cell.Cell, p *Permit, a ask) error {
	g, now := b.gateOf(c), b.now()
	end := b.patience(ctx, a, now)
	got, ok := gate.Permit{}, false
	switch waits := a.waits && b.gate.wait && !b.config.ObserveOnly; {
	case waits:
		got, ok = b.enterLine(ctx, c, g, now, end, a)
	case !b.hasNoTurn(c, g, now, a): // or it would take a probe, wait, and have none when its turn comes
		got, ok = b.enterLine(ctx, c, g, now, now, a)
	}
	switch {
	case ok:
	case ctx.Err() != nil:
		p.record(ctx, result{signal: cancel})
		return class.Ended(ctx)
	case b.config.ObserveOnly:
		c.Rejected.Add(1)
		got = g.Unmarked()
	default:
		p.record(ctx, result{signal: cancel})
		return b.gateRefusal(c, g)
	}
	countAdmitted(c, got)
	*p = p.withGate(got, b.elapsed())
	if a.waits && !a.Timeout && got.Start != 0 {
		p.kind |= kind(b.watch(ctx, c, got, time.Duration(end-got.Start))) << watchShift
	}
	return nil
}

// countAdmitted counts a call that a gate has admitted by p.
func countAdmitted(c *cell.Cell, p gate.Permit) {
	switch p.How {
	case gate.AsProbe:
		c.Probes.Add(1)
	case gate.ByCredit:
		c.Credits.Add(1)
	case gate.Freely:
		return
	}
	addTo(&c.Gate[admittedWord], uint64(p.Generation), 1)
}

// gateRefusal counts and returns the refusal of a call by g.
func (b *Breaker) gateRefusal(c *cell.Cell, g gate.Gate) error {
	if err := b.shutOut(c); err != nil {
		return err // since the call has come to the gate
	}
	now := b.now()
	c.Rejected.Add(1)
	b.refusals.add(b.opening(Open), b.elapsed())
	return &OpenError{Name: b.name, State: gateState(g.Status(now)), RetryAt: b.wall(ceil(g.NextProbe(now)))}
}

// outcome returns what a result is for a gate.
func (r result) outcome() gate.Outcome {
	switch {
	case r.signal == success:
		return gate.Success
	case r.signal == throttled, r.class == class.Throttled:
		return gate.Throttled
	case r.signal == cut:
		return gate.Cut
	case r.signal == failure && r.timedOut:
		return gate.TimedOut
	case r.signal == failure:
		return gate.Failure
	default:
		return gate.Cancelled
	}
}

// behindGate returns what a result is for the breaker's word, which has no rule of
// its own if there is a gate.
func (r result) behindGate() result {
	switch r.signal {
	case throttled:
		r.signal = failure
	case cut:
		r.signal = cancel
	default:
	}
	return r
}

// gateDone tells the gate how the call of p has ended.
func (b *Breaker) gateDone(ctx context.Context, c *cell.Cell, p Permit, r result) {
	if !b.gate.watches.stop(uint32(p.kind >> watchShift)) {
		return // it has been late, and there is nothing more to say
	}
	now := b.now()
	got := p.gatePermit()
	if p.start != 0 {
		got.Start = now - (b.elapsed() - p.start)
	}
	b.recordOutcome(ctx, c, got, r.outcome(), now)
}

// recordOutcome tells the gate of an outcome, and does what follows from it.
func (b *Breaker) recordOutcome(ctx context.Context, c *cell.Cell, p gate.Permit, o gate.Outcome, now int64) {
	g := b.gateOf(c)
	shut := g.Shut()
	change := g.Done(p, o, now)
	if failed := o != gate.Success && o != gate.Cancelled; shut != g.Shut() && !failed || shut && failed && p.How == gate.AsProbe {
		b.notifyGateShut(c)
	}
	if o == gate.Success {
		c.ForgetHint() // something gets through
	}
	if o == gate.Success && b.gate.watches.unlimited.Load() && gate.Healthy(g.Words[0].Load()) {
		b.gate.watches.sampleLater(b)
	}
	if b.gate.waiting.Load() > 0 && !b.gate.line.Shared {
		b.serveLine()
	}
	why := Reason{Overloaded, gate.Row, 0}
	if o == gate.Failure {
		why = Reason{Consecutive, 2 * gate.Row, 0}
	}
	b.gateChanged(ctx, c, change, why)
}

// limit limits the gate, because a rule of the window says so.
func (b *Breaker) limit(ctx context.Context, why Reason) {
	c := b.cell.Load()
	b.gateChanged(ctx, c, b.gateOf(c).Limit(b.now()), why)
}

// notifyGateShut tells the store whether nothing gets through.
func (b *Breaker) notifyGateShut(c *cell.Cell) {
	b.cell.Lock()
	defer b.cell.Unlock()
	b.store.GateShut(b.key, b.gateOf(c).Shut(), Reason{Overloaded, gate.Row, 0}.pack())
}

// applyRemoteToGate has the gate take in what those who share the breaker have agreed on.
func (b *Breaker) applyRemoteToGate(o cell.RemoteState) {
	c := b.cell.Load()
	g, now := b.gateOf(c), b.now()
	switch s := State(o.State); {
	case s == Closed && o.OnlyIfIsolated:
	case s == Closed && o.Manual:
		b.resetGate(FleetDecision)
	case s == Closed:
		g.Hasten(now, o.Spread)
		b.serveLine()
	case s == Open && !o.Manual:
		b.gateChanged(noCaller(), c, g.Warn(now), Reason{code: FleetDecision})
	}
}

// resetGate lifts the limit, because a person wants it.
func (b *Breaker) resetGate(why Cause) {
	c := b.cell.Load()
	change := b.gateOf(c).Reset(b.now())
	b.serveLine()
	if change == gate.Lifted && why == Manual {
		b.cell.Lock()
		b.store.Transitioned(b.key, cell.Change{From: uint8(HalfOpen), To: uint8(Closed), Reason: Reason{code: Manual}.pack(), Manual: true})
		b.cell.Unlock()
	}
	b.gateChanged(noCaller(), c, change, Reason{code: why})
}

// gateChanged notes and reports that the gate has been limited, for that reason,
// or lifted.
func (b *Breaker) gateChanged(ctx context.Context, c *cell.Cell, change gate.Change, why Reason) {
	if change == gate.Unchanged {
		return
	}
	now := b.clock()
	t := Transition{Name: b.name, From: Closed, At: now, Reason: why, ObserveOnly: b.config.ObserveOnly}
	t.Refused = b.refusals.count.Swap(0)
	if change == gate.Limited {
		t.To, t.RetryAt = Open, b.wall(ceil(b.gateOf(c).NextProbe(b.now())))
		c.Trips.Add(1)
		b.refusals.begin(b.opening(Open), b.elapsed())
		b.cell.Interrupt()
	} else {
		b.window.clear(c)
		if t.From, t.To = HalfOpen, Closed; why.code != Manual && why.code != FleetDecision {
			t.Reason = Reason{Recovered, 1, 0}
		}
	}
	c.Since.Store(now.UnixNano())
	c.Reason.Store(t.Reason.pack())
	b.report(ctx, t)
}

// gateMetrics fills in what the gate, if there is one, has to say.
func (b *Breaker) gateMetrics(c *cell.Cell, m *Metrics) {
	if b.gate == nil {
		return
	}
	g, now := b.gateOf(c), b.now()
	s := g.Status(now)
	m.Demand, m.Pace, m.Credits, m.Abandoned = s.Demand, s.Pace, c.Credits.Load(), c.Abandoned.Load()
	generation := c.Gate[0].Load() >> generationAt
	m.Waiting, m.AtGate = int(b.gate.waiting.Load()), number(c.Gate[waitingWord].Load(), generation)
	if since := b.clock().UnixNano() - c.Since.Load(); g.Limited() && since > 0 {
		m.Admitted = float64(number(c.Gate[admittedWord].Load(), generation)) / time.Duration(since).Seconds()
	}
	m.OldestWait = b.gate.oldestWait(now)
	if m.RetryAt.IsZero() && m.State == Open {
		m.RetryAt = b.wall(ceil(g.NextProbe(now)))
	}
}

// gateState returns the state of a breaker whose gate has that status.
func gateState(s gate.Status) State {
	switch s.State {
	case gate.Open:
		return Open
	case gate.HalfOpen:
		return HalfOpen
	default:
		return Closed
	}
}

// watches are the attempts of a process that have no timeout of their own and are
// watched, so that one that has run for long is known before it ends: all of
// them while the gate is in trouble, and in health one now and then.
type watches struct {
	unlimited atomic.Bool // there are attempts without a timeout

	mu      sync.Mutex
	last    uint32                 // guarded by mu, as what follows
	running map[uint32]*time.Timer // by number
	sample  *time.Timer
	due     bool // the sample is
}

// samples is how long after an attempt that was timed in health another one is.
const samples = 100 * time.Millisecond

// watch watches the attempt of p, whose caller's patience is that, and returns
// its number.
func (b *Breaker) watch(ctx context.Context, c *cell.Cell, p gate.Permit, patience time.Duration) uint32 {
	w, g := &b.gate.watches, b.gateOf(c)
	w.unlimited.Store(true)
	late := g.LateAfter(patience)
	first := late
	if base := g.Base(); p.How == gate.Freely && base > 0 {
		first = min(late, 5*base)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last++; w.last == 0 {
		w.last++
	}
	if w.running == nil {
		w.running = map[uint32]*time.Timer{}
	}
	n := w.last
	isLate := func() {
		if w.stop(n) {
			b.recordOutcome(ctx, c, p, gate.Late, b.now())
		}
	}
	w.running[n] = time.AfterFunc(first, func() {
		if first == late || !w.rearm(n, late-first, isLate) {
			isLate()
			return
		}
		g.Doubt(p)
	})
	return n
}

// rearm calls f after d if the attempt n is still running, and reports that.
func (w *watches) rearm(n uint32, d time.Duration, f func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.running[n]
	if ok {
		w.running[n] = time.AfterFunc(d, f)
	}
	return ok
}

// stop reports whether the attempt n has not been late, and stops watching it. 0 is
// one that is not watched.
func (w *watches) stop(n uint32) bool {
	if n == 0 {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	timer, ok := w.running[n]
	if ok {
		timer.Stop()
		delete(w.running, n)
	}
	return ok
}

// sampleLater has an attempt of a gate in health timed after a while.
func (w *watches) sampleLater(b *Breaker) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.due {
		return
	}
	w.due = true
	if w.sample == nil {
		w.sample = time.AfterFunc(samples, func() {
			w.mu.Lock()
			w.due = false
			w.mu.Unlock()
			b.gateOf(b.cell.Load()).Sample()
		})
		return
	}
	w.sample.Reset(samples)
}
