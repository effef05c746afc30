package retry_test

import (
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/retry"
)

// FuzzBackoff holds each delay of a valid policy to its bounds, and its ceiling to a
// simpler implementation, which multiplies floats of 200 bits.
func FuzzBackoff(f *testing.F) {
	f.Add(int64(time.Second), int64(30*time.Second), 2.0, int64(time.Second), uint8(0), 3, 0.5)
	f.Add(int64(1), int64(math.MaxInt64), 2.0, int64(math.MaxInt64), uint8(0), 5000, math.Nextafter(1, 0))
	f.Add(int64(0), int64(0), 0.0, int64(0), uint8(1), math.MaxInt, 0.0)
	f.Add(int64(1), int64(math.MaxInt64), 1.0, int64(1<<62+1<<9+1), uint8(0), 1, math.Nextafter(1, 0))
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), 1000.0, int64(-1), uint8(2), math.MinInt, 0.25)
	f.Add(int64(time.Hour), int64(math.MaxInt64), 1.0000001, int64(5), uint8(2), math.MaxInt>>1, 0.75)
	f.Fuzz(func(t *testing.T, base, limit int64, factor float64, jitter int64, mode uint8, attempt int, u float64) {
		p := retry.Policy{
			BaseDelay: time.Duration(base), MaxDelay: time.Duration(limit), ExponentialBase: factor,
			Jitter: time.Duration(jitter), JitterMode: retry.JitterMode(mode),
		}
		if p.Validate() != nil || !(u >= 0 && u < 1) {
			t.Skip("not allowed")
		}
		most := p.MaxDelay
		if most == 0 {
			most = 30 * time.Second
		}
		for _, class := range []retry.Class{retry.ClassTransient, retry.ClassThrottled} {
			low, width := p.Range(attempt, class)
			d := p.Backoff(attempt, class, u)
			if low < 0 || width < 0 || width > most-low || d < low || d-low > width {
				t.Errorf("%+v: attempt %d, u %v: %v in %v + %v, want within 0 and %v", p, attempt, u, d, low, width, most)
			}
		}
		got, want := ceiling(p, attempt), twin(&p, attempt)
		if off := math.Abs(float64(got - want)); off > 1+1e-9*float64(want) {
			t.Errorf("%+v: ceiling %d is %d, want %d", p, attempt, got, want)
		}
	})
}

// ceiling returns the exponential delay of p, without jitter.
func ceiling(p retry.Policy, attempt int) time.Duration {
	p.Jitter = retry.NoJitter
	low, _ := p.Range(attempt, retry.ClassTransient)
	return low
}

// twin returns the ceiling by multiplications of wide floats, which stop at the limit.
func twin(p *retry.Policy, attempt int) time.Duration {
	base, limit, factor := p.BaseDelay, p.MaxDelay, p.ExponentialBase
	if base == 0 {
		base = time.Second
	}
	if limit == 0 {
		limit = 30 * time.Second
	}
	if factor == 0 {
		factor = 2
	}
	most := new(big.Float).SetInt64(int64(limit))
	d := new(big.Float).SetPrec(200).SetInt64(int64(base))
	step := new(big.Float).SetPrec(200).SetFloat64(factor)
	for n := max(attempt, 1) - 1; n > 0 && d.Cmp(most) < 0 && factor > 1; n /= 2 {
		if n%2 == 1 { // base·factor^n, by squares
			d.Mul(d, step)
		}
		if step.Mul(step, step).Cmp(most) > 0 && n > 1 {
			return limit // some bit of n is still to come
		}
	}
	if d.Cmp(most) >= 0 {
		return limit
	}
	ns, _ := d.Int64()
	return time.Duration(ns)
}
