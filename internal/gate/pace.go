package gate

import (
	"math"
	"time"
)

// demand returns how many operations a second have arrived since the gate was limited: a
// lower bound, one standard deviation below the count.
func (s *state) demand(now int64) float64 {
	n := float64(s.operations)
	t := max(time.Duration(now-s.since), time.Millisecond)
	return (n - math.Sqrt(n)) / t.Seconds()
}

// interval returns the time between two credits that are spent; 0 while the demand is not
// known. It is shorter while successes are fast. In a closed loop, callers make the demand
// themselves: so the pace is raised while successes stay fast.
func (s *state) interval(now int64) time.Duration {
	t, k := time.Second, s.demand(now)
	switch {
	case s.sparse(now):
		t, k = min(s.between(), sparseMax), 1
	case !s.limited || k <= 0:
		return 0
	case s.slow:
		k = max(k, 1)
	default:
		k = drain * max(k, 1)
	}
	return time.Duration(float64(t) / (k * math.Pow(raise, float64(max(s.raises-spared, 0)))))
}

// probeTime returns the time between probes: that of sixteen operations, at most half a
// second, or 1.75 s while attempts are slow. That of a cold gate at which callers wait
// is longer: see apart.
func (s *state) probeTime(now int64) time.Duration {
	t := probeMax
	switch {
	case s.slow:
		t = costlyMax
	case s.failFast:
		t /= 4
	}
	if k := s.demand(now); k > 0 {
		t = min(t, time.Duration(fewest/k*float64(time.Second)))
	}
	if s.cold() && !s.failFast {
		t = max(t, s.apart())
	}
	return t
}

// between returns the mean time between operations until the last admission, also if few have
// arrived.
func (s *state) between() time.Duration {
	return time.Duration(s.last-s.since) / time.Duration(max(s.operations, 1))
}

// apart returns the least time between the probes of a cold gate, since many processes that make
// few calls would otherwise send more probes than calls: about that of an operation, and half
// more while no attempt succeeds.
func (s *state) apart() time.Duration {
	t := time.Duration(apart * float64(s.between()))
	if s.state() == Open {
		t += t / 2
	}
	return min(t, sparseMax)
}

// cold reports whether the gate has seen few attempts succeed: its process is new, or makes few
// calls.
func (s *state) cold() bool { return s.warm < known }

// sparse reports whether the gate is of a process that makes few calls. Of many such processes
// each has a caller or two in line when the service is back, all together more than it can serve
// besides the calls that arrive: so none may go faster than its own demand.
func (s *state) sparse(now int64) bool { return s.limited && s.cold() && s.demand(now) < few }

// probeAt returns when the next probe is due: one time between probes after the last
// admission, a quarter more or less. The part is a hash of the last admission's instant,
// which differs between gates.
func (s *state) probeAt(now int64) int64 {
	t := s.probeTime(now)
	if s.rare && s.state() == Open {
		t = min(rarely*t, costlyMax)
	}
	at := s.last + int64(float64(t)*(0.75+0.5*uniform(s.last/int64(time.Microsecond))))
	if s.state() == Open {
		at = max(at, s.notBefore)
	}
	return at
}

// paced returns the instant from which a credit may be spent by the pace.
func (s *state) paced(now int64) int64 { return s.last + int64(s.interval(now)) }

// uniform returns a number in [0, 1) by the hash of x.
func uniform(x int64) float64 { return float64(hash(uint64(x))>>11) / (1 << 53) } //nolint:gosec // only bits of x matter

// hash is the finalizer of SplitMix64: each bit of x changes half of the bits of the result.
func hash(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
