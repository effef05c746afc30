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

// end returns when w's instant is, or now if that has passed.
func (b *Breaker) end(w packedState, now instant) time.Time {
	return b.wall(now + max(b.rules.left(w, now), 0))
}

// A refused is the refusal of all calls that meet the same word.
type refused struct {
	OpenError

	word  packedState
	end   int64        // as elapsed returns it: until then no call passes that meets the word
	until atomic.Int64 // until then a call that meets the word need only be counted
}

// newRefused returns the refusal of calls that meet w, of which each has to be
// looked at for now.
func newRefused(e OpenError, w packedState) *refused {
	r := &refused{OpenError: e, word: w}
	r.until.Store(math.MinInt64)
	return r
}

// matches reports whether a call that matches w now is refused as the last one was.
func (r *refused) matches(w packedState) bool { return r.word == w && elapsed() < r.until.Load() }

// refuseAgain refuses a call through c as r refused the last one.
func (b *Breaker) refuseAgain(c *cell.Cell, r *refused) *OpenError {
	c.Rejected.Add(1)
	b.refusals.count.Add(1)
	return &r.OpenError
}

// refuseKnown returns the refusal of a call whose context is ctx if that is known
// without more ado, and counts it as Acquire does; else nil, which says nothing.
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

// refusal is why w admits no call at now. It is made once for each word, since
// an outage has many.
func (b *Breaker) refusal(w packedState, now instant) *refused {
	if r := b.refused.Load(); r.word == w {
		return r
	}
	r := newRefused(OpenError{Name: b.name, State: w.state()}, w)
	if r.State == Open || r.State == HalfOpen {
		r.RetryAt = b.end(w, now)
	}
	switch left := b.rules.left(w, now); {
	case r.State == Isolated:
		r.end = math.MaxInt64
	case b.config.ObserveOnly, left <= 0, r.State == HalfOpen && w.inFlight() < b.rules.probes: // the store refuses, for now
		return r
	default:
		r.end = b.elapsed() + int64(now+left)*int64(time.Millisecond) - b.now()
	}
	b.refused.Store(r)
	return r
}

// An OpenError reports that a call was not made, because a breaker was not closed.
// All calls that one opening or one probe refuses share one OpenError: do not
// change it.
type OpenError struct {
	Name    string    // name of the breaker, without secrets
	State   State     // Open, HalfOpen (all its probes are under way) or Isolated
	RetryAt time.Time // when the breaker may admit a probe; zero means not by itself

	noCall //nolint:unused // says to package class that no call was made
}

type noCall = class.NoCall //nolint:unused // as above

// Error names the breaker, its state and when to come back.
func (e *OpenError) Error() string {
	text := fmt.Sprintf("circuit breaker %q is %v", e.Name, e.State)
	if e.RetryAt.IsZero() {
		return text
	}
	return text + "; next probe at " + e.RetryAt.Format(time.RFC3339)
}

// peek returns the refusal that a breaker which is open or isolated has for a
// call, and nil for one that would let it pass or, half-open, might. It
// acquires nothing.
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

// shutOut counts and returns the refusal of a call through c, if its word admits no
// call now, be it as a probe; else nil.
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

// shut reports whether w admits no call at now, be it as a probe.
func (b *Breaker) shut(w packedState, now instant) bool {
	return w.state() == Isolated || w.state() == Open && !b.config.ObserveOnly && b.rules.left(w, now) > 0
}

// The refusals that one process has made in one opening, for a log that has one
// line for many: the first of an opening that another process has begun, then
// one after 30 s, and one a minute. It is the refused call that crosses the
// instant which is told to write it, so that nothing runs in the background.
type refusals struct {
	opening atomic.Uint64 // which it is
	count   atomic.Uint64 // of its refusals
	due     atomic.Int64  // when the next report is due, as elapsed returns it
	report  atomic.Uint64 // count that is to be reported, until somebody takes it; 0: none
}

// From the opening to the first report, and from there to each other.
const firstReport, laterReports = int64(30 * time.Second), int64(time.Minute)

// begin notes an opening of which the transition is reported.
func (r *refusals) begin(opening uint64, now int64) {
	r.opening.Store(opening)
	r.count.Store(0)
	r.due.Store(now + firstReport)
}

// add counts a refusal at now, and returns when the next is to be added, which
// it would have reported. Until then counting is enough.
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

// rejected refuses a call that has met w at now.
func (b *Breaker) rejected(w packedState, now instant) *OpenError {
	b.cell.Load().Rejected.Add(1)
	next := b.refusals.add(b.opening(w.state()), b.elapsed())
	r := b.refusal(w, now)
	if b.virtual == nil { // or until would be by another clock than that of meets
		r.until.Store(min(r.end, next))
	}
	return &r.OpenError
}

// reportRefusals reports the refusals of the present opening, if that is due.
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

// opening names the opening that the breaker is in, in that state.
func (b *Breaker) opening(s State) uint64 {
	n := 2 * b.cell.Load().Trips.Load()
	if s == Isolated {
		n++
	}
	return n
}

// refusedDue returns how many calls this process has refused in the present
// opening, if that is to be logged now, and else 0: for the loop of package retry,
// after a refusal.
func (b *Breaker) refusedDue() uint64 {
	if b == nil || b.refusals.report.Load() == 0 {
		return 0
	}
	return b.refusals.report.Swap(0)
}

// A Limit is one of the limits that a [Config] can set.
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

// A LimitError reports that a call was not made, because it would have exceeded a
// limit that its Config sets, and its caller could not wait so long. Calls may share
// one: do not change it.
type LimitError struct {
	Name    string    // name of the breaker, without secrets
	Limit   Limit     // which one
	RetryAt time.Time // when the next call could be admitted; zero means not known, as of ConcurrencyLimit

	noCall //nolint:unused // says to package class that no call was made
}

// Error names the breaker, the limit and when to come back.
func (e *LimitError) Error() string {
	text := e.Limit.String() + " limit of " + strconv.Quote(e.Name) + " reached"
	if e.RetryAt.IsZero() {
		return text
	}
	return text + "; next call at " + e.RetryAt.Format(time.RFC3339)
}
