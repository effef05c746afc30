package circuit

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// A State is the state of a breaker. The zero State is Closed.
type State uint8

// The states.
const (
	Closed   State = iota // calls are admitted
	Open                  // calls are refused until RetryAt
	HalfOpen              // a few calls are admitted as probes, the rest are refused
	Isolated              // calls are refused until Reset
)

// String returns closed, open, half-open or isolated.
func (s State) String() string {
	if names := stateNames(); int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// MarshalText returns the name of the state.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText sets s to the state of that name, or returns an error.
func (s *State) UnmarshalText(text []byte) error {
	i := slices.Index(stateNames(), string(text))
	if i < 0 {
		return setting.Unknown("state", string(text), stateNames())
	}
	*s = State(i)
	return nil
}

func stateNames() []string { return []string{"closed", "open", "half-open", "isolated"} }

// apply makes the step for e, commits it, and returns the new state. Config.Observe is
// called with ctx.
func (b *Breaker) apply(ctx context.Context, e event) (packedState, bool) {
	return b.applyFor(ctx, e, Reason{})
}

// applyFor is apply with the reason of a verdict.
func (b *Breaker) applyFor(ctx context.Context, e event, why Reason) (packedState, bool) {
	if b == nil || b.err != nil {
		return 0, false
	}
	for {
		p := b.plan(e)
		if p.next == p.old {
			return p.old, p.admitted
		}
		if p.admitted && p.next.state() == HalfOpen && !b.store.AllowProbe(b.key, time.Duration(b.rules.lease)*time.Millisecond) {
			return p.old, false
		}
		if b.commit(ctx, p, why) {
			return p.next, p.admitted
		}
	}
}

// A plan is a step from old to next, before it is committed.
type plan struct {
	cell      *cell.Cell
	signal    signal
	old, next packedState
	admitted  bool
	unsaid    instant // as unsaid returns it
	now       int64   // as now returns it
}

// plan returns the plan for e.
func (b *Breaker) plan(e event) plan {
	// Load the state before the clock: otherwise another goroutine may set an
	// instant in between that seems to be too far ahead.
	p := plan{cell: b.cell.Load(), signal: e.signal}
	p.old = packedState(p.cell.Breaker.Load())
	p.now = b.now()
	if b.window.length > 0 && b.virtual == nil {
		align(time.Now())
	}
	e.now, e.begin, e.longest, e.u = floor(p.now), ceil(p.now), instant(p.cell.Longest()), b.chance()
	switch e.signal {
	case throttled, failure, verdict:
		e.hint = instant(p.cell.Hint(int64(e.begin)))
	default:
	}
	p.next, p.admitted = b.rules.step(p.old, e)
	p.unsaid = b.rules.unsaid(p.next, e)
	return p
}

// swap replaces p.old by p.next, and reports false if the state has changed since. The
// cell has what p.next does not say before another process can see p.next.
func (p *plan) swap() bool {
	p.cell.RecordLongest(int64(p.unsaid))
	return p.cell.Breaker.CompareAndSwap(uint64(p.old), uint64(p.next))
}

// changesState reports whether p changes the State, not only its counts.
func (p *plan) changesState() bool { return p.old.state() != p.next.state() }

// commit takes the step of p with its side effects, and reports false if the state has
// changed since.
func (b *Breaker) commit(ctx context.Context, p plan, why Reason) bool {
	var t Transition
	made := false
	if p.changesState() {
		t, made = b.commitLocked(p, why)
	} else {
		made = p.swap()
	}
	switch {
	case !made:
		return false
	case p.signal == acquire && p.next.state() == HalfOpen:
		recordProber(p.cell, p.next)
	case p.signal == cancel, p.signal == cut && p.old.state() == HalfOpen:
		b.store.ProbeCancelled(b.key)
	}
	if p.changesState() {
		b.publish(ctx, t)
	}
	return true
}

// publish wakes the calls that wait, if the breaker has opened, and reports t. No lock
// is held.
func (b *Breaker) publish(ctx context.Context, t Transition) {
	if t.To == Open || t.To == Isolated {
		b.cell.Interrupt()
		if b.gate != nil {
			b.serveLine()
		}
	}
	b.report(ctx, t)
}

// commitLocked makes p, which changes the State, and notifies the store, before any
// other change can be made in this process.
func (b *Breaker) commitLocked(p plan, why Reason) (t Transition, made bool) {
	b.cell.Lock()
	defer b.cell.Unlock()
	if made = p.swap(); made {
		t = b.recordTransition(p, why)
	}
	return t, made
}

// applyRemote sets the state that those who share the breaker have agreed on.
func (b *Breaker) applyRemote(fetch cell.FetchRemote) {
	t, changed, o, due := b.applyRemoteLocked(fetch)
	if changed {
		b.publish(noCaller(), t)
	}
	if due && b.gate != nil {
		b.applyRemoteToGate(o)
	}
}

// applyRemoteLocked is applyRemote without the report and without the gate, for which
// no lock may be held. Only the gate follows what other gates have found.
func (b *Breaker) applyRemoteLocked(fetch cell.FetchRemote) (t Transition, changed bool, o cell.RemoteState, due bool) {
	b.cell.Lock()
	defer b.cell.Unlock()
	o, due = fetch()
	gated := b.gate != nil && State(o.State) == Open && !o.Manual && packedState(b.cell.Load().Breaker.Load()).state() == Closed
	for again := due && !gated; again; {
		p := b.plan(event{signal: remote, state: State(o.State), until: b.instant(o.Until), onlyIfIsolated: o.OnlyIfIsolated})
		if again = !p.swap(); !again && p.changesState() {
			return b.recordTransition(p, Reason{code: FleetDecision}), true, o, due
		}
	}
	return t, false, o, due
}

// recordTransition records p, a change of State that was made, in the cell, notifies
// the store, and returns what to report.
func (b *Breaker) recordTransition(p plan, why Reason) Transition {
	c, from, to := p.cell, p.old.state(), p.next.state()
	if why.code == Unknown {
		why = reason(&b.rules, p.old, p.signal)
	}
	now := b.clock()
	c.Since.Store(now.UnixNano())
	c.Reason.Store(why.pack())
	if to == Open {
		c.BeginOpening(p.now)
	} else {
		c.EndOpening(b.openUntil(p.old, p.now))
	}
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
		t.RetryAt = b.refusal(p.next, floor(p.now)).RetryAt
	}
	if p.signal != remote {
		b.store.Transitioned(b.key, cell.Change{
			From: uint8(from), To: uint8(to), Until: b.end(p.next, floor(p.now)), Reason: why.pack(), Manual: why.code == Manual,
		})
	}
	return t
}

// openUntil returns the end of the opening of state w if it is over at now, in Unix
// nanoseconds; else now.
func (b *Breaker) openUntil(w packedState, now int64) int64 {
	if w.state() != Open {
		return now
	}
	return now + int64(min(b.left(w, floor(now)), 0))*int64(time.Millisecond)
}

// A Transition is one change of a breaker's state, as Config.Observe gets it.
//
// If From and To are equal, the state has not changed, and the Transition reports one
// of these:
//   - Refused is not 0: the open breaker refuses calls. [Do] and package retry report
//     the first refusal later than 30 s after the opening, then one per minute; also
//     the very first refusal, if another process opened the breaker.
//   - Queued is true, the cause is [RateReached]: a call waits for the rate limit. The
//     first call per minute that must wait a second or more is reported.
//   - Queued is true, the cause is [ConcurrencyReached]: a call waits for a place. One
//     call per minute is reported.
//   - Queued is true, another cause: a call waits at the gate. The first call of this
//     process after each limit of the gate is reported.
type Transition struct {
	Name        string // of the breaker, without secrets
	From, To    State
	Reason      Reason
	At          time.Time // when the transition was made
	RetryAt     time.Time // when an open breaker admits the first probe, or when the rate limit admits the call that waits; else zero
	Refused     uint64    // calls refused by this process since the last change of state
	ObserveOnly bool      // Config.ObserveOnly: calls are admitted nevertheless
	Queued      bool      // a call waits: for what, see the list in the doc of Transition
}

// A Reason is why a breaker changed its state: a [Cause] and its figures.
type Reason struct {
	code Cause
	n, m int
}

// A Cause is the kind of a [Reason].
type Cause uint8

// The causes, and the text of a Reason with its figures n and m.
const (
	Unknown            Cause = iota // not known
	Consecutive                     // n consecutive failures
	Ratio                           // n of m calls in the window failed
	Slow                            // n of m calls in the window were slow
	ProbeFailed                     // a probe failed
	RecoveryTimeout                 // the recovery timeout elapsed
	Recovered                       // n probes succeeded
	Manual                          // Trip, Isolate or Reset was called
	FleetDecision                   // other processes that share the breaker set the state
	Throttled                       // n throttled responses in a row
	Overloaded                      // n overloads in a row: timeouts, throttled responses, late attempts
	RateReached                     // calls wait for Config.Rate
	ConcurrencyReached              // calls wait for a place of Config.Concurrency
)

// String returns the name of the cause in snake case, such as probe_failed.
func (c Cause) String() string {
	names := [...]string{
		"unknown", "consecutive", "ratio", "slow", "probe_failed", "recovery_timeout", "recovered", "manual",
		"fleet_decision", "throttled", "overloaded", "rate_reached", "concurrency_reached",
	}
	if int(c) < len(names) {
		return names[c]
	}
	return "Cause(" + strconv.Itoa(int(c)) + ")"
}

// Cause returns the cause, without its figures.
func (r Reason) Cause() Cause { return r.code }

// String returns the reason as text with its figures: "5 consecutive failures".
func (r Reason) String() string {
	switch r.code {
	case Consecutive:
		return plural(r.n, "consecutive failure")
	case Ratio:
		return fmt.Sprintf("%d of %d calls failed", r.n, r.m)
	case Slow:
		return fmt.Sprintf("%d of %d calls were slow", r.n, r.m)
	case ProbeFailed:
		return "probe failed"
	case RecoveryTimeout:
		return "recovery timeout elapsed"
	case Recovered:
		return plural(r.n, "successful probe")
	case Manual:
		return "manual override"
	case FleetDecision:
		return "set by the fleet"
	case Throttled:
		return plural(r.n, "throttled response") + " in a row"
	case Overloaded:
		return plural(r.n, "overload") + " in a row"
	case RateReached:
		return "rate limit reached"
	case ConcurrencyReached:
		return "concurrency limit reached"
	default:
		return "unknown"
	}
}

// reason returns why signal s changed the state old.
func reason(r *rules, old packedState, s signal) Reason {
	switch {
	case s == acquire:
		return Reason{code: RecoveryTimeout}
	case s == success:
		return Reason{code: Recovered, n: r.successes}
	case (s == failure || s == throttled) && old.state() == HalfOpen:
		return Reason{code: ProbeFailed}
	case s == failure:
		return Reason{code: Consecutive, n: r.failures}
	case s == throttled:
		return Reason{code: Throttled, n: r.throttled}
	default:
		return Reason{code: Manual}
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// A packed Reason: code 8 | n 28 | m 28.
const figureBits, figureMask = 28, 1<<28 - 1

func (r Reason) pack() uint64 {
	return uint64(r.code)<<(2*figureBits) |
		uint64(min(r.n, figureMask))<<figureBits | uint64(min(r.m, figureMask))
}

func unpack(w uint64) Reason {
	return Reason{Cause(w >> (2 * figureBits)), int(w >> figureBits & figureMask), int(w & figureMask)}
}
