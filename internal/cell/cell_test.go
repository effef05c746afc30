package cell

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

const start = int64(1_780_000_000_123)

// The longest wait is kept, rounded up to a millisecond, and nothing over a day.
func TestHint(t *testing.T) {
	for _, row := range []struct {
		set  []time.Duration
		left int64
	}{
		{nil, 0},
		{[]time.Duration{0, -1, -time.Hour, math.MinInt64}, 0},
		{[]time.Duration{1}, 1},
		{[]time.Duration{time.Second + 1}, 1001},
		{[]time.Duration{5 * time.Second, 3 * time.Second, 9 * time.Second, 8 * time.Second}, 9000},
		{[]time.Duration{MaxHint}, MaxHint.Milliseconds()},
		{[]time.Duration{time.Second, MaxHint + 1}, 1000},
		{[]time.Duration{math.MaxInt64}, 0},
	} {
		var c Cell
		for _, d := range row.set {
			c.SetHint(start, d)
		}
		if got := c.Hint(start); got != row.left {
			t.Errorf("of %v, %d ms are left, want %d", row.set, got, row.left)
		}
		if c.ForgetHint(); c.Hint(start) != 0 {
			t.Errorf("of %v, %d ms are left when it is forgotten", row.set, c.Hint(start))
		}
	}
}

func TestConcurrentHintsKeepTheLongest(t *testing.T) {
	first := testseed.Of(t, 0)
	for seed := first; seed < first+20; seed++ {
		var c Cell
		var all sync.WaitGroup
		r := rand.New(rand.NewPCG(seed, 0))
		longest := time.Duration(0)
		for range 50 {
			d := time.Hour + time.Duration(r.IntN(1e6))*time.Millisecond
			longest = max(longest, d)
			all.Go(func() { c.SetHint(start, d) })
		}
		all.Wait()
		if got := c.Hint(start); got != longest.Milliseconds() {
			t.Errorf("seed %d: %d ms stay, want %v", seed, got, longest)
		}
	}
}

// A hint contains when it was set, so putting the clock back does not lengthen it.
func TestClockSteps(t *testing.T) {
	for _, row := range []struct {
		lasts, step time.Duration
		left        time.Duration // at the clock that has been put to somewhere else
	}{
		{30 * time.Second, 0, 30 * time.Second},
		{30 * time.Second, 10 * time.Second, 20 * time.Second},
		{30 * time.Second, time.Hour, 0},
		{30 * time.Second, -time.Hour, 0},
		{30 * time.Second, -24 * 365 * time.Hour, 0},
		{30 * time.Second, 24 * 365 * time.Hour, 0},
		{30 * time.Second, -50 * time.Second, 30 * time.Second},
		{30 * time.Second, -61 * time.Second, 0},
		{2 * time.Hour, time.Hour, time.Hour},
		{2 * time.Hour, -time.Hour, 0},
		{MaxHint, -time.Hour, 0},
		{MaxHint, 23 * time.Hour, time.Hour},
	} {
		var c Cell
		c.SetHint(start, row.lasts)
		if left := c.Hint(start + row.step.Milliseconds()); left != row.left.Milliseconds() {
			t.Errorf("%v, the clock put by %v: %d ms left, want %v", row.lasts, row.step, left, row.left)
		}
	}
	// A wait that a clock ahead of this one left behind is replaced by a new one.
	var c Cell
	c.SetHint(start, time.Hour)
	now := start - 2*time.Hour.Milliseconds()
	c.SetHint(now, time.Minute)
	if left := c.Hint(now); left != time.Minute.Milliseconds() {
		t.Errorf("a new wait after the clock was put back lasts %d ms", left)
	}
}

func FuzzHint(f *testing.F) {
	f.Add(int64(1_780_000_000_000), int64(30e9), int64(0))
	f.Add(int64(1_780_000_000_000), int64(1), int64(-3600e3))
	f.Add(int64(1_780_000_000_001), int64(math.MaxInt64), int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, set, lasts, step int64) {
		if set < 0 || set > 4e12 || step > 4e12 || step < -4e12 || set+step < 0 {
			return // before 1970 or after 2200
		}
		var c Cell
		c.SetHint(set, time.Duration(lasts))
		left := c.Hint(set + step)
		kept := lasts > 0 && time.Duration(lasts) <= MaxHint
		if most := time.Duration(lasts).Milliseconds() + 1; left < 0 || left > 0 && (!kept || left > most) {
			t.Fatalf("set for %d, after %d it has %d ms left", lasts, step, left)
		}
		if kept && step >= 0 && step < time.Duration(lasts).Milliseconds() && left == 0 {
			t.Fatalf("set for %d, it is over after %d", lasts, step)
		}
	})
}

// An ID belongs to one cell, and does not change.
func TestID(t *testing.T) {
	var a, b Cell
	if a.ID() == 0 || a.ID() == b.ID() || a.Name() == b.Name() {
		t.Errorf("IDs %d and %d, names %q and %q", a.ID(), b.ID(), a.Name(), b.Name())
	}
}

func TestMemoryKeepsOneCellForAKey(t *testing.T) {
	var m Memory
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() { m.Cell([]string{"a", "b"}[i%2], Client{}).Load().Trips.Add(1) })
	}
	all.Wait()
	a, b := m.Cell("a", Client{}).Load(), m.Cell("b", Client{}).Load()
	if a == b || a.Trips.Load() != 25 || b.Trips.Load() != 25 {
		t.Errorf("the keys' cells counted %d and %d, want 25 each", a.Trips.Load(), b.Trips.Load())
	}
	first := m.Cell("a", Client{}).Load()
	if again := m.Cell("a", Client{}); again.Load() != first || !m.AllowProbe("a", time.Second) {
		t.Error("a key's cell is not always the same, or its probe not granted")
	}
	m.Transitioned("a", Change{})
}

// A Ref refers to the cell that was last set.
func TestRefSet(t *testing.T) {
	first, second := new(Cell), new(Cell)
	r := NewRef(first)
	if r.Load() != first {
		t.Error("it does not lead to its cell")
	}
	if r.Set(second); r.Load() != second {
		t.Error("it does not lead to the second cell")
	}
}
