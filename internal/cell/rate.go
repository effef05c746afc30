package cell

import (
	"context"
	"math"
	"time"
)

// A Limit is a rate limit: Burst calls at once, then one call per Interval. Make
// it with [NewLimit].
type Limit struct {
	Interval time.Duration
	Burst    int
}

// MaxBurst is the largest Burst of a Limit.
const MaxBurst = 10_000

// NewLimit returns the Limit of perSecond calls a second, from 1/86400 to a million.
// The interval is rounded up to a float32, as cells store it.
func NewLimit(perSecond float64, burst int) Limit {
	exact := 1e9 / perSecond
	rounded := float32(exact)
	if float64(rounded) < exact {
		rounded = math.Nextafter32(rounded, math.MaxFloat32)
	}
	return Limit{interval(math.Float32bits(rounded)), max(burst, 1)}
}

// PerSecond returns how many calls a second l allows.
func (l Limit) PerSecond() float64 { return float64(time.Second) / float64(l.Interval) }

// Within reports whether l is no higher than m: the rates are compared, and if they
// are equal, the bursts.
func (l Limit) Within(m Limit) bool {
	return l.Interval > m.Interval || l.Interval == m.Interval && l.Burst <= m.Burst
}

// tolerance is how far the schedule may be ahead of a call that does not wait: GCRA's
// burst tolerance.
func (l Limit) tolerance() int64 { return int64(l.Burst-1) * int64(l.Interval) }

// A Slot is an instant of a schedule, reserved for one call.
type Slot struct {
	At   int64 // Unix nanoseconds by the clock of the cell's words
	Next int64 // the schedule after this reservation; it identifies the Slot in GiveBack
}

// A Schedule reserves the instants at which a key may be called, in place of the
// key's cell. It is safe for concurrent use.
type Schedule interface {
	// Reserve is like [Cell.Reserve], but may block until the instant is known, ctx
	// ends or latest has come. It reports false if ctx has ended.
	Reserve(ctx context.Context, l Limit, now, latest int64) (s Slot, ok bool)
	// GiveBack returns an unused Slot.
	GiveBack(l Limit, s Slot)
}

// Reserve reserves the next instant of l, at now or later, on the schedule of all
// processes that share the cell (GCRA). If that instant is after latest, it reports
// false and reserves nothing, and s.At is the instant.
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

// GiveBack returns s, which is not used, to the schedule. It reports false, and has
// no effect, if a later instant has been reserved since.
func (c *Cell) GiveBack(l Limit, s Slot) bool {
	return c.Rate[0].CompareAndSwap(uint64(s.Next), uint64(s.Next-int64(l.Interval)))
}

// Advance moves the schedule past the instant at, which a fleet's server has assigned.
func (c *Cell) Advance(l Limit, at int64) {
	next := at + int64(l.Interval) + l.tolerance()
	for old := c.Rate[0].Load(); int64(old) < next && !c.Rate[0].CompareAndSwap(old, uint64(next)); old = c.Rate[0].Load() {
	}
}

// Queue returns the number of reserved instants after now.
func (c *Cell) Queue(l Limit, now int64) int {
	last := int64(c.Rate[0].Load()) - int64(l.Interval) - l.tolerance()
	if last <= now {
		return 0
	}
	return int((last-now-1)/int64(l.Interval)) + 1
}

// Spend counts a call that is made at now, at its reserved instant or late. It returns
// 0, or how long the call must wait nevertheless, because many late calls are made at
// once. So at most burst + rate * t + 1 calls are made in any time t.
func (c *Cell) Spend(l Limit, now int64) (wait time.Duration) {
	most := now + int64(l.Burst)*int64(l.Interval)
	for {
		old := c.spent.Load()
		from := min(max(old, now), most+int64(l.Interval)) // further ahead only after a clock step or a lower limit
		next := from
		if from <= most {
			next += int64(l.Interval)
		}
		if old == next || c.spent.CompareAndSwap(old, next) {
			return time.Duration(max(from-most, 0))
		}
	}
}

// The word of the limit in force:
//
//	interval 32, a float32 of nanoseconds | burst 14 | used 18
//
// used is when the limit was last used, in seconds. It shows that no process uses
// the limit any more, or that the clock was put back.
const (
	usedBits  = 18
	burstBits = 14
	// lapse plus one interval is how long after its last call a limit holds for
	// processes that have a higher limit.
	lapse = time.Minute
)

func interval(bits uint32) time.Duration {
	return time.Duration(math.Ceil(float64(math.Float32frombits(bits))))
}

func (l Limit) pack(now int64) uint64 {
	return uint64(math.Float32bits(float32(l.Interval)))<<(burstBits+usedBits) |
		uint64(l.Burst)<<usedBits | uint64(now/int64(time.Second))&(1<<usedBits-1)
}

// unpackLimit returns the limit of w and the time since its last use, which is
// negative if the clock has been put back since.
func unpackLimit(w uint64, now int64) (Limit, time.Duration) {
	const unused = 64 - usedBits
	age := int64(uint64(now/int64(time.Second))-w) << unused >> unused
	return Limit{interval(uint32(w >> (burstBits + usedBits))), int(w >> usedBits & (1<<burstBits - 1))}, time.Duration(age) * time.Second
}

// InForce returns the limit that applies at now to a caller whose own limit is l:
// l, or a lower limit of another process that shares the cell and used it recently.
// If the clock was put back by more than a minute, the schedule restarts at now
// without a burst.
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

// LastLimit returns the limit that was last in force, and whether it has lapsed by
// now. l is the zero Limit, and lapsed true, if no limit was ever in force.
func (c *Cell) LastLimit(now int64) (l Limit, lapsed bool) {
	w := c.Rate[1].Load()
	if w == 0 {
		return l, true
	}
	l, age := unpackLimit(w, now)
	return l, age < 0 || age > lapse+l.Interval
}

// restart sets the schedule back to at, if it is later.
func (c *Cell) restart(at int64) {
	for old := c.Rate[0].Load(); int64(old) > at && !c.Rate[0].CompareAndSwap(old, uint64(at)); old = c.Rate[0].Load() {
	}
}
