package circuit

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A window judges the calls of the last so many seconds. It counts them in
// buckets of a tenth of its length, exactly: a verdict depends on the calls
// alone and not on how fast they came, as it would with a moving average.
type window struct {
	length   time.Duration // 0: there is none
	slice    uint64        // nanoseconds of a bucket
	slow     time.Duration // a call that took this long is slow; 0: not measured
	minCalls int
	failed   float64 // the ratio of failures that trips; 0: never
	slowed   float64 // the ratio of slow calls that trips
}

// A bucketWord is the word of a bucket: slice 24 | calls 20 | bad 20. The slice
// tells which tenth of a window it counts; one of the last window is stale.
type bucketWord uint64

const (
	bucketBits = 20
	bucketMask = 1<<bucketBits - 1
	sliceMask  = 1<<24 - 1
	bucketFull = bucketMask - 1<<10 // leaves room for adds that race
)

// farthest is how many slices a tally may be ahead of a call that comes late.
// One further ahead is from a clock that was put back, or from before the
// slices came round again.
const farthest = 10 * cell.Buckets

func newBucketWord(slice uint64, calls, bad uint64) bucketWord {
	return bucketWord(slice&sliceMask<<(2*bucketBits) | calls<<bucketBits | bad)
}

func (t bucketWord) slice() uint64 { return uint64(t) >> (2 * bucketBits) }
func (t bucketWord) calls() uint64 { return uint64(t) >> bucketBits & bucketMask }
func (t bucketWord) bad() uint64   { return uint64(t) & bucketMask }

// record counts one call that began at start and ended at end, when the clock of
// the windows said tick, and returns the reason to trip if it is bad and fills a
// rule.
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

// count adds a call to the tally of its slice, unless the tally has gone on to
// a later one. The add and the look at the slice are two steps: a goroutine
// that sleeps for a window between them counts its call one window late.
func count(w *atomic.Uint64, slice uint64, bad bool) {
	one := newBucketWord(slice, 1, 0)
	if bad {
		one++
	}
	for {
		old := bucketWord(w.Load())
		next := one // the tally is of an earlier slice
		if old.slice() == one.slice() {
			if old.calls() < bucketFull {
				w.Add(uint64(one) & (1<<(2*bucketBits) - 1))
				return
			}
			next = newBucketWord(slice, old.calls()/2, old.bad()/2) // the ratio stays
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

// exceeds reports whether bad of calls reaches ratio. The product is compared, so
// that 6 of 20 is 0.3 in spite of rounding.
func (v *window) exceeds(bad, calls int, ratio float64) bool {
	return calls >= v.minCalls && float64(bad) >= ratio*float64(calls)*(1-1e-12)
}

// counts returns the window's calls as they stand now.
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

// clear forgets all calls: a breaker that closes begins anew.
func (v *window) clear(c *cell.Cell) {
	if v.length == 0 {
		return
	}
	for i := range c.Window {
		c.Window[i].Calls.Store(0)
		c.Window[i].Slow.Store(0)
	}
}

// minWindow is the shortest window: a bucket of a millisecond.
const minWindow = cell.Buckets * time.Millisecond

// maxWindow is the longest one for which every slice has a number of its own.
const maxWindow = time.Duration(math.MaxInt32) * time.Second / 1000

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
