package circuit

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// now returns the time in Unix nanoseconds by the clock of the breaker's words:
// the wall clock if they are shared, since a monotonic reading means nothing to
// another process, and else one that nobody can set.
func (b *Breaker) now() int64 {
	switch from := b.cell.Anchor; {
	case from.IsZero():
		return b.clock().UnixNano()
	case b.virtual != nil:
		return from.UnixNano() + b.elapsed()
	default:
		return from.UnixNano() + int64(time.Since(from))
	}
}

// wall returns t, an instant of the breaker's words, as the wall clock has it.
func (b *Breaker) wall(t instant) time.Time {
	if b.cell.Anchor.IsZero() {
		return time.UnixMilli(int64(t))
	}
	set := time.Duration(b.clock().UnixNano() - b.now()) // by which the wall clock was set since
	if set.Abs() < 2*time.Millisecond {
		set = 0
	}
	return time.UnixMilli(int64(t)).Add(set)
}

// instant returns t, of the wall clock, as an instant of the breaker's words.
func (b *Breaker) instant(t time.Time) instant {
	if b.cell.Anchor.IsZero() {
		return ceil(t.UnixNano())
	}
	return ceil(b.now() + int64(t.Sub(b.clock())))
}

// elapsed returns a time in nanoseconds of which only differences mean anything:
// nobody can set its clock.
func (b *Breaker) elapsed() int64 {
	if b.virtual != nil {
		return int64(b.virtual.Elapsed())
	}
	return elapsed()
}

// tick returns the time in nanoseconds by the clock of the windows, when elapsed
// returns now. It costs half a time.Now, since it reads only the monotonic
// clock, and is of use only within one window.
func (b *Breaker) tick(now int64) int64 {
	if b.virtual != nil {
		return b.virtual.Now().UnixNano()
	}
	return ticks(now)
}

// chance returns a random number in [0, 1).
func (b *Breaker) chance() float64 {
	if b.virtual != nil {
		return b.virtual.Float64()
	}
	return rand.Float64()
}

//nolint:gochecknoglobals // the clock of the windows
var (
	anchor     = time.Now()
	anchorNano = anchor.UnixNano()
	stepped    atomic.Int64 // nanoseconds by which the clock has been set since
)

func ticks(now int64) int64 { return anchorNano + stepped.Load() + now }

// elapsed returns a time in nanoseconds of which only differences mean anything:
// nobody can set its clock.
func elapsed() int64 { return int64(time.Since(anchor)) }

// align makes ticks agree with now after the clock was set, so that processes
// which share a window agree on its slices.
func align(now time.Time) {
	by := stepped.Load()
	if d := now.UnixNano() - ticks(elapsed()); d > int64(time.Second) || d < -int64(time.Second) {
		stepped.CompareAndSwap(by, by+d) // once, by whoever is first
	}
}
