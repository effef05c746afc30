package fleet

import (
	"context"
	"slices"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A reservations is what a process has of a rate that the fleet shares: instants that the
// server has reserved for it, each for one call. None is kept for longer than to the
// next one, so what is not used is lost. It is plain data; its user holds a lock.
type reservations struct {
	own     cell.Limit // of this process; the zero Limit: it has no rate
	inForce cell.Limit // in the fleet, as the server last said
	nodes   int        // that were alive then

	next      time.Time   // the server has nothing before this for who comes now
	free      []time.Time // instants that no caller has
	upcoming  []time.Time // instants still to come, of callers or free
	queue     []*caller   // who are to have one each, first come first served
	requested int         // for how many of these the server is being asked
	requestAt time.Time   // when there is room to ask for more
	refused   bool        // somebody who does not wait was refused, and will come again
}

// A caller waits to know its instant.
type caller struct {
	latest time.Time     // that it would wait for
	done   chan struct{} // closed when at is known
	at     time.Time
	ok     bool // it has at; else the server has nothing before that
}

// horizon is for how long ahead a process reserves instants, but for one.
const horizon = time.Second

// burstTime is by how much a call may go earlier than its instant.
func burstTime(l cell.Limit) time.Duration { return time.Duration(l.Burst-1) * l.Interval }

// expire drops what is over at now.
func (l *reservations) expire(now time.Time) {
	l.upcoming = slices.DeleteFunc(l.upcoming, func(at time.Time) bool { return !at.After(now) })
	l.free = slices.DeleteFunc(l.free, func(at time.Time) bool { return now.Sub(at) >= l.inForce.Interval })
}

// wanted returns for how many instants the server is to be asked, and up to when they
// would do. It is not asked again for each that passes.
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

// batch is for how many instants there must be room for the server to be asked.
func (l *reservations) batch() int { return max(int(horizon/4/l.inForce.Interval), 1) }

// add takes in what the server has reserved.
func (l *reservations) add(g RateGrant, now time.Time) {
	count := min(g.Count, l.requested)
	l.requested, l.refused, l.nodes = 0, false, max(g.Nodes, 1)
	l.inForce = cell.Limit{Interval: g.Interval, Burst: max(g.Burst, 1)}
	if !l.inForce.Within(l.own) { // no server that counts right says so
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

// serve gives those in line what is free.
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

// take takes an instant up to latest that is free, if there is one.
func (l *reservations) take(now, latest time.Time) (at time.Time, ok bool) {
	if l.expire(now); len(l.queue) > 0 || len(l.free) == 0 || l.free[0].After(latest) {
		return at, false
	}
	at, l.free = l.free[0], l.free[1:]
	return at, true
}

// dequeue takes c out of the line.
func (l *reservations) dequeue(c *caller) {
	l.queue = slices.DeleteFunc(l.queue, func(other *caller) bool { return other == c })
}

// giveBack has the instant at given to the next caller.
func (l *reservations) giveBack(at, now time.Time) {
	l.free = append(l.free, at)
	l.expire(now)
	l.serve()
}

// soonest returns an instant before which who comes now cannot have one.
func (l *reservations) soonest(now time.Time) time.Time {
	at := l.next
	if at.Before(now) {
		at = now
	}
	return at.Add(time.Duration(len(l.queue)) * l.inForce.Interval)
}

// A schedule is that of one key.
type schedule struct {
	store *Store
	key   *key
}

// Schedule returns the schedule of key, on which instants are reserved at the
// server.
func (s cells) Schedule(name string, l cell.Limit) cell.Schedule {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	k.rate.own, k.rate.inForce, k.rate.nodes = l, l, max(k.rate.nodes, 1)
	return &schedule{s.Store, k}
}

// Reserve returns an instant that the server has reserved for this process, and
// waits for its answer. If the server is away, this host goes by a part of the rate,
// as large as that of each other host that was alive.
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
		if ok && slot.At > now { // so that people see how many wait, and what this host does alone comes after it
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

// enter returns an instant that is free or, if not ok, one before which there is none
// for the caller; or the caller's place in line; or nothing of these if the server is
// away.
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

// await waits until c has its answer, ctx has ended, or the server is away. Then c has
// left the line.
func (r *schedule) await(ctx context.Context, c *caller) {
	s := r.store
	look := time.NewTicker(s.stale / 10)
	defer look.Stop()
	for away := false; !away && ctx.Err() == nil; {
		select {
		case <-c.done:
			return
		case <-ctx.Done():
		case <-look.C:
			s.mu.Lock()
			away = s.alone(r.key)
			s.mu.Unlock()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.key.rate.dequeue(c)
}

// GiveBack lets another call of this process have the instant, as long as it is not
// over.
func (r *schedule) GiveBack(_ cell.Limit, slot cell.Slot) {
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	if slot.Next != 0 { // else it is of the host's part, and lost
		r.key.rate.giveBack(time.Unix(0, slot.Next), time.Now())
	}
}

// hostShare returns the hostShare that this host has of l while the server is away.
func (r *schedule) hostShare(l cell.Limit) cell.Limit {
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	n := r.key.rate.nodes
	return cell.Limit{Interval: l.Interval * time.Duration(n), Burst: max(l.Burst/n, 1)}
}

// rateCall returns the call that asks for instants, if any are wanted.
func (k *key) rateCall(now time.Time) (c Call, ok bool) {
	l := &k.rate
	n, until := l.wanted(now)
	l.requested = n
	wait := min(until.Sub(now), cell.MaxHint)
	return Call{Op: Reserve, Rate: RateRequest{Interval: l.own.Interval, Burst: l.own.Burst, Count: n, Until: wait}}, n > 0
}

// applyRate takes in the answer. s.mu is held.
func (s *Store) applyRate(k *key, g RateGrant) {
	now, l := time.Now(), &k.rate
	l.add(g, now)
	if l.inForce != l.own && l.inForce.Within(l.own) {
		k.ref.Load().InForce(l.inForce, now.UnixNano()) // as if a process of this host had it
	}
	s.requestLater(l, now)
}

// requestLater has the server asked for those in line when there is room for more. s.mu is
// held.
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
