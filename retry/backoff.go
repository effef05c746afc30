package retry

import (
	"math"
	"time"
)

// A JitterMode says how a delay is spread at random.
type JitterMode uint8

// The modes, with their formula: U[a, b] is a random duration between a and b, and
// ceiling is what [Policy.Ceiling] returns. No delay is longer than MaxDelay, and the
// delays at MaxDelay are spread as much as the others.
//
// Full and equal jitter are those of Marc Brooker, "Exponential Backoff And
// Jitter" (AWS Architecture Blog, 2015).
const (
	Additive    JitterMode = iota // lo + U[0, Jitter], where lo = min(ceiling, MaxDelay-Jitter)
	FullJitter                    // U[0, ceiling]
	EqualJitter                   // U[ceiling/2, ceiling]

	jitterModes // how many there are
)

// Ceiling returns the exponential delay after the given attempt, from 1:
// BaseDelay·ExponentialBase^(attempt-1), at most MaxDelay.
func (p *Policy) Ceiling(attempt int) time.Duration {
	return p.ceiling(p.baseDelay(), attempt)
}

// ceiling is computed in floating point, where too large a power is infinite
// and not, as in whole numbers, anything at all.
func (p *Policy) ceiling(base time.Duration, attempt int) time.Duration {
	limit := p.maxDelay()
	d := float64(base) * math.Pow(p.exponentialBase(), float64(max(attempt, 1)-1))
	if !(d < float64(limit)) {
		return limit
	}
	return time.Duration(d)
}

// Backoff returns the delay after the given attempt, from 1, of an error of
// class c; u, in [0, 1), places it in its range.
func (p *Policy) Backoff(attempt int, c Class, u float64) time.Duration {
	low, width := p.Range(attempt, c)
	return low + time.Duration(u*float64(width))
}

// Range returns the shortest delay after the given attempt, and how much
// longer it may be by chance.
func (p *Policy) Range(attempt int, c Class) (low, width time.Duration) {
	base := p.baseDelay()
	if c == ClassThrottled && p.ThrottleDelay > 0 {
		base = p.ThrottleDelay
	}
	ceiling := p.ceiling(base, attempt)
	switch {
	case p.Jitter == NoJitter:
		return ceiling, 0
	case p.JitterMode == FullJitter:
		return 0, ceiling
	case p.JitterMode == EqualJitter:
		return ceiling / 2, ceiling - ceiling/2
	default:
		jitter := min(p.jitter(), p.maxDelay())
		return min(ceiling, p.maxDelay()-jitter), jitter
	}
}

// maxSpread is the longest time by which a hint is lengthened at random.
const maxSpread = 15 * time.Second

// spread returns a wait that is no shorter than hint and up to a quarter
// longer, so that those who were all told the same do not all come back in the
// same second. What the deadline leaves is not overrun for it.
func spread(hint time.Duration, p *Policy, left time.Duration, u float64) time.Duration {
	if hint <= 0 || p.Jitter == NoJitter {
		return max(hint, 0)
	}
	return hint + time.Duration(u*float64(min(hint/4, maxSpread, max(left-hint, 0))))
}
