package circuit

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/gate"
	"github.com/seed-0f2c7998/perdure/internal/queue"
	"github.com/seed-0f2c7998/perdure/internal/seam"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// A rateLimit is what a breaker with a Rate has beside the words in its cell.
type rateLimit struct {
	limit       cell.Limit
	schedule    cell.Schedule // of the store; nil: the cell is it
	warned      atomic.Bool   // that another limit holds
	reportAfter atomic.Int64  // as elapsed returns it: until then a wait is not the first, see queuedFor; 0: there was none

	refused atomic.Pointer[notBefore] // the last refusal; nil: none
	spare   spareTurns                // without a schedule of the store
}

// A notBefore is the refusal of all calls that come before an instant.
type notBefore struct {
	LimitError

	at int64
}

// A turn is a call's way to its instant of the rate.
type turn struct {
	breaker *Breaker
	cell    *cell.Cell
	limit   cell.Limit
	end     int64 // of the caller's patience, as now returns it
}

// awaitTurn takes an instant of the rate for the call of p, to which nothing else is in
// the way, and waits for it. Everything else is asked again after a wait: nobody
// holds a probe or a credit meanwhile, and whom the service would not be sent any
// more is not sent. So what is refused takes no instant, but for that which a wait
// has been for.
func (b *Breaker) awaitTurn(ctx context.Context, c *cell.Cell, p Permit, a ask) (Permit, error) {
	now := b.now()
	if b.pacing.schedule == nil && b.takesTurn(c, now) {
		return p, nil // before the caller's patience begins
	}
	t := turn{b, c, b.inForce(c, now), b.turnEnd(ctx, a, now)}
	slot, err := t.reserve(ctx, now)
	if b.pacing.schedule != nil {
		now = b.now() // that may have taken a while
	}
	if err == nil && slot.At <= now {
		wait := c.Spend(t.limit, now)
		if wait == 0 {
			return p, nil
		}
		slot.At = now + int64(wait)
	}
	if b.config.ObserveOnly {
		return p, nil // in earnest it would have been refused, or waited
	}
	p.done(ctx, result{signal: cancel})
	if err != nil {
		return Permit{}, err
	}
	a.Retries, a.turn = true, true // the operation has been counted
	if _, ok := ctx.Deadline(); !ok && a.Until.IsZero() {
		a.Until = b.wall(ceil(t.end))
	}
	b.reportWaitForTurn(ctx, a, time.Duration(slot.At-now))
	for at := slot.At; ; {
		if err = t.wait(ctx, at); err == nil {
			p, err = b.admit(ctx, c, packedState(c.Breaker.Load()), a)
		}
		if err != nil {
			t.giveBack(slot)
			return Permit{}, err
		}
		now = b.now()
		wait := c.Spend(t.limit, now)
		if wait == 0 {
			p.kind |= paced
			return p, nil
		}
		p.done(ctx, result{signal: cancel})
		at = now + int64(wait)
	}
}

// Of the waits in reportInterval the first that takes so long is reported, for people.
const reportInterval, reportedWait = time.Minute, time.Second

// reportWaitForTurn reports that a call begins to wait for its turn, which comes after d, as
// queued does.
func (b *Breaker) reportWaitForTurn(ctx context.Context, a ask, d time.Duration) {
	if !a.waits {
		return
	}
	first := d >= reportedWait && b.firstInMinute(&b.pacing.reportAfter)
	b.reportQueued(ctx, a, first, Reason{code: RateReached}, b.clock().Add(d))
}

// firstInMinute reports whether it has not for a minute; told says until when not.
func (b *Breaker) firstInMinute(told *atomic.Int64) bool {
	now, until := b.elapsed(), told.Load()
	return (until == 0 || now >= until) && told.CompareAndSwap(until, now+int64(reportInterval))
}

// reportQueued reports that a call begins to wait, and why: until turn, if that is
// known. Of calls of no retry only the first is reported.
func (b *Breaker) reportQueued(ctx context.Context, a ask, first bool, why Reason, turn time.Time) {
	switch {
	case a.Queued != nil:
		a.Queued.Queued(ctx, a.Made, first, turn)
	case first:
		b.report(ctx, Transition{
			Name: b.name, From: b.State(), To: b.State(), Reason: why, At: b.clock(), RetryAt: turn, Queued: true,
		})
	}
}

// turnNow reports whether a call through c, whose word is w, is admitted without more
// ado but for the rate, by which its turn is now.
func (b *Breaker) turnNow(c *cell.Cell, w packedState) bool {
	if b.pacing == nil || b.pacing.schedule != nil || b.places != nil || !w.healthy() || !seam.Of(b).GateHealthy(c) {
		return false
	}
	return b.takesTurn(c, b.now())
}

// takesTurn takes a turn of the cell's schedule, if there is one now.
func (b *Breaker) takesTurn(c *cell.Cell, now int64) bool {
	l := b.inForce(c, now)
	slot, ok := c.Reserve(l, now, now)
	if ok && c.Spend(l, now) == 0 {
		return true
	}
	if ok {
		c.GiveBack(l, slot)
	}
	return false
}

// hasNoTurn reports whether a call that comes to g, which is limited, would have to wait
// for a turn of the rate. Such a call is part of the demand all the same.
func (b *Breaker) hasNoTurn(c *cell.Cell, g gate.Gate, now int64, a ask) bool {
	if b.pacing == nil || b.pacing.schedule != nil || a.turn || b.config.ObserveOnly || !g.Limited() {
		return false
	}
	next, _ := c.Reserve(b.inForce(c, now), now, now-1) // which is too early for any
	if next.At > now && !a.Retries {
		g.Arrive(now)
	}
	return next.At > now
}

// turnEnd returns how long a call waits for its turn, as [Breaker.patience] does.
func (b *Breaker) turnEnd(ctx context.Context, a ask, now int64) int64 {
	if !a.waits || b.config.ObserveOnly || b.virtual != nil {
		return now
	}
	return b.patience(ctx, a, now)
}

// reserve reserves an instant. It waits for one only if the store has to get it
// from elsewhere.
func (t *turn) reserve(ctx context.Context, now int64) (slot cell.Slot, err error) {
	ok := false
	if s := t.breaker.pacing.schedule; s != nil {
		slot, ok = s.Reserve(ctx, t.limit, now, t.end)
	} else if slot, ok = t.breaker.pacing.spare.take(now, t.end); !ok {
		slot, ok = t.cell.Reserve(t.limit, now, t.end)
	}
	switch {
	case ok:
		return slot, nil
	case ctx.Err() != nil:
		return slot, class.Ended(ctx)
	default:
		return slot, t.tooLate(slot.At)
	}
}

// giveBack gives back an instant that is not used.
func (t *turn) giveBack(s cell.Slot) {
	if from := t.breaker.pacing.schedule; from != nil {
		from.GiveBack(t.limit, s)
	} else {
		t.breaker.pacing.spare.add(t.cell, t.limit, s, t.breaker.now())
	}
}

// tooLate counts and returns the refusal of a call that could be at the instant at.
func (t *turn) tooLate(at int64) error {
	t.cell.Rejected.Add(1)
	b := t.breaker
	e := b.pacing.refused.Load()
	if e == nil || e.at != at {
		e = &notBefore{LimitError{Name: b.name, Limit: RateLimit, RetryAt: b.wall(ceil(at))}, at}
		b.pacing.refused.Store(e)
	}
	return &e.LimitError
}

// wait blocks until the instant at. The error is a [*LimitError] at once if that is
// too late for the caller, or that of sleep.
func (t *turn) wait(ctx context.Context, at int64) error {
	b := t.breaker
	now, begun := b.now(), b.elapsed()
	switch {
	case at > t.end:
		return t.tooLate(at)
	case at <= now:
		return nil
	}
	err := b.sleep(ctx, t.cell, time.Duration(at-now))
	waited := b.elapsed() - begun
	t.end += b.now() - now - waited // by what the clock was set meanwhile
	t.cell.Waits.Add(1)
	t.cell.Waited.Add(uint64(waited)) //nolint:gosec // nobody can set that clock
	return err
}

// sleep waits for d, but not longer than the word of c admits calls or ctx lasts: then
// the error is an [*OpenError] or the end of ctx.
func (b *Breaker) sleep(ctx context.Context, c *cell.Cell, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		shuts := b.cell.Interrupted()
		if err := b.shutOut(c); err != nil {
			return err
		}
		select {
		case <-shuts:
		case <-timer.C:
			return class.Ended(ctx)
		case <-ctx.Done():
			return class.Ended(ctx)
		}
	}
}

// inForce returns the limit that holds: the breaker's own, or a lower one that
// another process has for the same name.
func (b *Breaker) inForce(c *cell.Cell, now int64) cell.Limit {
	own := b.pacing.limit
	l := c.InForce(own, now)
	if l != own && !b.pacing.warned.Swap(true) {
		b.log().Warn("Rate limit of '"+b.name+"' is "+setting.RateText(l.PerSecond())+", as another process has it, and not "+setting.RateText(own.PerSecond()),
			"event", "lower_rate", "breaker", b.name, "rate", l.PerSecond(), "burst", l.Burst)
	}
	return l
}

// rateMetrics fills in the rate that is in force, whoever has it.
func (b *Breaker) rateMetrics(c *cell.Cell, m *Metrics) {
	m.Waits, m.Waited = c.Waits.Load(), time.Duration(c.Waited.Load()) //nolint:gosec // years
	now := b.now()
	l, lapsed := c.LastLimit(now)
	switch {
	case b.pacing != nil && (lapsed || b.pacing.limit.Within(l)):
		l = b.pacing.limit
	case lapsed:
		return
	}
	m.Rate, m.Burst, m.Queued = l.PerSecond(), l.Burst, c.Queue(l, now)
	if b.pacing != nil && m.Queued > 0 {
		m.Queued = max(m.Queued-b.pacing.spare.count(now), 0)
	}
}

// A spareTurns holds the turns of calls of this process that left before their turn
// came, and before somebody whose turn is later did: the next calls take them. So a
// crowd that leaves does not hold up those who come after it. The zero spareTurns is
// empty; it is safe for concurrent use.
type spareTurns struct {
	any atomic.Bool // it has some

	mu    sync.Mutex
	queue queue.Queue[*spareTurn] // the earliest at its head; guarded by mu
	ends  map[int64]*spareTurn    // those in the queue, by what the schedule went on to; guarded by mu
}

type spareTurn struct {
	queue.Entry

	slot cell.Slot
}

// add takes s, which is not used. If it is at the end of c's schedule, the schedule goes
// back by it and by those before it that are not used either.
func (t *spareTurns) add(c *cell.Cell, l cell.Limit, s cell.Slot, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(now)
	if !c.GiveBack(l, s) {
		turn := &spareTurn{slot: s}
		t.queue.Join(turn, s.At)
		if t.ends == nil {
			t.ends = make(map[int64]*spareTurn)
		}
		t.ends[s.Next] = turn
	}
	for last := t.ends[s.Next-int64(l.Interval)]; last != nil && c.GiveBack(l, last.slot); {
		t.drop(last)
		last = t.ends[last.slot.Next-int64(l.Interval)]
	}
	t.any.Store(t.queue.Len() > 0)
}

// take returns the earliest turn that lies between now and latest.
func (t *spareTurns) take(now, latest int64) (s cell.Slot, ok bool) {
	if !t.any.Load() {
		return s, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(now)
	if ok = t.queue.Len() > 0 && t.queue.Head().slot.At <= latest; ok {
		s = t.queue.Head().slot
		t.drop(t.queue.Head())
	}
	t.any.Store(t.queue.Len() > 0)
	return s, ok
}

// count returns how many turns lie ahead of now.
func (t *spareTurns) count(now int64) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(now)
	return t.queue.Len()
}

// forget drops the turns before now. t.mu is locked.
func (t *spareTurns) forget(now int64) {
	for t.queue.Len() > 0 && t.queue.Head().slot.At < now {
		t.drop(t.queue.Head())
	}
}

// drop takes turn out. t.mu is locked.
func (t *spareTurns) drop(turn *spareTurn) {
	t.queue.Leave(turn)
	delete(t.ends, turn.slot.Next)
}
