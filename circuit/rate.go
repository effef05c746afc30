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

// A rateLimit is the part of a rate limit that is in this process, beside the words in its cell.
type rateLimit struct {
	limit       cell.Limit
	schedule    cell.Schedule // of the store; nil: the schedule is in the cell
	warned      atomic.Bool   // that a lower limit applies
	reportAfter atomic.Int64  // as elapsed returns it: no wait is reported before; 0: none was reported

	refused atomic.Pointer[rateRefusal] // last refusal; nil if none
	spare   spareTurns                  // used if schedule is nil
}

// A rateRefusal is the LimitError that all calls before an instant share.
type rateRefusal struct {
	LimitError

	at int64
}

// A turn is one call that reserves an instant of the rate limit and waits for it.
type turn struct {
	breaker *Breaker
	cell    *cell.Cell
	limit   cell.Limit
	end     int64 // until when the caller waits, as now returns it
	waited  seam.Waited
}

// awaitTurn reserves an instant of the rate limit for the call of p, which is admitted
// otherwise, and waits for it. After a wait the call asks again for everything else: so
// no call holds a probe or a credit while it waits, and no call is made to a service
// that has failed meanwhile. A refused call uses no instant, except after a wait.
func (b *Breaker) awaitTurn(ctx context.Context, c *cell.Cell, p Permit, a ask) (Permit, error) {
	now := b.now()
	if b.rate.schedule == nil && b.takesTurn(c, now) {
		return p, nil // no wait, so the caller's deadline is not read
	}
	t := turn{b, c, b.inForce(c, now), b.turnEnd(ctx, a, now), a.Waited}
	slot, err := t.reserve(ctx, now)
	if b.rate.schedule != nil {
		now = b.now() // reserve may have waited
	}
	if err == nil && slot.At <= now {
		wait := c.Spend(t.limit, now)
		if wait == 0 {
			return p, nil
		}
		slot.At = now + int64(wait)
	}
	if b.config.ObserveOnly {
		return p, nil // without ObserveOnly the call would be refused or wait
	}
	p.done(ctx, result{signal: cancel})
	if err != nil {
		return Permit{}, err
	}
	a.Retries, a.turn = true, true // the operation is already counted
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

// Waits of reportedWait or more are reported, at most one per reportInterval.
const reportInterval, reportedWait = time.Minute, time.Second

// reportWaitForTurn reports that a call begins to wait for its turn, which is after d.
func (b *Breaker) reportWaitForTurn(ctx context.Context, a ask, d time.Duration) {
	if !a.waits {
		return
	}
	first := d >= reportedWait && b.firstInMinute(&b.rate.reportAfter)
	b.reportQueued(ctx, a, seam.ForRate, first, b.clock().Add(d))
}

// firstInMinute reports whether no wait was reported for reportInterval. after is the end
// of the last interval.
func (b *Breaker) firstInMinute(after *atomic.Int64) bool {
	now, until := b.elapsed(), after.Load()
	return (until == 0 || now >= until) && after.CompareAndSwap(until, now+int64(reportInterval))
}

// reportQueued reports that a call begins to wait, why, and until when, if that is known.
// Outside of a retry only the first wait is reported.
func (b *Breaker) reportQueued(ctx context.Context, a ask, cause seam.WaitCause, first bool, turn time.Time) {
	switch {
	case a.Queued != nil:
		a.Queued.Queued(ctx, a.Made, cause, first, turn)
	case first:
		why := unpack(b.cell.Load().Reason.Load())
		switch cause {
		case seam.ForRate:
			why = Reason{code: RateReached}
		case seam.ForPlace:
			why = Reason{code: ConcurrencyReached}
		default:
		}
		b.report(ctx, Transition{
			Name: b.name, From: b.State(), To: b.State(), Reason: why, At: b.clock(), RetryAt: turn, Queued: true,
		})
	}
}

// turnNow takes a turn for a call through c, in state w, and reports whether the call is
// admitted now. false means that acquire must decide.
func (b *Breaker) turnNow(c *cell.Cell, w packedState) bool {
	if b.rate == nil || b.rate.schedule != nil || b.places != nil || !w.healthy() || !seam.Of(b).GateHealthy(c) {
		return false
	}
	return b.takesTurn(c, b.now())
}

// takesTurn takes a turn of the cell's schedule, and reports whether there was one now.
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

// hasNoTurn reports whether a call at g, which is limited, would have to wait for the rate.
// Such a call counts as demand nevertheless.
func (b *Breaker) hasNoTurn(c *cell.Cell, g gate.Gate, now int64, a ask) bool {
	if b.rate == nil || b.rate.schedule != nil || a.turn || b.config.ObserveOnly || !g.Limited() {
		return false
	}
	next, _ := c.Reserve(b.inForce(c, now), now, now-1) // reserves nothing, since no instant is so early
	if next.At > now && !a.Retries {
		g.Arrive(now)
	}
	return next.At > now
}

// turnEnd returns until when a call waits for its turn or place.
func (b *Breaker) turnEnd(ctx context.Context, a ask, now int64) int64 {
	if !a.waits || b.config.ObserveOnly || b.virtual != nil {
		return now
	}
	return b.waitEnd(ctx, a, now)
}

// reserve reserves an instant. It blocks only if the store has to get instants from a server.
func (t *turn) reserve(ctx context.Context, now int64) (slot cell.Slot, err error) {
	ok := false
	if s := t.breaker.rate.schedule; s != nil {
		slot, ok = s.Reserve(ctx, t.limit, now, t.end)
	} else if slot, ok = t.breaker.rate.spare.take(now, t.end); !ok {
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

// giveBack returns an instant that is not used.
func (t *turn) giveBack(s cell.Slot) {
	if from := t.breaker.rate.schedule; from != nil {
		from.GiveBack(t.limit, s)
	} else {
		t.breaker.rate.spare.add(t.cell, t.limit, s, t.breaker.now())
	}
}

// tooLate counts and returns the refusal of a call that could be made at the instant at.
func (t *turn) tooLate(at int64) error {
	t.cell.Refuse(cell.RefusedLimit)
	b := t.breaker
	e := b.rate.refused.Load()
	if e == nil || e.at != at {
		e = &rateRefusal{LimitError{Name: b.name, Limit: RateLimit, RetryAt: b.wall(ceil(at))}, at}
		b.rate.refused.Store(e)
	}
	return &e.LimitError
}

// wait blocks until the instant at. The error is a [*LimitError] at once if the caller does
// not wait so long, else that of sleep.
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
	t.end += b.now() - now - waited // clock steps meanwhile
	t.cell.Waits.Add(1)
	t.cell.Waited.Add(uint64(waited)) //nolint:gosec // monotonic
	if t.waited != nil {
		t.waited.Waited(seam.ForRate, time.Duration(waited))
	}
	return err
}

// sleep waits for d. It returns early with an [*OpenError] if the breaker of c opens, or
// with the cause of ctx if ctx ends.
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

// inForce returns the limit that applies: the breaker's own, or a lower one of another process.
func (b *Breaker) inForce(c *cell.Cell, now int64) cell.Limit {
	own := b.rate.limit
	l := c.InForce(own, now)
	if l != own && !b.rate.warned.Swap(true) {
		b.log().Warn("Rate limit of '"+b.name+"' is "+setting.RateText(l.PerSecond())+", the lower limit of another process, not "+setting.RateText(own.PerSecond()),
			"event", "lower_rate", "breaker", b.name, "rate", l.PerSecond(), "burst", l.Burst)
	}
	return l
}

// rateMetrics sets the fields of m that are about the rate.
func (b *Breaker) rateMetrics(c *cell.Cell, m *Metrics) {
	m.Waits, m.Waited = c.Waits.Load(), time.Duration(c.Waited.Load()) //nolint:gosec // years
	now := b.now()
	l, lapsed := c.LastLimit(now)
	switch {
	case b.rate != nil && (lapsed || b.rate.limit.Within(l)):
		l = b.rate.limit
	case lapsed:
		return
	}
	m.Rate, m.Queued = l.PerSecond(), c.Queue(l, now)
	if b.rate != nil && m.Queued > 0 {
		m.Queued = max(m.Queued-b.rate.spare.count(now), 0)
	}
}

// spareTurns holds the turns of calls of this process that stopped waiting, if other calls
// have reserved later turns since. The next calls take them, so calls that stop waiting do not
// delay those that come after. The zero spareTurns is empty. It is safe for concurrent
// use.
type spareTurns struct {
	any atomic.Bool // the queue is not empty

	mu    sync.Mutex
	queue queue.Queue[*spareTurn] // the earliest turn at its head; guarded by mu
	ends  map[int64]*spareTurn    // the turns in the queue by Slot.Next; guarded by mu
}

type spareTurn struct {
	queue.Entry

	slot cell.Slot
}

// add adds the unused turn s. If s is the last of c's schedule, the schedule is set back
// by s and by the unused turns before it.
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

// take removes and returns the earliest turn between now and latest.
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

// count returns the number of turns after now.
func (t *spareTurns) count(now int64) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(now)
	return t.queue.Len()
}

// forget removes the turns before now. t.mu is held.
func (t *spareTurns) forget(now int64) {
	for t.queue.Len() > 0 && t.queue.Head().slot.At < now {
		t.drop(t.queue.Head())
	}
}

// drop removes turn. t.mu is held.
func (t *spareTurns) drop(turn *spareTurn) {
	t.queue.Leave(turn)
	delete(t.ends, turn.slot.Next)
}
