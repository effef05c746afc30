package circuit

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/class"
)

// left returns how long after now the instant of w is, by its meaning in the state.
func (b *Breaker) left(w packedState, now instant) instant {
	return b.rules.left(w, now, instant(b.cell.Load().Longest()))
}

// end returns the instant of w on the wall clock, or now if it has passed.
func (b *Breaker) end(w packedState, now instant) time.Time {
	return b.wall(now + max(b.left(w, now), 0))
}

// A refused is the OpenError that all calls in one packed state share.
type refused struct {
	OpenError

	word  packedState
	end   int64        // as elapsed returns it: when the state may admit a call
	until atomic.Int64 // until then refusals need only be counted
}

// newRefused returns a refusal of calls in state w which must be checked each time.
func newRefused(e OpenError, w packedState) *refused {
	r := &refused{OpenError: e, word: w}
	r.until.Store(math.MinInt64)
	return r
}

// matches reports whether a call in state w is refused now as the last one was.
func (r *refused) matches(w packedState) bool { return r.word == w && elapsed() < r.until.Load() }

// refuseAgain counts and returns the refusal r of a call through c.
func (b *Breaker) refuseAgain(c *cell.Cell, r *refused) *OpenError {
	c.Refuse(b.whyRefused(c, r.State))
	b.refusals.count.Add(1)
	return &r.OpenError
}

// refuseKnown counts and returns the refusal of a call with ctx if the last refusal still
// applies. nil means that Acquire must decide.
func (b *Breaker) refuseKnown(ctx context.Context) *OpenError {
	if b == nil {
		return nil
	}
	c, r := b.cell.Load(), b.refused.Load()
	if !r.matches(packedState(c.Breaker.Load())) || ctx.Value(frameKey{}) != nil {
		return nil
	}
	return b.refuseAgain(c, r)
}

// refusal returns why state w admits no call at now. It is made once for each state,
// since an outage refuses many calls.
func (b *Breaker) refusal(w packedState, now instant) *refused {
	if r := b.refused.Load(); r.word == w {
		return r
	}
	r := newRefused(OpenError{Name: b.name, State: w.state()}, w)
	if r.State == Open || r.State == HalfOpen {
		r.RetryAt = b.end(w, now)
	}
	switch left := b.left(w, now); {
	case r.State == Isolated:
		r.end = math.MaxInt64
	case b.config.ObserveOnly, left <= 0, r.State == HalfOpen && w.inFlight() < b.rules.probes: // refused by the store, for now
		return r
	default:
		r.end = b.elapsed() + int64(now+left)*int64(time.Millisecond) - b.now()
	}
	b.refused.Store(r)
	return r
}

// An OpenError reports that a breaker refused a call. All calls refused in one opening
// share one OpenError: do not change it.
type OpenError struct {
	Name    string    // name of the breaker, without secrets
	State   State     // Open, HalfOpen (all probe slots are taken) or Isolated
	RetryAt time.Time // when the breaker may admit a probe; zero means not before Reset

	noCall //nolint:unused // package class sees by it that no call was made
}

type noCall = class.NoCall //nolint:unused // as above

// Error returns the name of the breaker, its state and RetryAt.
func (e *OpenError) Error() string {
	text := fmt.Sprintf("circuit breaker %q is %v", e.Name, e.State)
	switch {
	case e.State == Isolated:
		return text + " until a reset"
	case e.RetryAt.IsZero():
		return text
	}
	return text + "; next probe at " + e.RetryAt.Format(time.RFC3339)
}

// peek returns the refusal of a call by an open or isolated breaker, nil if the breaker
// might admit the call. It acquires and counts nothing.
func (b *Breaker) peek() *OpenError {
	if b == nil {
		return nil
	}
	w := packedState(b.cell.Load().Breaker.Load())
	if w.state() != Open && w.state() != Isolated {
		return nil
	}
	if now := floor(b.now()); b.shut(w, now) {
		return &b.refusal(w, now).OpenError
	}
	return nil
}

// shutOut counts and returns the refusal of a call through c if its state admits no call
// now, not even a probe; else nil.
func (b *Breaker) shutOut(c *cell.Cell) error {
	w := packedState(c.Breaker.Load())
	if w.state() == Closed {
		return nil
	}
	if now := floor(b.now()); b.shut(w, now) {
		return b.rejected(w, now)
	}
	return nil
}

// shut reports whether w admits no call at now, not even a probe.
func (b *Breaker) shut(w packedState, now instant) bool {
	return w.state() == Isolated || w.state() == Open && !b.config.ObserveOnly && b.left(w, now) > 0
}

// refusals counts the calls that this process has refused in one opening, for a log with
// one line for many refusals: the first, if another process opened the breaker, then one
// after 30 s, then one per minute. A refused call that crosses the instant reports, so
// no goroutine runs in the background.
type refusals struct {
	opening atomic.Uint64 // which opening, see Breaker.opening
	count   atomic.Uint64 // refusals in the opening
	due     atomic.Int64  // when the next report is due, as elapsed returns it
	report  atomic.Uint64 // count to report; 0 means none
}

// The delays from an opening to the first report, and from each report to the next.
const firstReport, laterReports = int64(30 * time.Second), int64(time.Minute)

// begin starts a new opening at now.
func (r *refusals) begin(opening uint64, now int64) {
	r.opening.Store(opening)
	r.count.Store(0)
	r.due.Store(now + firstReport)
}

// add counts a refusal at now, and returns when add must be called again, because a
// report is due. Until then counting is enough.
func (r *refusals) add(opening uint64, now int64) (next int64) {
	if old := r.opening.Load(); old != opening && r.opening.CompareAndSwap(old, opening) {
		r.begin(opening, now)
		r.report.Store(1)
	}
	n, due := r.count.Add(1), r.due.Load()
	if now >= due && r.due.CompareAndSwap(due, now+laterReports) {
		r.report.Store(n)
	}
	return r.due.Load()
}

// rejected counts and returns the refusal of a call in state w at now.
func (b *Breaker) rejected(w packedState, now instant) *OpenError {
	c := b.cell.Load()
	c.Refuse(b.whyRefused(c, w.state()))
	next := b.refusals.add(b.opening(w.state()), b.elapsed())
	r := b.refusal(w, now)
	if b.virtual == nil { // matches reads the clock of the process
		r.until.Store(min(r.end, next))
	}
	return &r.OpenError
}

// whyRefused returns why a breaker in state s, whose cell is c, refuses a call.
func (b *Breaker) whyRefused(c *cell.Cell, s State) cell.Refusal {
	switch {
	case s == Isolated:
		return cell.RefusedIsolated
	case s == HalfOpen:
		return cell.RefusedHalfOpen
	case Cause(c.Reason.Load()>>(2*figureBits)) == Throttled:
		return cell.RefusedNotBefore
	default:
		return cell.RefusedOpen
	}
}

// reportRefusals reports the refusals of the current opening, if a report is due.
func (b *Breaker) reportRefusals(ctx context.Context) {
	n := b.refusedDue()
	if n == 0 {
		return
	}
	t := Transition{
		Name: b.name, From: b.State(), Reason: unpack(b.cell.Load().Reason.Load()), At: b.clock(), Refused: n, ObserveOnly: b.config.ObserveOnly,
	}
	if refusal := b.peek(); refusal != nil {
		t.RetryAt = refusal.RetryAt
	}
	t.To = t.From
	b.report(ctx, t)
}

// opening returns the number of the opening that the breaker is in, in state s.
func (b *Breaker) opening(s State) uint64 {
	n := 2 * b.cell.Load().Trips.Load()
	if s == Isolated {
		n++
	}
	return n
}

// refusedDue returns the number of calls refused by this process in the current opening
// if a report is due, else 0. The loop of package retry calls it after a refusal.
func (b *Breaker) refusedDue() uint64 {
	if b == nil || b.refusals.report.Load() == 0 {
		return 0
	}
	return b.refusals.report.Swap(0)
}

// A Limit names a limit of a [Config].
type Limit uint8

// The limits.
const (
	RateLimit        Limit = iota + 1 // Config.Rate
	ConcurrencyLimit                  // Config.Concurrency
)

// String returns rate or concurrency.
func (l Limit) String() string {
	switch l {
	case RateLimit:
		return "rate"
	case ConcurrencyLimit:
		return "concurrency"
	}
	return "Limit(" + strconv.Itoa(int(l)) + ")"
}

// A LimitError reports that a call was not made, because it would exceed a limit of the
// Config and could not wait long enough. Calls may share one LimitError: do not change
// it.
type LimitError struct {
	Name    string    // name of the breaker, without secrets
	Limit   Limit     // the limit that was reached
	RetryAt time.Time // when the next call could be admitted; zero means not known, as for ConcurrencyLimit

	noCall //nolint:unused // package class sees by it that no call was made
}

// Error returns the limit, the name of the breaker and RetryAt.
func (e *LimitError) Error() string {
	text := e.Limit.String() + " limit of " + strconv.Quote(e.Name) + " is reached"
	if e.RetryAt.IsZero() {
		return text
	}
	return text + "; next call at " + e.RetryAt.Format(time.RFC3339)
}
