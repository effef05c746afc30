package fleet

import (
	"context"
	"slices"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// reservations holds the instants of a shared rate that the server has reserved for this
// process, each for one call. An instant expires when the next one begins, so one that
// is not used is lost. It is plain data; the caller holds a lock.
type reservations struct {
	own     cell.Limit // of this process; the zero Limit means that it has no rate
	inForce cell.Limit // of the fleet, as the server last returned it
	nodes   int        // that were alive then

	next      time.Time   // the server has no earlier instant for a new caller
	free      []time.Time // instants that no caller has
	upcoming  []time.Time // future instants, of callers or free
	queue     []*caller   // callers without an instant, first come first served
	requested int         // number of instants in flight
	requestAt time.Time   // when there is room to request more
	refused   bool        // a caller that does not wait was refused, and may call again
}

// A caller waits for an instant.
type caller struct {
	latest time.Time     // latest instant of use to the caller
	done   chan struct{} // closed when at is set
	at     time.Time
	ok     bool // at is the caller's instant; if false, the server has none before at
}

// horizon is how far ahead a process reserves more than one instant.
const horizon = time.Second

// burstTime returns how much earlier than its instant a call may go.
func burstTime(l cell.Limit) time.Duration { return time.Duration(l.Burst-1) * l.Interval }

// expire drops the instants that are over at now.
func (l *reservations) expire(now time.Time) {
	l.upcoming = slices.DeleteFunc(l.upcoming, func(at time.Time) bool { return !at.After(now) })
	l.free = slices.DeleteFunc(l.free, func(at time.Time) bool { return now.Sub(at) >= l.inForce.Interval })
}

// wanted returns how many instants to request, and the latest that is of use. It returns
// 0 until there is room for a batch.
func (l *reservations) wanted(now time.Time) (n int, until time.Time) {
	if l.requested > 0 || l.own.Interval == 0 {
		return 0, now
	}
	if len(l.queue) == 0 {
		if l.refused {
			return 1, now
		}
		return 0, now
	}
	l.expire(now)
	room := max(int(horizon/l.inForce.Interval), 1) - len(l.upcoming)
	if n = min(room, len(l.queue)); n < min(len(l.queue), l.batch()) {
		return 0, now
	}
	until = now
	for _, c := range l.queue[:n] {
		if c.latest.After(until) {
			until = c.latest
		}
	}
	return n, until
}

// batch returns how many instants to request at once, if as many callers wait.
func (l *reservations) batch() int { return max(int(horizon/4/l.inForce.Interval), 1) }

// add adds what the server has reserved.
func (l *reservations) add(g RateGrant, now time.Time) {
	count := min(g.Count, l.requested)
	l.requested, l.refused, l.nodes = 0, false, max(g.Nodes, 1)
	l.inForce = cell.Limit{Interval: g.Interval, Burst: max(g.Burst, 1)}
	if !l.inForce.Within(l.own) { // no correct server returns such a limit
		l.inForce = l.own
	}
	l.expire(now)
	at := now.Add(g.From - burstTime(l.inForce))
	for range count {
		i := at
		if i.Before(now) {
			i = now
		} else {
			l.upcoming = append(l.upcoming, i)
		}
		l.free = append(l.free, i)
		at = at.Add(l.inForce.Interval)
	}
	l.next = at
	l.serve()
	l.queue = slices.DeleteFunc(l.queue, func(c *caller) bool {
		tooLate := l.next.After(c.latest)
		if tooLate {
			c.at = l.next
			close(c.done)
		}
		return tooLate
	})
}

// serve assigns the free instants to the callers in the queue.
func (l *reservations) serve() {
	slices.SortFunc(l.free, time.Time.Compare)
	for len(l.queue) > 0 && len(l.free) > 0 {
		c := l.queue[0]
		l.queue = l.queue[1:]
		c.at = l.free[0]
		if c.ok = !c.at.After(c.latest); c.ok {
			l.free = l.free[1:]
		}
		close(c.done)
	}
}

// take takes a free instant that is not after latest. It returns false if there is no
// such instant, or callers wait in the queue.
func (l *reservations) take(now, latest time.Time) (at time.Time, ok bool) {
	if l.expire(now); len(l.queue) > 0 || len(l.free) == 0 || l.free[0].After(latest) {
		return at, false
	}
	at, l.free = l.free[0], l.free[1:]
	return at, true
}

// dequeue removes c from the queue.
func (l *reservations) dequeue(c *caller) {
	l.queue = slices.DeleteFunc(l.queue, func(other *caller) bool { return other == c })
}

// giveBack assigns the instant at to the next caller.
func (l *reservations) giveBack(at, now time.Time) {
	l.free = append(l.free, at)
	l.expire(now)
	l.serve()
}

// soonest returns an instant before which a new caller cannot have one.
func (l *reservations) soonest(now time.Time) time.Time {
	at := l.next
	if at.Before(now) {
		at = now
	}
	return at.Add(time.Duration(len(l.queue)) * l.inForce.Interval)
}

// A schedule is the [cell.Schedule] of one key.
type schedule struct {
	store *Store
	key   *key
}

// Schedule returns the schedule of the named breaker, which the server keeps.
func (s cells) Schedule(name string, l cell.Limit) cell.Schedule {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	k.rate.own, k.rate.inForce, k.rate.nodes = l, l, max(k.rate.nodes, 1)
	return &schedule{s.Store, k}
}

// Reserve returns an instant that the server has reserved for this process, and waits
// for the server's response. If the server is unreachable, Reserve uses this host's
// share of the rate, which is equal for all hosts that were alive.
func (r *schedule) Reserve(ctx context.Context, l cell.Limit, now, latest int64) (cell.Slot, bool) {
	began := time.Now()
	until := began.Add(time.Duration(latest - now))
	c, at, ok := r.enter(began, until)
	if c != nil {
		r.await(ctx, c)
		at, ok = c.at, c.ok
	}
	if !at.IsZero() {
		slot := cell.Slot{At: now + max(int64(at.Sub(began)), 0), Next: at.UnixNano()}
		if ok && slot.At > now { // the cell shows how many callers wait, and the host's own share begins after them
			r.key.ref.Load().Advance(l, slot.At)
		}
		return slot, ok
	}
	if ctx.Err() != nil {
		return cell.Slot{}, false
	}
	slot, ok := r.key.ref.Load().Reserve(r.hostShare(l), now+int64(time.Since(began)), latest)
	return cell.Slot{At: slot.At}, ok
}

// enter returns a free instant; or, with ok false, an instant before which there is no
// free one; or the new caller that waits in the queue; or only zero values if the
// server is unreachable.
func (r *schedule) enter(now, until time.Time) (c *caller, at time.Time, ok bool) {
	s, rate := r.store, &r.key.rate
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok = rate.take(now, until); ok || s.alone(r.key) {
		return nil, at, ok
	}
	if at = rate.soonest(now); !until.After(now) {
		rate.refused, at = true, laterOf(at, now.Add(time.Millisecond))
		s.wake()
	}
	if at.After(until) {
		return nil, at, false
	}
	c = &caller{latest: until, done: make(chan struct{})}
	rate.queue = append(rate.queue, c)
	s.wake()
	return c, time.Time{}, false
}

// await waits until c is done, ctx is done, or the server is unreachable. c is then no
// longer in the queue.
func (r *schedule) await(ctx context.Context, c *caller) {
	s := r.store
	check := time.NewTicker(s.stale / 10)
	defer check.Stop()
	for away := false; !away && ctx.Err() == nil; {
		select {
		case <-c.done:
			return
		case <-ctx.Done():
		case <-check.C:
			s.mu.Lock()
			away = s.alone(r.key)
			s.mu.Unlock()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.key.rate.dequeue(c)
}

// GiveBack makes the instant available to another call of this process until it
// expires.
func (r *schedule) GiveBack(_ cell.Limit, slot cell.Slot) {
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	if slot.Next != 0 { // an instant of the host's share has no Next, and is lost
		r.key.rate.giveBack(time.Unix(0, slot.Next), time.Now())
	}
}

// hostShare returns this host's share of l while the server is unreachable.
func (r *schedule) hostShare(l cell.Limit) cell.Limit {
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	n := r.key.rate.nodes
	return cell.Limit{Interval: l.Interval * time.Duration(n), Burst: max(l.Burst/n, 1)}
}

// rateCall returns the call that requests instants, and false if none are wanted.
func (k *key) rateCall(now time.Time) (c Call, ok bool) {
	l := &k.rate
	n, until := l.wanted(now)
	l.requested = n
	wait := min(until.Sub(now), cell.MaxHint)
	return Call{Op: Reserve, Rate: RateRequest{Interval: l.own.Interval, Burst: l.own.Burst, Count: n, Until: wait}}, n > 0
}

// applyRate applies the response to rateCall. s.mu is held.
func (s *Store) applyRate(k *key, g RateGrant) {
	now, l := time.Now(), &k.rate
	l.add(g, now)
	if l.inForce != l.own && l.inForce.Within(l.own) {
		k.ref.Load().InForce(l.inForce, now.UnixNano()) // as if a process of this host had that limit
	}
	s.requestLater(l, now)
}

// requestLater requests instants for the queue when there is room for more. s.mu is held.
func (s *Store) requestLater(l *reservations, now time.Time) {
	if len(l.queue) == 0 || l.requestAt.After(now) {
		return
	}
	if l.expire(now); len(l.upcoming) == 0 {
		return
	}
	l.requestAt = l.upcoming[min(l.batch(), len(l.upcoming))-1]
	time.AfterFunc(l.requestAt.Sub(now), s.wake)
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
