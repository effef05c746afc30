package cell

import (
	"sync/atomic"
	"time"
)

// A Refusal says why a call was refused: an index of Cell.Refused.
type Refusal int

// The refusals.
const (
	RefusedOpen Refusal = iota
	RefusedHalfOpen
	RefusedIsolated
	RefusedNotBefore // by an opening that servers asked for
	RefusedByGate
	RefusedLimit  // by the rate or the concurrency
	RefusedBudget // a retry, for which the budget has no tokens
)

// Refuse counts a refused call.
func (c *Cell) Refuse(why Refusal) {
	c.Rejected.Add(1)
	c.Refused[why].Add(1)
}

// The word openTime is the sum of the ends of all openings less the sum of their
// beginnings, in Unix nanoseconds. So while an opening lasts the word is negative, and it
// alone says how long the cell was open: no reader sees an opening without its beginning.

// BeginOpening records that the breaker opens at now, in Unix nanoseconds. It has no
// effect during an opening.
func (c *Cell) BeginOpening(now int64) {
	addIf(&c.openTime, -now, func(w int64) bool { return w >= 0 })
}

// EndOpening records that the opening ends at now. It has no effect after its end.
func (c *Cell) EndOpening(now int64) { addIf(&c.openTime, now, func(w int64) bool { return w < 0 }) }

func addIf(word *atomic.Int64, d int64, holds func(int64) bool) {
	for {
		old := word.Load()
		if !holds(old) || word.CompareAndSwap(old, old+d) {
			return
		}
	}
}

// OpenTime returns how long the breaker was open in all openings together, the current
// one until now included.
func (c *Cell) OpenTime(now int64) time.Duration {
	w := c.openTime.Load()
	if w < 0 {
		w += now
	}
	return time.Duration(max(w, 0))
}
