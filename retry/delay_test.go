package retry_test

import (
	"context"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure"
	"github.com/seed-0f2c7998/perdure/retry"
)

// When five attempts fail, the waits are 1, 2, 4 and 8 s, without a wait after the last
// attempt. Each parameter changes its part of this.
func TestDelaysWithoutJitter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy retry.Policy
		at     []int // the seconds at which the attempts are made
	}{
		{retry.Policy{}, []int{0, 1, 3, 7, 15}},
		{retry.Policy{MaxAttempts: 3}, []int{0, 1, 3}},
		{retry.Policy{MaxAttempts: 8}, []int{0, 1, 3, 7, 15, 31, 61, 91}},
		{retry.Policy{BaseDelay: 3 * time.Second}, []int{0, 3, 9, 21, 45}},
		{retry.Policy{MaxDelay: 3 * time.Second}, []int{0, 1, 3, 6, 9}},
		{retry.Policy{ExponentialBase: 3}, []int{0, 1, 4, 13, 40}},
	} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			p := c.policy
			p.Jitter, p.Classify, p.Timed = retry.NoJitter, retry.Always, true
			f, made := always(errDown)
			e := stopped(t, retry.Do(t.Context(), &p, f), retry.ErrExhausted, len(c.at))
			var want []time.Duration
			for _, s := range c.at {
				want = append(want, time.Duration(s)*time.Second)
			}
			if !slices.Equal(made.at, want) {
				t.Errorf("%+v: attempts at %v, want %v", c.policy, made.at, want)
			}
			if took := time.Since(begin); took != want[len(want)-1] || e.Elapsed != took {
				t.Errorf("%+v: took %v and says %v, want %v: no wait after the last attempt", c.policy, took, e.Elapsed, want[len(want)-1])
			}
		})
	}
}

// jitterModes returns all modes.
func jitterModes() (modes []retry.JitterMode) {
	for p := (retry.Policy{}); p.Validate() == nil; p.JitterMode++ {
		modes = append(modes, p.JitterMode)
	}
	return modes
}

// TestPageHasTheFormulaOfEachMode reads docs/why.md.
func TestPageHasTheFormulaOfEachMode(t *testing.T) {
	page, err := os.ReadFile("../docs/why.md")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(retry.Parameters(), func(p perdure.Parameter) bool { return p.Name == "jitter_mode" })
	names := strings.Split(strings.TrimPrefix(retry.Parameters()[i].Want, "one of "), ", ")
	if len(names) != len(jitterModes()) {
		t.Errorf("the modes are %q, want %d", names, len(jitterModes()))
	}
	for _, name := range names {
		if !strings.Contains(string(page), "\n    "+name+" ") {
			t.Errorf("docs/why.md lacks the formula of the jitter mode %s", name)
		}
	}
}

// In each mode, the operation waits as long as the event says, within the range.
func TestDelaysAreThoseOfTheEvents(t *testing.T) {
	t.Parallel()
	for _, mode := range jitterModes() {
		synctest.Test(t, func(t *testing.T) {
			var r record
			p := retry.Policy{JitterMode: mode, MaxAttempts: 12, Classify: retry.Always, Observe: r.observe}
			f, made := always(errDown)
			stopped(t, retry.Do(t.Context(), &p, f), retry.ErrExhausted, 12)
			for i, e := range r.events()[:11] {
				low, width := p.Range(i+1, retry.ClassTransient)
				waited := made.at[i+1] - made.at[i]
				if waited != e.Delay || waited < low || waited > low+width || waited > 30*time.Second {
					t.Errorf("mode %d, attempt %d: waited %v, event says %v, range %v + %v",
						mode, i+1, waited, e.Delay, low, width)
				}
			}
		})
	}
}

// The range of each mode, below the cap, near the cap and at the cap.
func TestRange(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, c := range []struct {
		name    string
		policy  retry.Policy
		attempt int
		class   retry.Class
		low, to time.Duration
	}{
		{"additive below the cap", retry.Policy{}, 1, retry.ClassTransient, 1 * s, 2 * s},
		{"additive below the cap", retry.Policy{}, 4, retry.ClassTransient, 8 * s, 9 * s},
		{"additive near the cap", retry.Policy{MaxDelay: 17 * s, Jitter: 4 * s}, 5, retry.ClassTransient, 13 * s, 17 * s},
		{"additive at the cap", retry.Policy{}, 6, retry.ClassTransient, 29 * s, 30 * s},
		{"additive, jitter above the cap", retry.Policy{Jitter: 99 * s}, 1, retry.ClassTransient, 0, 30 * s},
		{"full below the cap", retry.Policy{JitterMode: retry.FullJitter}, 3, retry.ClassTransient, 0, 4 * s},
		{"full at the cap", retry.Policy{JitterMode: retry.FullJitter}, 60, retry.ClassTransient, 0, 30 * s},
		{"equal below the cap", retry.Policy{JitterMode: retry.EqualJitter}, 3, retry.ClassTransient, 2 * s, 4 * s},
		{"equal at the cap", retry.Policy{JitterMode: retry.EqualJitter}, 60, retry.ClassTransient, 15 * s, 30 * s},
		{"equal, of an odd length", retry.Policy{JitterMode: retry.EqualJitter, BaseDelay: 3}, 1, retry.ClassTransient, 1, 3},
		{"none, full", retry.Policy{JitterMode: retry.FullJitter, Jitter: retry.NoJitter}, 3, retry.ClassTransient, 4 * s, 4 * s},
		{"none, equal", retry.Policy{JitterMode: retry.EqualJitter, Jitter: retry.NoJitter}, 99, retry.ClassTransient, 30 * s, 30 * s},
		{"throttled", retry.Service(), 2, retry.ClassThrottled, 0, 2 * s},
		{"transient beside it", retry.Service(), 2, retry.ClassTransient, 0, s / 10},
		{"throttled without a base of its own", retry.Policy{}, 2, retry.ClassThrottled, 2 * s, 3 * s},
		{"before the first attempt", retry.Policy{}, 0, retry.ClassTransient, 1 * s, 2 * s},
		{"far before it", retry.Policy{}, math.MinInt, retry.ClassTransient, 1 * s, 2 * s},
		{"attempt 5,000", retry.Policy{}, 5000, retry.ClassTransient, 29 * s, 30 * s},
		{"the last attempt there is", retry.Policy{}, math.MaxInt, retry.ClassTransient, 29 * s, 30 * s},
		{"base 1", retry.Policy{ExponentialBase: 1}, math.MaxInt, retry.ClassTransient, 1 * s, 2 * s},
	} {
		low, width := c.policy.Range(c.attempt, c.class)
		if low != c.low || low+width != c.to {
			t.Errorf("%s: attempt %d in [%v, %v], want [%v, %v]", c.name, c.attempt, low, low+width, c.low, c.to)
		}
	}
}

// Waits are spread evenly over their range, also at the cap: with the cap applied after
// the jitter all waits would be the same there. Operations that fail together do not
// retry together.
func TestDelaysAreSpread(t *testing.T) {
	t.Parallel()
	const s, operations, attempts = time.Second, 1000, 9
	for _, c := range []struct {
		name    string
		mode    retry.JitterMode
		attempt int
		low, to time.Duration
	}{
		{"additive below the cap", retry.Additive, 1, 1 * s, 2 * s},
		{"additive below the cap", retry.Additive, 4, 8 * s, 9 * s},
		{"additive at the cap", retry.Additive, 6, 29 * s, 30 * s},
		{"additive at the cap", retry.Additive, 8, 29 * s, 30 * s},
		{"full below the cap", retry.FullJitter, 2, 0, 2 * s},
		{"full at the cap", retry.FullJitter, 8, 0, 30 * s},
		{"equal below the cap", retry.EqualJitter, 2, 1 * s, 2 * s},
		{"equal at the cap", retry.EqualJitter, 8, 15 * s, 30 * s},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := retry.Policy{JitterMode: c.mode, MaxAttempts: attempts, Classify: retry.Always}
			sample := make([]float64, operations)
			for i := range sample {
				f, made := always(errDown)
				stopped(t, retry.Do(t.Context(), &p, f), retry.ErrExhausted, attempts)
				waited := made.at[c.attempt] - made.at[c.attempt-1]
				if waited < c.low || waited > c.to {
					t.Fatalf("%s: attempt %d waited %v, want %v to %v", c.name, c.attempt, waited, c.low, c.to)
				}
				sample[i] = float64(waited-c.low) / float64(c.to-c.low)
			}
			// The Kolmogorov-Smirnov test at one in ten million: these draws have no seed.
			if d, limit := distance(sample), 2.9/math.Sqrt(operations); d > limit {
				t.Errorf("%s: attempt %d is %.4f from uniform, want at most %.4f", c.name, c.attempt, d, limit)
			}
		})
	}
}

// distance is the Kolmogorov-Smirnov statistic of a sample against the uniform
// distribution on [0, 1).
func distance(sample []float64) float64 {
	slices.Sort(sample)
	n, most := float64(len(sample)), 0.0
	for i, v := range sample {
		most = max(most, float64(i+1)/n-v, v-float64(i)/n)
	}
	return most
}

// 5,000 attempts in virtual time: nothing overflows.
func TestDelaysOfManyAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := retry.Policy{MaxAttempts: 5000, Timed: true, Jitter: retry.NoJitter, Classify: retry.Always, Observe: func(context.Context, retry.Event) {}}
		f, made := always(errDown)
		e := stopped(t, retry.Do(t.Context(), &p, f), retry.ErrExhausted, 5000)
		if want := 31*time.Second + 4994*30*time.Second; made.n != 5000 || e.Elapsed != want {
			t.Errorf("%d calls in %v, want 5000 in %v", made.n, e.Elapsed, want)
		}
	})
}
