package retry

import (
	"math"
	"time"
)

// A JitterMode selects the formula by which a delay is randomized. The zero JitterMode
// is Additive.
type JitterMode uint8

// The jitter modes, with their formulas: U[a, b] is a random duration from a to b, and
// ceiling is the exponential delay, BaseDelay·ExponentialBase^(attempt-1), at most
// MaxDelay. No delay is longer than MaxDelay, and delays at MaxDelay are randomized as
// much as shorter ones. With NoJitter the delay is the ceiling.
//
// Full and equal jitter are those of Marc Brooker, "Exponential Backoff And
// Jitter" (AWS Architecture Blog, 2015).
const (
	Additive    JitterMode = iota // lo + U[0, Jitter], where lo = min(ceiling, MaxDelay-Jitter)
	FullJitter                    // U[0, ceiling]
	EqualJitter                   // U[ceiling/2, ceiling]
)

// jitterModes holds the name and the range of each mode; jitter is at most limit. To
// add a mode, add a constant above and a row here: all else follows from this table.
var jitterModes = [...]struct { //nolint:gochecknoglobals // a constant
	name  string
	delay func(ceiling, jitter, limit time.Duration) (low, width time.Duration)
}{
	Additive: {"additive", func(ceiling, jitter, limit time.Duration) (low, width time.Duration) {
		return min(ceiling, limit-jitter), jitter
	}},
	FullJitter: {"full", func(ceiling, _, _ time.Duration) (low, width time.Duration) {
		return 0, ceiling
	}},
	EqualJitter: {"equal", func(ceiling, _, _ time.Duration) (low, width time.Duration) {
		return ceiling / 2, ceiling - ceiling/2
	}},
}

func (m JitterMode) isValid() bool { return int(m) < len(jitterModes) }

func jitterNames() []string {
	names := make([]string, len(jitterModes))
	for i, m := range jitterModes {
		names[i] = m.name
	}
	return names
}

// ceiling returns base·ExponentialBase^(attempt-1), at most MaxDelay. It computes in
// floating point, where a power that is too large is infinite and does not wrap around.
func (p *Policy) ceiling(base time.Duration, attempt int) time.Duration {
	limit := p.maxDelay()
	d := float64(base) * math.Pow(p.exponentialBase(), float64(max(attempt, 1)-1))
	if !(d < float64(limit)) {
		return limit
	}
	return time.Duration(d)
}

// Backoff returns the delay after the given attempt, from 1, whose error is of class
// c. The random number u, in [0, 1), places the delay in its range.
func (p *Policy) Backoff(attempt int, c Class, u float64) time.Duration {
	low, width := p.Range(attempt, c)
	return low + time.Duration(u*float64(width))
}

// Range returns the shortest delay after the given attempt, from 1, whose error is of
// class c, and the width of the random part that is added to the shortest delay.
func (p *Policy) Range(attempt int, c Class) (low, width time.Duration) {
	base := p.baseDelay()
	if c == ClassThrottled && p.ThrottleDelay > 0 {
		base = p.ThrottleDelay
	}
	ceiling := p.ceiling(base, attempt)
	if p.Jitter == NoJitter {
		return ceiling, 0
	}
	mode, limit := p.JitterMode, p.maxDelay()
	if !mode.isValid() {
		mode = Additive
	}
	return jitterModes[mode].delay(ceiling, min(p.jitter(), limit), limit)
}

// maxSpread is the longest time by which a hint is lengthened at random.
const maxSpread = 15 * time.Second

// spread returns a wait from hint to a quarter longer, so that clients which all got
// the same hint do not all return in the same second. The wait fits in left, if the
// hint does.
func spread(hint time.Duration, p *Policy, left time.Duration, u float64) time.Duration {
	if hint <= 0 || p.Jitter == NoJitter {
		return max(hint, 0)
	}
	return hint + time.Duration(u*float64(min(hint/4, maxSpread, max(left-hint, 0))))
}
