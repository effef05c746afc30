package retry

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/seam"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// The quick check that each call makes agrees with Validate. Here both see the same
// policies, made of values from the edges.
func TestQuickAgreesWithValidate(t *testing.T) {
	t.Parallel()
	seed := testseed.Of(t, 3)
	rnd := rand.New(rand.NewPCG(seed, seed))
	whole := []int64{0, 0, 0, 1, -1, -2, 5, int64(time.Millisecond), int64(time.Second), int64(time.Minute), math.MaxInt64, math.MaxInt64 - 1, math.MinInt64, math.MinInt64 + 1}
	factors := []float64{0, 0, 1, 2, 1000, 0.5, 1001, -1, math.NaN(), math.Inf(1), math.Inf(-1), math.SmallestNonzeroFloat64, math.Nextafter(1, 0), math.Copysign(0, -1)}
	lists := [][]string{nil, nil, {}, {"503"}, {""}, {"a", " "}, {"a,b"}}
	one := func() time.Duration { return time.Duration(whole[max(rnd.IntN(3*len(whole))-2*len(whole), 0)]) }
	sound, refused := 0, 0
	for range 4_000 {
		p := Policy{
			MaxAttempts: int(one()), BaseDelay: one(), MaxDelay: one(), Jitter: one(), ThrottleDelay: one(),
			ExponentialBase: factors[rnd.IntN(len(factors))], JitterMode: JitterMode(rnd.IntN(len(jitterModes) + 1)),
		}
		if rnd.IntN(2) == 0 {
			p.AttemptTimeout, p.MaxElapsed, p.MaxRetryAfter = one(), one(), one()
			p.RetryOn, p.IgnoreOn = lists[rnd.IntN(len(lists))], lists[rnd.IntN(len(lists))]
		}
		agree(t, &p)
		if p.Validate() == nil {
			sound++
		} else {
			refused++
		}
	}
	if sound < 300 || refused < 300 {
		t.Errorf("seed %d: %d sound and %d refused policies show little", seed, sound, refused)
	}
}

// agree fails the test unless the quick check admits exactly the policies that
// Validate allows and that need neither clock nor lists: one that it does not admit
// costs its calls allocations. The check of the loop must agree with Validate.
func agree(t *testing.T, p *Policy) {
	t.Helper()
	err := p.Validate()
	want := err == nil && !p.timed() && len(p.RetryOn)+len(p.IgnoreOn) == 0
	if _, admitted, _ := p.quick(t.Context()); admitted != want {
		t.Fatalf("%+v: quick admits a call: %v, want %v; Validate says: %v", *p, admitted, want, err)
	}
	if got := p.check(); (got == nil) != (err == nil) {
		t.Fatalf("%+v: check says %v, Validate says %v", *p, got, err)
	}
}

// FuzzQuick is TestQuickAgreesWithValidate for any numbers.
func FuzzQuick(f *testing.F) {
	f.Add(5, int64(1), int64(2), 2.0, int64(-1), uint8(0), int64(0), int64(0), int64(0), int64(0), "")
	f.Add(-2, int64(math.MaxInt64), int64(-1), 0.5, int64(math.MinInt64), uint8(3), int64(-1), int64(7), int64(0), int64(1), ",")
	f.Fuzz(func(t *testing.T, attempts int, base, most int64, factor float64, jitter int64, mode uint8,
		throttle, timeout, elapsed, after int64, name string,
	) {
		p := Policy{
			MaxAttempts: attempts, BaseDelay: time.Duration(base), MaxDelay: time.Duration(most), ExponentialBase: factor,
			Jitter: time.Duration(jitter), JitterMode: JitterMode(mode), ThrottleDelay: time.Duration(throttle),
			AttemptTimeout: time.Duration(timeout), MaxElapsed: time.Duration(elapsed), MaxRetryAfter: time.Duration(after),
		}
		agree(t, &p)
		p.RetryOn = []string{name}
		agree(t, &p)
	})
}

// An invalid breaker is never healthy: the quick path, which has no other check of the
// breaker, does not use it.
func TestQuickRefusesAnInvalidBreaker(t *testing.T) {
	t.Parallel()
	p := Policy{Breaker: circuit.New("b", circuit.Config{SuccessThreshold: -1})}
	if _, quick := seam.Of(p.Breaker).Healthy(); quick || p.Validate() == nil || p.check() == nil {
		t.Errorf("quick %v, %v", quick, p.Validate())
	}
}
