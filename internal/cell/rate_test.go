package cell

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// begin is when the tests begin, in Unix nanoseconds.
const begin = int64(1_782_000_000_123_456_789)

// A caller comes at an instant and leaves at another, if it has not gone by then.
type caller struct {
	at, leaves, late time.Duration
}

// goes plays callers of several processes that share a cell, in the order of their
// instants, and returns when those went that did.
func goes(l Limit, callers []caller) (went []int64) {
	type event struct {
		at     int64
		caller *caller
		slot   *Slot // nil: it comes
	}
	var c Cell
	var events []event
	for i := range callers {
		events = append(events, event{at: begin + int64(callers[i].at), caller: &callers[i]})
	}
	for len(events) > 0 {
		slices.SortStableFunc(events, func(a, b event) int { return int(min(max(a.at-b.at, -1), 1)) })
		e := events[0]
		events = events[1:]
		leaves := begin + int64(e.caller.leaves)
		if e.slot == nil {
			s, ok := c.Reserve(c.InForce(l, e.at), e.at, leaves)
			if ok && s.At > e.at && leaves < s.At+int64(e.caller.late) {
				events = append(events, event{leaves, e.caller, &s})
			} else if ok {
				events = append(events, event{max(s.At+int64(e.caller.late), e.at), e.caller, &s})
			}
			continue
		}
		if e.at >= leaves && e.at > begin+int64(e.caller.at) {
			c.GiveBack(l, *e.slot)
		} else if wait := c.Spend(l, e.at); wait > 0 {
			events = append(events, event{min(e.at+int64(wait), leaves), e.caller, e.slot})
		} else {
			went = append(went, e.at)
		}
	}
	return went
}

// In any time t at most burst + rate * t + 1 calls are made, however late the processes
// are and whichever calls stop waiting.
func TestARateHoldsInAnyWindow(t *testing.T) {
	r := rand.New(rand.NewPCG(testseed.Of(t, 1), 0))
	for range 200 {
		l := NewLimit(math.Exp(r.Float64()*14-4), 1+r.IntN(8)*r.IntN(2))
		span, most := time.Duration(100*int64(l.Interval)), []time.Duration{0, l.Interval / 2, 20 * l.Interval}[r.IntN(3)]
		var callers []caller
		for range 150 {
			at := time.Duration(r.Int64N(int64(span)))
			callers = append(callers, caller{at, at + time.Duration(r.Int64N(int64(span))), time.Duration(r.Int64N(int64(most) + 1))})
		}
		went := goes(l, callers)
		for i := range went {
			for j := i; j < len(went); j++ {
				if n, most := float64(j-i+1), float64(l.Burst)+1+float64(went[j]-went[i])/float64(l.Interval); n > most {
					t.Fatalf("%+v: %v calls within %v, want at most %.2f", l, n, time.Duration(went[j]-went[i]), most)
				}
			}
		}
	}
}

// A bucket is the naive twin: tokens that come in one by one.
type bucket struct {
	limit  Limit
	tokens float64
	at     int64
}

func (b *bucket) take(now int64) bool {
	b.tokens = min(b.tokens+float64(now-b.at)/float64(b.limit.Interval), float64(b.limit.Burst))
	b.at = now
	if b.tokens < 1-1e-6 {
		return false
	}
	b.tokens--
	return true
}

// Calls that do not wait are admitted as by a token bucket.
func TestARateIsABucketOfTokens(t *testing.T) {
	r := rand.New(rand.NewPCG(testseed.Of(t, 2), 0))
	for range 100 {
		var c Cell
		l := NewLimit(math.Exp(r.Float64()*20-8), 1+r.IntN(20))
		twin := bucket{l, float64(l.Burst), begin}
		now := begin
		for i := range 300 {
			now += r.Int64N(int64(l.Interval) * 3 / 2)
			s, ok := c.Reserve(c.InForce(l, now), now, now)
			if want := twin.take(now); ok != want {
				t.Fatalf("%+v: call %d: admitted %v, want %v", l, i, ok, want)
			}
			if !ok && s.At <= now {
				t.Fatalf("%+v: call %d is refused until %v ago", l, i, time.Duration(now-s.At))
			} else if !ok {
				continue
			}
			if wait := c.Spend(l, now); wait > 0 {
				t.Fatalf("%+v: call %d is on time and has to wait for %v", l, i, wait)
			}
		}
	}
}

// Concurrent callers of several processes get the instants of one schedule.
func TestInstantsAreGivenOutOnce(t *testing.T) {
	for _, burst := range []int{1, 5} {
		var c Cell
		l := NewLimit(1000, burst)
		var mu sync.Mutex
		var got []int64
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				for range 200 {
					s, ok := c.Reserve(c.InForce(l, begin), begin, math.MaxInt64)
					if !ok {
						t.Error("refused, with no end of patience")
					}
					mu.Lock()
					got = append(got, s.At)
					mu.Unlock()
				}
			})
		}
		all.Wait()
		slices.Sort(got)
		for i, at := range got {
			if want := begin + max(int64(i+1-burst), 0)*int64(l.Interval); at != want {
				t.Fatalf("burst %d: instant %d is %v from the start, want %v", burst, i, time.Duration(at-begin), time.Duration(want-begin))
			}
		}
		if n := c.Queue(l, begin); n != 3200-burst {
			t.Errorf("burst %d: %d wait, want %d", burst, n, 3200-burst)
		}
	}
}

// A Slot that is given back is reserved by the next call, unless a later one was reserved
// in between.
func TestASlotIsGivenBack(t *testing.T) {
	var c Cell
	l := NewLimit(1, 1)
	reserve := func() Slot { s, _ := c.Reserve(l, begin, math.MaxInt64); return s }
	reserve()
	second := reserve()
	c.GiveBack(l, second)
	again := reserve()
	if again != second {
		t.Errorf("after a Slot was given back the next is %v, want %v", again, second)
	}
	third := reserve()
	c.GiveBack(l, again)
	if next := reserve(); next.At != third.At+int64(l.Interval) {
		t.Errorf("a Slot that others came after is given out again: %v after %v", next, third)
	}
}

// A clock step of an hour neither stops the calls nor has them flood the service.
func TestARateOutlastsClockSteps(t *testing.T) {
	for _, step := range []time.Duration{time.Hour, -time.Hour} {
		for _, l := range []Limit{NewLimit(10, 1), NewLimit(1, 5), NewLimit(1000, 50)} {
			var c Cell
			now, went := begin, 0
			call := func() bool {
				_, ok := c.Reserve(c.InForce(l, now), now, now)
				return ok && c.Spend(l, now) == 0
			}
			for range 1000 {
				c.Reserve(c.InForce(l, now), now, math.MaxInt64) // of who wait
			}
			now += int64(step)
			for range 100 * 4 {
				if call() {
					went++
				}
				now += int64(l.Interval) / 4
			}
			most := 102
			if step > 0 {
				most += l.Burst // of the hour that has passed
			}
			if went < 98 || went > most {
				t.Errorf("step of %v, %+v: %d calls in the time of 100", step, l, went)
			}
		}
	}
}

// Of two limits on one key the lower applies, while a process uses it.
func TestTheLowerLimitHolds(t *testing.T) {
	var c Cell
	high, low := NewLimit(100, 10), NewLimit(2, 1)
	now := begin
	inForce := func(l, want Limit) {
		t.Helper()
		if got := c.InForce(l, now); got != want {
			t.Errorf("after %v: %+v holds for %+v, want %+v", time.Duration(now-begin), got, l, want)
		}
	}
	inForce(high, high)
	inForce(low, low)
	inForce(high, low)
	now += int64(59 * time.Second)
	inForce(high, low)
	inForce(NewLimit(2, 3), low)
	now += int64(3 * time.Second)
	inForce(high, high)
	now += int64(40 * time.Hour) // as far as the word can tell
	inForce(high, high)
	if l, lapsed := c.LastLimit(now); l != high || lapsed {
		t.Errorf("the last limit is %+v, lapsed %v", l, lapsed)
	}
}

// Every rate from one a day to a million a second survives packing.
func TestALimitIsKeptInAWord(t *testing.T) {
	r := rand.New(rand.NewPCG(testseed.Of(t, 3), 0))
	for range 1000 {
		rate := math.Exp(r.Float64()*(math.Log(1e6)+math.Log(86400)) - math.Log(86400))
		l := NewLimit(rate, 1+r.IntN(MaxBurst))
		got, age := unpackLimit(l.pack(begin), begin+int64(time.Hour))
		if got != l || age != time.Hour {
			t.Errorf("%v a second is %+v, and in the word %+v, %v old", rate, l, got, age)
		}
		if off := l.PerSecond()/rate - 1; off > 1e-12 || off < -1e-3 {
			t.Errorf("%v a second is %+v: off by %v", rate, l, off)
		}
	}
	var c Cell // outside: on 32 bits its atomic words are not on the stack
	if n := testing.AllocsPerRun(100, func() {
		l := NewLimit(10, 1)
		c.Reserve(c.InForce(l, begin), begin, begin)
		c.Spend(l, begin)
	}); n != 0 {
		t.Errorf("a call allocates %v times", n)
	}
}
