package circuit

import (
	"sync"
	"sync/atomic"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/queue"
)

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
