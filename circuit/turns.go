package circuit

import (
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A spareTurns holds the turns of calls of this process that left before their turn
// came, and before somebody whose turn is later did: the next calls take them. So a
// crowd that leaves does not hold up those who come after it. The zero spareTurns is
// empty; it is safe for concurrent use.
type spareTurns struct {
	any atomic.Bool // it has some

	mu    sync.Mutex
	slots []cell.Slot // the earliest first; guarded by mu
}

// add takes s, which is not used, and puts the schedule of c back by those that are at
// its end.
func (r *spareTurns) add(c *cell.Cell, l cell.Limit, s cell.Slot, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := sort.Search(len(r.slots), func(i int) bool { return r.slots[i].Next >= s.Next })
	r.slots = slices.Insert(r.slots, at, s)
	for n := len(r.slots); n > 0 && c.GiveBack(l, r.slots[n-1]); n-- {
		r.slots = r.slots[:n-1]
	}
	r.forget(now)
}

// take returns the earliest turn that lies between now and latest.
func (r *spareTurns) take(now, latest int64) (s cell.Slot, ok bool) {
	if !r.any.Load() {
		return s, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(now)
	if ok = len(r.slots) > 0 && r.slots[0].At <= latest; ok {
		s = r.slots[0]
		r.slots = r.slots[1:]
	}
	return s, ok
}

// count returns how many turns lie ahead of now.
func (r *spareTurns) count(now int64) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(now)
	return len(r.slots)
}

// forget drops the turns before now. r.mu is locked.
func (r *spareTurns) forget(now int64) {
	past := sort.Search(len(r.slots), func(i int) bool { return r.slots[i].At >= now })
	r.slots = r.slots[past:]
	if len(r.slots) == 0 {
		r.slots = nil
	}
	r.any.Store(r.slots != nil)
}
