package circuit

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A window counts the calls of the last length of time, in buckets of a tenth of the
// length, and applies the ratio rules. The counts are exact, so a verdict does not depend
// on the call rate, as it would with a moving average.
type window struct {
	length   time.Duration // 0 means no window
	slice    uint64        // nanoseconds of a bucket
	slow     time.Duration // calls of this duration or more are slow; 0: not measured
	minCalls int
	failed   float64 // ratio of failures that trips; 0: never
	slowed   float64 // ratio of slow calls that trips
}

// A bucketWord is slice 24 | calls 20 | bad 20. slice is the number of the tenth that is
// counted, by which a word of an earlier window is recognized.
type bucketWord uint64

const (
	bucketBits = 20
	bucketMask = 1<<bucketBits - 1
	sliceMask  = 1<<24 - 1
	bucketFull = bucketMask - 1<<10 // leaves room for concurrent adds
)

// farthest is how many slices a word may be ahead of a call that ends late. A word further
// ahead was written before the clock was put back, or before the numbers wrapped around.
const farthest = 10 * cell.Buckets

func newBucketWord(slice uint64, calls, bad uint64) bucketWord {
	return bucketWord(slice&sliceMask<<(2*bucketBits) | calls<<bucketBits | bad)
}

func (t bucketWord) slice() uint64 { return uint64(t) >> (2 * bucketBits) }
func (t bucketWord) calls() uint64 { return uint64(t) >> bucketBits & bucketMask }
func (t bucketWord) bad() uint64   { return uint64(t) & bucketMask }

// record counts one call that began at start and ended at end, when the clock of the
// windows was tick. It returns the reason to trip, if the call is bad and meets a rule.
func (v *window) record(c *cell.Cell, tick, start, end int64, failed bool) Reason {
	slice := uint64(tick) / v.slice
	bucket := &c.Window[slice%cell.Buckets]
	count(&bucket.Calls, slice, failed)
	slow := v.slow > 0 && start != 0 && end-start >= int64(v.slow)
	if v.slow > 0 && start != 0 {
		count(&bucket.Slow, slice, slow)
	}
	if failed && v.failed > 0 {
		if n, m := v.sum(c, slice, failures); v.exceeds(n, m, v.failed) {
			return Reason{Ratio, n, m}
		}
	}
	if slow {
		if n, m := v.sum(c, slice, slowCalls); v.exceeds(n, m, v.slowed) {
			return Reason{Slow, n, m}
		}
	}
	return Reason{}
}

// count adds a call to the word of its slice, unless the word is of a later slice. The
// check and the add are two steps: a goroutine that is paused for a whole window between
// them counts its call in the next window.
func count(w *atomic.Uint64, slice uint64, bad bool) {
	one := newBucketWord(slice, 1, 0)
	if bad {
		one++
	}
	for {
		old := bucketWord(w.Load())
		next := one // the word is of an earlier slice
		if old.slice() == one.slice() {
			if old.calls() < bucketFull {
				w.Add(uint64(one) & (1<<(2*bucketBits) - 1))
				return
			}
			next = newBucketWord(slice, old.calls()/2, old.bad()/2) // keeps the ratio
		} else if old.calls() > 0 && (old.slice()-one.slice())&sliceMask <= farthest {
			return
		}
		if w.CompareAndSwap(uint64(old), uint64(next)) && next == one {
			return
		}
	}
}

func failures(b *cell.Bucket) bucketWord  { return bucketWord(b.Calls.Load()) }
func slowCalls(b *cell.Bucket) bucketWord { return bucketWord(b.Slow.Load()) }

// sum returns the bad calls and all calls of the window that ends with slice.
func (v *window) sum(c *cell.Cell, slice uint64, of func(*cell.Bucket) bucketWord) (bad, calls int) {
	for i := range c.Window {
		t := of(&c.Window[i])
		if (slice-t.slice())&sliceMask < cell.Buckets {
			bad += int(t.bad())
			calls += int(t.calls())
		}
	}
	return bad, calls
}

// exceeds reports whether bad is at least ratio of calls. The products are compared, so
// that 6 of 20 is 0.3 in spite of rounding.
func (v *window) exceeds(bad, calls int, ratio float64) bool {
	return calls >= v.minCalls && float64(bad) >= ratio*float64(calls)*(1-1e-12)
}

// counts returns the window's current counts.
func (b *Breaker) counts(c *cell.Cell) (calls, failed, slow int) {
	v := &b.window
	if v.length == 0 {
		return 0, 0, 0
	}
	slice := uint64(b.tick(b.elapsed())) / v.slice
	failed, calls = v.sum(c, slice, failures)
	slow, _ = v.sum(c, slice, slowCalls)
	return calls, failed, slow
}

// clear resets the window: a breaker that closes starts from scratch.
func (v *window) clear(c *cell.Cell) {
	if v.length == 0 {
		return
	}
	for i := range c.Window {
		c.Window[i].Calls.Store(0)
		c.Window[i].Slow.Store(0)
	}
}

// minWindow is the shortest window: buckets of a millisecond.
const minWindow = cell.Buckets * time.Millisecond

// maxWindow is the longest window for which the number of a slice is unique.
const maxWindow = time.Duration(math.MaxInt32) * time.Second / 1000

//nolint:gochecknoglobals // the clock of the windows
var (
	anchor     = time.Now()
	anchorNano = anchor.UnixNano()
	stepped    atomic.Int64 // nanoseconds of clock steps since
)

func ticks(now int64) int64 { return anchorNano + stepped.Load() + now }

// elapsed returns the monotonic clock, in nanoseconds.
func elapsed() int64 { return int64(time.Since(anchor)) }

// align makes ticks follow the wall clock after a clock step, so that processes which share
// a window use the same slices.
func align(now time.Time) {
	by := stepped.Load()
	if d := now.UnixNano() - ticks(elapsed()); d > int64(time.Second) || d < -int64(time.Second) {
		stepped.CompareAndSwap(by, by+d) // by the first goroutine only
	}
}
