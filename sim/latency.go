package sim

import (
	"math"
	"math/bits"
	"time"
)

// Latency is a distribution of times. Its percentiles are exact to 2 %.
type Latency struct{ Mean, P50, P99, Max time.Duration }

// A histogram counts times in buckets whose bounds are 1/32 apart.
type histogram struct {
	counts    [64 * 32]int
	low, high int // the buckets that may not be empty: from low to before high
	n         int
	sum       float64
	max       int64
}

func (h *histogram) add(d int64) {
	i := bucket(d)
	h.reach(i, i+1)
	h.counts[i]++
	h.n++
	h.sum += float64(d)
	h.max = max(h.max, d)
}

// reach has the buckets from low to before high in use.
func (h *histogram) reach(low, high int) {
	if h.n == 0 {
		h.low = low
	}
	h.low, h.high = min(h.low, low), max(h.high, high)
}

// drain adds what is in h to all, and empties h.
func (h *histogram) drain(all *histogram) {
	if h.n == 0 {
		return
	}
	all.reach(h.low, h.high)
	for i := h.low; i < h.high; i++ {
		all.counts[i] += h.counts[i]
		h.counts[i] = 0
	}
	all.n += h.n
	all.sum += h.sum
	all.max = max(all.max, h.max)
	h.low, h.high, h.n, h.sum, h.max = 0, 0, 0, 0, 0
}

// bucket is the position of the highest bit, and the five bits after it.
func bucket(d int64) int {
	high := bits.Len64(uint64(d)) //nolint:gosec // a time that has passed
	if high <= 6 {
		return int(d)
	}
	return high<<5 | int(d>>(high-6))&31
}

// middle is the time in the middle of bucket i.
func middle(i int) time.Duration {
	high, low := i>>5, int64(i&31)
	if i < 64 {
		return time.Duration(i)
	}
	return time.Duration((64 + 2*low + 1) << (high - 6) >> 1)
}

func (h *histogram) latency() Latency {
	if h.n == 0 {
		return Latency{}
	}
	return Latency{time.Duration(h.sum / float64(h.n)), h.percentile(0.5), h.percentile(0.99), time.Duration(h.max)}
}

func (h *histogram) percentile(p float64) time.Duration {
	left := int(math.Ceil(p * float64(h.n)))
	for i := h.low; i < h.high; i++ {
		if left -= h.counts[i]; left <= 0 {
			return min(middle(i), time.Duration(h.max))
		}
	}
	return time.Duration(h.max)
}
