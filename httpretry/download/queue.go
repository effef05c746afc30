package download

import (
	"cmp"
	"slices"
	"sync"
)

// A queue holds the parts that are still to be claimed. The first answer claims them from the front, for as long as it
// comes to the next one before others do; those claim them from the back, so that it does so for as long as can be.
type queue struct {
	mu    sync.Mutex
	parts []Range // in order
}

// first claims the part at the front, if it begins at from.
func (q *queue) first(from int64) (Range, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.parts) == 0 || q.parts[0].From != from {
		return Range{}, false
	}
	part := q.parts[0]
	q.parts = q.parts[1:]
	return part, true
}

// last claims the part at the back, if there is one.
func (q *queue) last() (Range, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	end := len(q.parts) - 1
	if end < 0 {
		return Range{}, false
	}
	part := q.parts[end]
	q.parts = q.parts[:end]
	return part, true
}

// giveBack leaves a part to others.
func (q *queue) giveBack(part Range) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.parts = append(q.parts, part)
	slices.SortFunc(q.parts, func(a, b Range) int { return cmp.Compare(a.From, b.From) })
}
