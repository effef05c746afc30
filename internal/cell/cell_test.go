package cell

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// after lets d pass in the bubble.
func after(d time.Duration) { <-time.After(d) }

// A hold ends when it should, to two milliseconds, and never early.
func TestHoldIsNeverEarly(t *testing.T) {
	for _, offset := range []time.Duration{0, 1, 499_999, 999_999} {
		for _, d := range []time.Duration{
			1, 999_999, time.Millisecond, time.Millisecond + 1, 1500 * time.Microsecond, time.Second - 1,
			30 * time.Second, time.Hour + 1, MaxHold - 1, MaxHold,
		} {
			synctest.Test(t, func(t *testing.T) {
				after(time.Second + offset)
				var c Cell
				now := time.Now()
				c.Hold(now, now.Add(d))
				end := c.Held()
				if late := end.Sub(now) - d; late < 0 || late > 2*time.Millisecond {
					t.Errorf("at %v, a hold of %v ends %v late", offset, d, late)
				}
				after(d - 1)
				if c.Held().IsZero() {
					t.Errorf("at %v, a hold of %v is over a nanosecond early", offset, d)
				}
				after(time.Until(end))
				if held := c.Held(); !held.IsZero() {
					t.Errorf("at %v, a hold of %v that ends %v holds then", offset, d, end)
				}
			})
		}
	}
}

func TestNoHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Cell
		now := time.Now()
		for _, until := range []time.Time{{}, now, now.Add(-1), now.Add(-time.Hour), time.Unix(0, 0), time.UnixMilli(math.MinInt64)} {
			c.Hold(now, until)
			if c.Holding() || !c.Held().IsZero() {
				t.Errorf("an instant that has passed, %v, holds until %v", until, c.Held())
			}
		}
		c.Hold(now, now.Add(time.Hour))
		if !c.Holding() {
			t.Error("it does not hold")
		}
		c.Release()
		if c.Holding() || !c.Held().IsZero() {
			t.Error("after a release it holds")
		}
	})
}

func TestHoldIsKeptForThreeDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, d := range []time.Duration{MaxHold + 1, 4 * 24 * time.Hour, 1000 * 24 * time.Hour, math.MaxInt64} {
			var c Cell
			now := time.Now()
			c.Hold(now, now.Add(d))
			if got := c.Held().Sub(now); got < MaxHold || got > MaxHold+time.Millisecond {
				t.Errorf("a hold of %v is kept for %v, want %v", d, got, MaxHold)
			}
		}
		if MaxHold < 72*time.Hour || MaxHold > 75*time.Hour {
			t.Errorf("MaxHold is %v", MaxHold)
		}
	})
}

func TestTheLaterHoldStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Cell
		now := time.Now()
		for _, seconds := range []int{5, 3, 9, 1, 9, 8} {
			c.Hold(now, now.Add(time.Duration(seconds)*time.Second))
		}
		if got := c.Held().Sub(now).Round(time.Second); got != 9*time.Second {
			t.Errorf("of several the one of %v stays, want 9s", got)
		}
		after(8500 * time.Millisecond)
		c.Hold(time.Now(), time.Now().Add(100*time.Millisecond))
		if got := c.Held().Sub(now).Round(time.Second); got != 9*time.Second {
			t.Errorf("a shorter one set later moved the end to %v", got)
		}
		after(time.Second)
		c.Hold(time.Now(), time.Now().Add(time.Second))
		if got := time.Until(c.Held()).Round(100 * time.Millisecond); got != time.Second {
			t.Errorf("one that is over keeps a new one from being set: %v left", got)
		}
	})
}

// Setting the same instant over and over does not push it away.
func TestHoldDoesNotCreep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Cell
		until := time.Now().Add(time.Second + 1)
		for range 400 {
			c.Hold(time.Now(), until)
			after(time.Millisecond + 7)
		}
		if late := c.Held().Sub(until); late > 2*time.Millisecond {
			t.Errorf("the end is %v late", late)
		}
	})
}

func TestConcurrentHoldsKeepTheLatest(t *testing.T) {
	for seed := range uint64(20) {
		var c Cell
		var all sync.WaitGroup
		now := time.Now()
		r := rand.New(rand.NewPCG(seed, 0))
		latest := time.Duration(0)
		for range 50 {
			d := time.Hour + time.Duration(r.IntN(1e9))*time.Microsecond
			latest = max(latest, d)
			all.Go(func() { c.Hold(now, now.Add(d)) })
		}
		all.Wait()
		if late := c.Held().Sub(now) - latest; late < 0 || late > 2*time.Millisecond {
			t.Errorf("seed %d: the hold that stays is %v off the latest", seed, late)
		}
	}
}

// A word says when it was set, so a clock that is put back cannot make it hold
// for longer, but for the minute that clocks may differ by.
func TestClockSteps(t *testing.T) {
	start := time.UnixMilli(1_780_000_000_123)
	for _, row := range []struct {
		lasts, step time.Duration
		left        time.Duration // at the clock that has been put to somewhere else
	}{
		{30 * time.Second, 0, 30 * time.Second},
		{30 * time.Second, time.Hour, 0},
		{30 * time.Second, -time.Hour, 0},
		{30 * time.Second, -24 * 365 * time.Hour, 0},
		{30 * time.Second, 24 * 365 * time.Hour, 0},
		{30 * time.Second, -50 * time.Second, 80 * time.Second},
		{30 * time.Second, -61 * time.Second, 0},
		{2 * time.Hour, time.Hour, time.Hour},
		{2 * time.Hour, -time.Hour, 0},
		{MaxHold, -time.Hour, 0},
		{MaxHold, 73 * time.Hour, MaxHold - 73*time.Hour},
	} {
		var c Cell
		c.Hold(start, start.Add(row.lasts))
		now := start.Add(row.step)
		end := heldUntil(c.hold.Load(), now)
		left := time.Duration(0)
		if !end.IsZero() {
			left = end.Sub(now)
		}
		if off := left - row.left; off < 0 || off > 2*time.Millisecond {
			t.Errorf("%v, the clock put by %v: %v left, want %v", row.lasts, row.step, left, row.left)
		}
	}
	// A hold that a clock ahead of time left behind gives way to a new one.
	var c Cell
	c.Hold(start, start.Add(time.Hour))
	now := start.Add(-2 * time.Hour)
	c.Hold(now, now.Add(time.Minute))
	if left := heldUntil(c.hold.Load(), now).Sub(now); left < time.Minute || left > time.Minute+2*time.Millisecond {
		t.Errorf("a new hold after the clock was put back lasts %v", left)
	}
}

func FuzzHold(f *testing.F) {
	f.Add(int64(1_780_000_000_000_000_000), int64(30e9), int64(0))
	f.Add(int64(1_780_000_000_000_999_999), int64(1), int64(-3600e9))
	f.Add(int64(1_780_000_000_000_000_001), int64(math.MaxInt64), int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, set, lasts, step int64) {
		if set < 0 || set > 4e18 || step > 4e18 || step < -4e18 || set+step < 0 {
			return // before 1970 or after 2200
		}
		var c Cell
		now := time.Unix(0, set)
		c.Hold(now, now.Add(time.Duration(lasts)))
		if lasts > 0 && !c.Holding() {
			t.Fatal("it does not hold")
		}
		later := now.Add(time.Duration(step))
		end := heldUntil(c.hold.Load(), later)
		if end.IsZero() {
			if step >= 0 && time.Duration(step) < min(time.Duration(lasts), MaxHold) {
				t.Fatalf("set for %d, it is over after %d", lasts, step)
			}
			return
		}
		if left := end.Sub(later); left <= 0 || left > MaxHold+2*time.Millisecond+clockSkew*time.Millisecond {
			t.Fatalf("set for %d, after %d it has %v left", lasts, step, left)
		}
	})
}

func TestMemoryKeepsOneCellForAKey(t *testing.T) {
	var m Memory
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() { m.Cell([]string{"a", "b"}[i%2], User{}).Load().Trips.Add(1) })
	}
	all.Wait()
	a, b := m.Cell("a", User{}).Load(), m.Cell("b", User{}).Load()
	if a == b || a.Trips.Load() != 25 || b.Trips.Load() != 25 {
		t.Errorf("the keys' cells counted %d and %d, want 25 each", a.Trips.Load(), b.Trips.Load())
	}
	first := m.Cell("a", User{}).Load()
	if again := m.Cell("a", User{}); again.Load() != first || !m.Grant("a", time.Second) {
		t.Error("a key's cell is not always the same, or its probe not granted")
	}
	m.Changed("a", Change{})
	m.Held("a", time.Now())
}

// Who holds a Ref sees the cell that it was last led to.
func TestRefLeadsElsewhere(t *testing.T) {
	first, second := new(Cell), new(Cell)
	r := NewRef(first)
	if r.Load() != first {
		t.Error("it does not lead to its cell")
	}
	if r.Lead(second); r.Load() != second {
		t.Error("it does not lead to the second cell")
	}
}
