package circuit

import (
	"context"
	"sync/atomic"
	"time"
)

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
