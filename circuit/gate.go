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

// A GateMode says whether a breaker has a gate, and what happens to a call that the gate
// does not admit.
//
// A gate replaces the fixed open time of a breaker. The gate is limited by five overloads
// in a row without a fast success between them, or by ten failures in a row of any kind.
// Until 15 calls have succeeded, two overloads or three failures are enough, and until one
// has, two failures or the first throttled response: a process that is new or makes few
// calls would send more retries than the service can bear before it had seen five. An
// overload is a throttled response, an attempt that timed out, or an attempt without a
// timeout that has run for an eighth of the time that its caller would wait, at most 3.75 s,
// and for eight times as long as usual; this one counts twice. In a gate that has seen no
// success such an attempt limits nothing, since so long may be usual.
//
// While the gate is limited, each call needs a credit. A success returns the call's
// credit, and a fast success returns two. At intervals one call is admitted without a
// credit, as a probe. The state of the breaker is Open after five failures in a row, or
// after one if fewer than 15 calls had succeeded, and HalfOpen while some calls succeed.
// The first success while no call waits lifts the limit. Config.Observe is called when a
// limit begins and when it ends.
//
// With a gate, FailureThreshold must be 5 or 0, and the other settings of opening and
// closing have no effect, except the window: its ratios limit the gate. Trip, Isolate and
// Reset do the same as without a gate. A Retry-After delays only the caller that received
// it, unless the breaker is Open after two failures in a row or more: then no call is
// admitted until the longest Retry-After is over, and then one probe. A call without a
// deadline waits for at most 30 s. Set a Budget too: each of many small processes that share
// nothing sees too few results to limit its gate.
type GateMode uint8

// The modes of a gate.
const (
	NoGate   GateMode = iota // no gate: the breaker opens for a fixed time
	Wait                     // a call waits until it is admitted or its deadline is near
	FailFast                 // a call that is not admitted at once is refused
)

// String returns off, wait or fail_fast.
func (m GateMode) String() string {
	if names := gateModes(); int(m) < len(names) {
		return names[m]
	}
	return fmt.Sprintf("GateMode(%d)", uint8(m))
}

// MarshalText returns the name of the mode.
func (m GateMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

func gateModes() []string { return []string{"off", "wait", "fail_fast"} }

// gateOf returns the gate whose words are in c.
func (b *Breaker) gateOf(c *cell.Cell) gate.Gate {
	g := gate.Gate{Words: (*gate.Words)(c.Gate[:3]), FailFast: b.config.Gate == FailFast}
	if g.Shut() {
		g.Rare = b.store.ProbedElsewhere(b.key)
	}
	if g.Heeds() {
		g.NotBefore = b.gateNotBefore(c)
	}
	return g
}

// gateNotBefore returns the latest instant that servers have asked for since the last
// success, or 0.
func (b *Breaker) gateNotBefore(c *cell.Cell) int64 {
	now := b.now()
	if left := c.Hint(int64(ceil(now))); left > 0 {
		return now + left*int64(time.Millisecond)
	}
	return 0
}

// calm reports whether a call through c, in state w, is admitted at once, and its success
// changes nothing.
func (b *Breaker) calm(c *cell.Cell, w packedState) bool {
	return w.healthy() && !seam.Of(b).Paced && seam.Of(b).GateHealthy(c)
}

// passGate asks the gate for a call that the breaker has admitted by p, and waits if the call may wait.
func (b *Breaker) passGate(ctx context.Context, c *cell.Cell, p *Permit, a ask) error {
	g, now := b.gateOf(c), b.now()
	end := b.waitEnd(ctx, a, now)
	got, ok := gate.Permit{}, false
	switch waits := a.waits && b.gate.wait && !b.config.ObserveOnly; {
	case waits:
		got, ok = b.enterLine(ctx, c, g, now, end, a)
	case !b.hasNoTurn(c, g, now, a): // otherwise it would take a probe, wait for the rate, and have lost the probe by then
		got, ok = b.enterLine(ctx, c, g, now, now, a)
	}
	switch {
	case ok:
	case ctx.Err() != nil:
		p.record(ctx, result{signal: cancel})
		return class.Ended(ctx)
	case b.config.ObserveOnly:
		c.Refuse(cell.RefusedByGate)
		got = g.Unmarked()
	default:
		p.record(ctx, result{signal: cancel})
		return b.gateRefusal(c, g)
	}
	countAdmitted(c, got)
	*p = p.withGate(got, b.elapsed())
	if a.waits && a.Timeout == 0 && got.Start != 0 {
		p.kind |= kind(b.watch(ctx, c, got, time.Duration(end-got.Start))) << watchShift
	}
	return nil
}

// countAdmitted counts a call that a gate has admitted by p.
func countAdmitted(c *cell.Cell, p gate.Permit) {
	switch p.How {
	case gate.AsProbe:
		c.Probes.Add(1)
	case gate.ByCredit, gate.Following:
		c.Credits.Add(1)
	case gate.Freely:
		return
	}
	addTo(&c.Gate[admittedWord], uint64(p.Generation), 1)
}

// gateRefusal counts and returns the refusal of a call by g.
func (b *Breaker) gateRefusal(c *cell.Cell, g gate.Gate) error {
	if err := b.shutOut(c); err != nil {
		return err // the breaker has opened meanwhile
	}
	now := b.now()
	c.Refuse(cell.RefusedByGate)
	b.refusals.add(b.opening(Open), b.elapsed())
	return &OpenError{Name: b.name, State: gateState(g.Status(now)), RetryAt: b.wall(ceil(g.NextProbe(now)))}
}

// outcome returns what r means for a gate.
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

// behindGate returns what r means for the packed state of a breaker with a gate, which has
// no rules of its own.
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

// gateDone reports the result of the call of p to the gate.
func (b *Breaker) gateDone(ctx context.Context, c *cell.Cell, p Permit, r result) {
	late := !b.gate.watches.stop(uint32(p.kind >> watchShift))
	now, got := b.now(), p.gatePermit()
	if late && (r.outcome() != gate.Success || !b.gateOf(c).Learns(got)) {
		return // it was reported as late
	}
	if p.start != 0 {
		got.Start = now - (b.elapsed() - p.start)
	}
	b.recordOutcome(ctx, c, got, r.outcome(), now)
}

// recordOutcome reports an outcome to the gate, with its side effects.
func (b *Breaker) recordOutcome(ctx context.Context, c *cell.Cell, p gate.Permit, o gate.Outcome, now int64) {
	g := b.gateOf(c)
	shut := g.Shut()
	change := g.Done(p, o, now)
	if failed := o != gate.Success && o != gate.Cancelled; shut != g.Shut() && !failed || shut && failed && p.How == gate.AsProbe {
		b.notifyGateShut(c)
	}
	if o == gate.Success {
		c.ForgetHint() // the service serves calls
		b.gate.succeeded(g, now)
	}
	if o == gate.Success && b.gate.watches.unlimited.Load() && gate.Healthy(g.Words[0].Load()) {
		b.gate.watches.sampleLater(b)
	}
	if b.gate.waiting.Load() > 0 && !b.gate.line.Shared {
		b.serveLine()
	}
	why := Reason{Overloaded, min(g.Failures(), gate.Row), 0}
	if o == gate.Failure {
		why = Reason{Consecutive, g.Failures(), 0}
	}
	b.gateChanged(ctx, c, change, why)
}

// limit limits the gate, because the window tripped.
func (b *Breaker) limit(ctx context.Context, why Reason) {
	c := b.cell.Load()
	b.gateChanged(ctx, c, b.gateOf(c).Limit(b.now()), why)
}

// notifyGateShut notifies the store whether the gate is shut.
func (b *Breaker) notifyGateShut(c *cell.Cell) {
	b.cell.Lock()
	defer b.cell.Unlock()
	b.store.GateShut(b.key, b.gateOf(c).Shut(), Reason{Overloaded, gate.Row, 0}.pack())
}

// applyRemoteToGate applies to the gate what those who share the breaker have agreed on.
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

// gateChanged records and reports that the gate was limited, because of why, or lifted.
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
		c.BeginOpening(b.now())
		b.refusals.begin(b.opening(Open), b.elapsed())
		b.cell.Interrupt()
	} else {
		c.EndOpening(b.now())
		b.window.clear(c)
		if t.From, t.To = HalfOpen, Closed; why.code != Manual && why.code != FleetDecision {
			t.Reason = Reason{Recovered, 1, 0}
		}
	}
	c.Since.Store(now.UnixNano())
	c.Reason.Store(t.Reason.pack())
	b.report(ctx, t)
}

// gateMetrics sets the fields of m that are about the gate.
func (b *Breaker) gateMetrics(c *cell.Cell, m *Metrics) {
	if b.gate == nil {
		return
	}
	g, now := b.gateOf(c), b.now()
	s := g.Status(now)
	m.Gated, m.Limited = true, g.Limited()
	m.Demand, m.Credits, m.Abandoned = s.Demand, c.Credits.Load(), c.Abandoned.Load()
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

// gateState returns the state of a breaker whose gate has status s.
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

// watches are the timers of attempts of this process that have no timeout, so that a long
// attempt is reported before it ends: of all such attempts while the gate is in trouble,
// and of one now and then in health.
type watches struct {
	unlimited atomic.Bool // attempts without a timeout have been made

	mu      sync.Mutex
	last    uint32                 // guarded by mu, as are the following
	running map[uint32]*time.Timer // by number
	sample  *time.Timer
	due     bool // the timer sample is set
}

// samples is the interval at which an attempt is timed in health.
const samples = 100 * time.Millisecond

// watch starts a timer for the attempt of p, whose caller waits for patience, and returns
// the number of the watch.
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

// rearm calls f after d if the attempt n is still running, and reports whether it is.
func (w *watches) rearm(n uint32, d time.Duration, f func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.running[n]
	if ok {
		w.running[n] = time.AfterFunc(d, f)
	}
	return ok
}

// stop ends the watch n, and reports false if the attempt was reported as late. 0 is an
// attempt that is not watched.
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

// sampleLater has the gate time one attempt in health after the interval.
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
