package cell

import (
	"context"
	"math"
	"time"
)

// A Limit is how often a key may be called: Burst calls at once, and then one
// each Interval. Make it with [NewLimit].
type Limit struct {
	Interval time.Duration
	Burst    int
}

// MaxBurst is the largest Burst that a Limit can have.
const MaxBurst = 10_000

// NewLimit returns the Limit of so many calls a second, from 1/86400 to a million.
// The interval is rounded up to what a cell can say.
func NewLimit(perSecond float64, burst int) Limit {
	exact := 1e9 / perSecond
	said := float32(exact)
	if float64(said) < exact {
		said = math.Nextafter32(said, math.MaxFloat32)
	}
	return Limit{interval(math.Float32bits(said)), max(burst, 1)}
}

// PerSecond returns how many calls a second l allows.
func (l Limit) PerSecond() float64 { return float64(time.Second) / float64(l.Interval) }

// Within reports whether l allows no more than m: the lower rate decides, and
// between equal ones the smaller burst.
func (l Limit) Within(m Limit) bool {
	return l.Interval > m.Interval || l.Interval == m.Interval && l.Burst <= m.Burst
}

// tolerance is how far ahead of now the schedule is when a burst has been used up, but
// for one call.
func (l Limit) tolerance() int64 { return int64(l.Burst-1) * int64(l.Interval) }

// A Slot is one instant of a schedule, reserved for one call.
type Slot struct {
	At   int64 // Unix nanoseconds by the clock of the cell's words
	Next int64 // what the schedule went on to, by which who gives the Slot back names it
}

// A Schedule gives out the instants at which a key may be called, in the place of
// its cell. It is safe for concurrent use.
type Schedule interface {
	// Reserve is [Cell.Reserve], but for that it may wait for the instant to be known,
	// until ctx ends or latest. If ctx has ended it reports false.
	Reserve(ctx context.Context, l Limit, now, latest int64) (s Slot, ok bool)
	// GiveBack gives back a Slot that is not used.
	GiveBack(l Limit, s Slot)
}

// Reserve reserves the next instant of l, not before now, on the schedule of all who
// share the cell. It reports false if there is none up to latest: then s.At is when
// the next call could be.
func (c *Cell) Reserve(l Limit, now, latest int64) (s Slot, ok bool) {
	for {
		old := c.Rate[0].Load()
		from := max(int64(old), now)
		s = Slot{At: max(now, from-l.tolerance()), Next: from + int64(l.Interval)}
		if s.At > latest {
			return s, false
		}
		if c.Rate[0].CompareAndSwap(old, uint64(s.Next)) {
			return s, true
		}
	}
}

// GiveBack gives s back, which is not used. It reports false, and has no effect, if
// somebody has reserved an instant after it.
func (c *Cell) GiveBack(l Limit, s Slot) bool {
	return c.Rate[0].CompareAndSwap(uint64(s.Next), uint64(s.Next-int64(l.Interval)))
}

// Advance notes that the instant at is reserved by who has it from elsewhere.
func (c *Cell) Advance(l Limit, at int64) {
	next := at + int64(l.Interval) + l.tolerance()
	for old := c.Rate[0].Load(); int64(old) < next && !c.Rate[0].CompareAndSwap(old, uint64(next)); old = c.Rate[0].Load() {
	}
}

// Queue returns how many instants that lie ahead of now are reserved for calls
// which wait for them.
func (c *Cell) Queue(l Limit, now int64) int {
	last := int64(c.Rate[0].Load()) - int64(l.Interval) - l.tolerance()
	if last <= now {
		return 0
	}
	return int((last-now-1)/int64(l.Interval)) + 1
}

// Spend counts a call of l that goes now, on time or late. It returns 0, or how
// long the call has to wait all the same, because many that were late go at once:
// so in any time t no more than burst + rate x t + 1 go.
func (c *Cell) Spend(l Limit, now int64) (wait time.Duration) {
	most := now + int64(l.Burst)*int64(l.Interval)
	for {
		old := c.spent.Load()
		from := min(max(old, now), most+int64(l.Interval)) // further ahead it is by a clock that was put back, or a lower limit
		next := from
		if from <= most {
			next += int64(l.Interval)
		}
		if old == next || c.spent.CompareAndSwap(old, next) {
			return time.Duration(max(from-most, 0))
		}
	}
}

// The word of the limit in force: when it was last used, in seconds, which tells a
// limit that nobody has any more, and a clock that was put back.
//
//	interval 32, a float32 of nanoseconds | burst 14 | used 18
const (
	usedBits  = 18
	burstBits = 14
	// lapse is for how long after its last call a limit holds for those who
	// have a higher one, beside its interval.
	lapse = time.Minute
)

func interval(bits uint32) time.Duration {
	return time.Duration(math.Ceil(float64(math.Float32frombits(bits))))
}

func (l Limit) pack(now int64) uint64 {
	return uint64(math.Float32bits(float32(l.Interval)))<<(burstBits+usedBits) |
		uint64(l.Burst)<<usedBits | uint64(now/int64(time.Second))&(1<<usedBits-1)
}

// unpackLimit returns the limit of w, and how long ago it was used: less than 0
// by a clock that has been put back since.
func unpackLimit(w uint64, now int64) (Limit, time.Duration) {
	const unused = 64 - usedBits
	age := int64(uint64(now/int64(time.Second))-w) << unused >> unused
	return Limit{interval(uint32(w >> (burstBits + usedBits))), int(w >> usedBits & (1<<burstBits - 1))}, time.Duration(age) * time.Second
}

// InForce returns the limit that holds for a caller at now whose own is l: l
// itself, or a lower one of somebody else who shares the cell and has called
// lately. If the clock was put back by more than a minute, the schedule begins
// anew, with no burst to come.
func (c *Cell) InForce(l Limit, now int64) Limit {
	mine := l.pack(now)
	for {
		old := c.Rate[1].Load()
		if old == mine {
			return l
		}
		if old != 0 {
			held, age := unpackLimit(old, now)
			switch {
			case age < -clockSkew*time.Millisecond:
				c.restart(now + l.tolerance())
			case held.Within(l) && held != l && age <= lapse+held.Interval:
				return held
			}
		}
		if c.Rate[1].CompareAndSwap(old, mine) {
			return l
		}
	}
}

// LastLimit returns the limit that was in force last, at now or before; the zero
// Limit if there was none.
func (c *Cell) LastLimit(now int64) (l Limit, lapsed bool) {
	w := c.Rate[1].Load()
	if w == 0 {
		return l, true
	}
	l, age := unpackLimit(w, now)
	return l, age < 0 || age > lapse+l.Interval
}

// restart puts the schedule back to at, if it is ahead of that.
func (c *Cell) restart(at int64) {
	for old := c.Rate[0].Load(); int64(old) > at && !c.Rate[0].CompareAndSwap(old, uint64(at)); old = c.Rate[0].Load() {
	}
}
