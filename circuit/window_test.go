package circuit

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// windowed returns a breaker that only its window opens.
func windowed(t *testing.T, c Config) *Breaker {
	t.Helper()
	c.FailureThreshold = Off
	b := New("x", quiet(c))
	if b.invalid() != nil {
		t.Fatal(b.invalid())
	}
	return b
}

// play makes one call for each letter, f for a failure, with a pause after
// each, and returns after how many the breaker opened; 0 if it did not.
func play(b *Breaker, calls string, pause time.Duration) int {
	for i, call := range calls {
		p, err := b.Acquire()
		if err != nil {
			return i
		}
		if call == 'f' {
			p.Failure()
		} else {
			p.Success()
		}
		after(pause)
	}
	if b.State() != Closed {
		return len(calls)
	}
	return 0
}

func TestRatioRule(t *testing.T) {
	for _, row := range []struct {
		ratio    float64
		minCalls int
		calls    string
		opens    int
	}{
		{.5, 4, "ffff", 4},
		{.5, 4, "fff", 0},
		{.5, 4, "sffs", 0}, // the verdict is spoken at a failure
		{.5, 4, "sfsf", 4},
		{.5, 4, "ssfsf", 0},
		{.5, 4, "ssfsff", 6},
		{1, 3, "ff", 0},
		{1, 3, "fff", 3},
		{1, 3, "sffffff", 0},
		{.3, 10, "sssssssfff", 10},
		{.3, 10, "ssssssssff", 0},
		{1e-9, 1, "ssssf", 5},
		{.5, 1, "f", 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := windowed(t, Config{Window: time.Hour, FailureRatio: row.ratio, MinCalls: row.minCalls})
			if got := play(b, row.calls, time.Second); got != row.opens {
				t.Errorf("%v of at least %d, calls %s: opens at %d, want %d", row.ratio, row.minCalls, row.calls, got, row.opens)
			}
		})
	}
}

// 6 of 20 is 0.3 and 299 of 1000 is not, for all such ratios.
func TestRatioIsExact(t *testing.T) {
	for calls := 1; calls <= 1000; calls++ {
		for _, percent := range []int{1, 7, 10, 29, 30, 33, 50, 57, 70, 90, 99, 100} {
			v := window{minCalls: 1}
			bad := (calls*percent + 99) / 100
			ratio := float64(percent) / 100
			if !v.exceeds(bad, calls, ratio) || v.exceeds(bad-1, calls, ratio) {
				t.Fatalf("%d of %d against %v: %v, one less: %v", bad, calls, ratio,
					v.exceeds(bad, calls, ratio), v.exceeds(bad-1, calls, ratio))
			}
		}
	}
}

func TestVerdictDoesNotDependOnTheRate(t *testing.T) {
	first := testseed.Of(t, 0)
	for seed := first; seed < first+8; seed++ {
		r := rand.New(rand.NewPCG(seed, 7))
		calls := make([]byte, 300)
		for i := range calls {
			calls[i] = "sf"[min(r.IntN(4)*i/300, 1)]
		}
		var first int
		for i, pause := range []time.Duration{time.Second, 100 * time.Millisecond, time.Millisecond, 100 * time.Microsecond, 0} {
			synctest.Test(t, func(t *testing.T) {
				b := windowed(t, Config{Window: 10 * time.Minute, FailureRatio: .2, MinCalls: 50})
				got := play(b, string(calls), pause)
				if i == 0 {
					first = got
				}
				if got != first || got == 0 {
					t.Errorf("seed %d: with a call each %v it opens at call %d; with one each second at %d", seed, pause, got, first)
				}
			})
		}
	}
}

func TestWindowMovesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := windowed(t, Config{Window: 10 * time.Second, FailureRatio: 1, MinCalls: 1000})
		calls := func() int { return b.Metrics().Calls }
		for i := range 100 { // 0.1 s apart, so 10 in each slice of a second
			b.RecordFailure()
			if got := calls(); got != i+1 {
				t.Fatalf("after %d calls the window holds %d", i+1, got)
			}
			after(100 * time.Millisecond)
		}
		for second := range 11 { // it loses a slice each second
			if got, want := calls(), max(90-10*second, 0); got != want {
				t.Errorf("%d s later the window holds %d calls, want %d", second, got, want)
			}
			after(time.Second)
		}
	})
}

// However long no call is made, no old count is left.
func TestWindowAfterLongIdle(t *testing.T) {
	for _, idle := range []time.Duration{
		10 * time.Second, 11 * time.Second, 100 * time.Second, time.Hour, 1000 * time.Hour,
		100 * 24 * time.Hour, 400 * 24 * time.Hour,
	} {
		synctest.Test(t, func(t *testing.T) {
			b := windowed(t, Config{Window: 10 * time.Second, FailureRatio: 1, MinCalls: 10, SlowCall: time.Hour})
			for range 9 {
				b.RecordFailure()
				after(time.Second / 2)
			}
			after(idle)
			if m := b.Metrics(); m.Calls != 0 || m.Failed != 0 || m.Slow != 0 {
				t.Errorf("after %v: %+v", idle, m)
			}
			for i := range 9 {
				if b.RecordFailure(); b.Metrics().Calls != i+1 {
					t.Errorf("after %v and %d calls the window holds %d", idle, i+1, b.Metrics().Calls)
				}
			}
			if b.State() != Closed {
				t.Errorf("after %v old failures count", idle)
			}
		})
	}
}

func TestSlowRule(t *testing.T) {
	const limit = 100 * time.Millisecond
	for _, row := range []struct {
		name  string
		took  []time.Duration
		opens int
	}{
		{"just below", []time.Duration{limit - 1, limit - 1, limit - 1, limit - 1, limit - 1}, 0},
		{"at the limit", []time.Duration{limit, limit, limit, limit}, 4},
		{"three of four", []time.Duration{limit, 0, limit, limit}, 4},
		{"two of four", []time.Duration{limit, 0, limit, 0}, 0},
		{"two of four and two more", []time.Duration{limit, 0, limit, 0, limit, limit, limit, limit}, 8},
	} {
		for _, failed := range []bool{false, true} { // whatever the result
			synctest.Test(t, func(t *testing.T) {
				b := windowed(t, Config{Window: time.Minute, SlowCall: limit, SlowRatio: .75, MinCalls: 4})
				opens := 0
				for i, d := range row.took {
					p, err := b.Acquire()
					if err != nil {
						break
					}
					after(d)
					if p.Success(); failed {
						p.Failure() // counted as well, below
					}
					if b.State() != Closed {
						opens = i + 1
						break
					}
				}
				if !failed && opens != row.opens {
					t.Errorf("%s: opens at %d, want %d", row.name, opens, row.opens)
				}
			})
		}
	}
	synctest.Test(t, func(t *testing.T) {
		b := windowed(t, Config{Window: time.Minute, SlowCall: limit, MinCalls: 5})
		for range 100 { // the trio keeps no time
			b.Allow()
			after(limit)
			b.RecordSuccess()
		}
		if m := b.Metrics(); m.State != Closed || m.Slow != 0 || m.Calls != 100 {
			t.Errorf("calls that are not measured: %+v", m)
		}
		for range 900 {
			p, _ := b.Acquire()
			after(0)
			p.Success()
		}
		p, _ := b.Acquire()
		after(limit)
		p.Failure()
		if m := b.Metrics(); m.State != Closed || m.Slow != 1 || m.Failed != 1 {
			t.Errorf("after one slow failure: %+v", m)
		}
	})
}

func TestSlowRuleDefaultsToFourFifths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := windowed(t, Config{Window: time.Minute, SlowCall: time.Second})
		for i := range 20 {
			p, err := b.Acquire()
			if err != nil {
				t.Fatalf("call %d: %v", i+1, err)
			}
			if i >= 4 {
				after(time.Second)
			}
			p.Success()
		}
		if m := b.Metrics(); m.State != Open || m.Reason.String() != "16 of 20 calls were slow" {
			t.Errorf("after 16 slow calls of 20: %v, %v", m.State, m.Reason)
		}
	})
}

func TestWindowStartsFromScratchWhenItCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := windowed(t, Config{Window: time.Hour, FailureRatio: .5, MinCalls: 4, RecoveryTimeout: time.Second})
		if got := play(b, "ssff", 0); got != 4 || b.Metrics().Reason.String() != "2 of 4 calls failed" {
			t.Fatalf("it opens at %d: %v", got, b.Metrics().Reason)
		}
		after(time.Second)
		if got := play(b, "sfff", 0); got != 0 {
			t.Errorf("closed again, it opens after %d calls", got)
		}
		if m := b.Metrics(); m.Calls != 3 || m.Failed != 3 {
			t.Errorf("the probe counts in the window: %+v", m)
		}
	})
}

// The rule that is met first opens the breaker, once.
func TestBothRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		b := New("x", Config{
			FailureThreshold: 3, Window: time.Minute, FailureRatio: .75, MinCalls: 4,
			Observe: func(_ context.Context, t Transition) { seen = append(seen, t.Reason.String()) },
		})
		play(b, "fff", 0)
		b.Reset()
		play(b, "ffsff", 0)
		if len(seen) != 3 || seen[0] != "3 consecutive failures" || seen[2] != "3 of 4 calls failed" {
			t.Errorf("reasons %q", seen)
		}
	})
}

func TestWindowCountsExactlyUnderConcurrency(t *testing.T) {
	b := windowed(t, Config{Window: time.Hour, FailureRatio: 1, MinCalls: 1e9, SlowCall: time.Hour})
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for j := range 500 {
				p, err := b.Acquire()
				if err != nil {
					t.Error(err)
				} else if (i+j)%4 == 0 {
					p.Failure()
				} else {
					p.Success()
				}
			}
		})
	}
	all.Wait()
	if m := b.Metrics(); m.Calls != 10_000 || m.Failed != 2500 || m.Slow != 0 {
		t.Errorf("10,000 calls, 2,500 failed; the window holds %d, %d, and %d slow", m.Calls, m.Failed, m.Slow)
	}
}

// The counts of a slice are halved before they overflow, which keeps the ratio.
func TestTallyHalves(t *testing.T) {
	var w atomic.Uint64
	const slice = 1<<24 - 2
	w.Store(uint64(newBucketWord(slice, bucketFull-4, bucketFull/4-1)))
	for i := range 3 << (bucketBits - 2) { // it is full at once, and once more
		count(&w, slice, i%4 == 0)
	}
	got := bucketWord(w.Load())
	if got.slice() != slice || got.calls() > bucketMask || got.calls() < bucketFull/2 {
		t.Fatalf("the tally is of slice %d with %d calls", got.slice(), got.calls())
	}
	if ratio := float64(got.bad()) / float64(got.calls()); ratio < .2499 || ratio > .2501 {
		t.Errorf("%d of %d is %v, want a quarter", got.bad(), got.calls(), ratio)
	}
}

func TestTallyChangesOver(t *testing.T) {
	for _, row := range []struct {
		held, counted uint64 // slices
		calls         uint64 // in the end, of three and one more
		slice         uint64
	}{
		{7, 7, 4, 7},
		{7, 17, 1, 17},
		{7, 1 << 20, 1, 1 << 20},
		{1<<24 - 3, 1<<24 + 7, 1, 7},
		// A goroutine that slept for a window used to wipe out the newer slice.
		{17, 7, 3, 17},
		{1<<24 + 7, 1<<24 - 3, 3, 7},
		// But one that is far ahead is from a clock that was put back, or ages old.
		{7 + 1000*cell.Buckets, 7, 1, 7},
	} {
		var w atomic.Uint64
		for range 3 {
			count(&w, row.held, false)
		}
		count(&w, row.counted, false)
		if got := bucketWord(w.Load()); got.calls() != row.calls || got.slice() != row.slice {
			t.Errorf("a call of slice %d in the tally of %d: %d calls of slice %d, want %d of %d",
				row.counted, row.held, got.calls(), got.slice(), row.calls, row.slice)
		}
	}
}

// Many calls notice a clock step at once. Each used to move the windows by it.
func TestClockIsFollowedOnce(t *testing.T) {
	before := stepped.Load()
	defer stepped.Store(before)
	for round := range 4000 {
		offset := time.Duration(round%2) * time.Hour
		start := make(chan struct{})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				<-start
				align(time.Now().Add(offset))
			})
		}
		close(start)
		all.Wait()
		if off := time.Duration(ticks(elapsed()) - time.Now().Add(offset).UnixNano()); off.Abs() > 2*time.Second {
			t.Fatalf("round %d: the windows are %v off the clock", round, off)
		}
	}
}
