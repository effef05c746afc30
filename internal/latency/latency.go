// Package latency decides when a call is slow, by the latencies of recent calls, and pays for second calls.
package latency

import (
	"slices"
	"sync"
	"time"
)

// A Meter measures the calls to one service. It is safe for concurrent use.
type Meter struct {
	Percentile float64       // a call is slow above this percentile of the latencies; 0..1
	Min        time.Duration // the minimum of a delay that is measured
	Ratio      float64       // the maximum number of second calls per first call

	mu     sync.Mutex
	recent [window]time.Duration // a ring buffer of latencies
	seen   int
	delay  time.Duration // the percentile of recent; 0 means too few latencies
	tokens float64       // second calls that may be made
}

// The limits of a Meter.
const (
	window         = 256 // latencies that are kept
	minSamples     = 20  // latencies that a percentile needs
	recomputeEvery = 16  // latencies after which the percentile is recomputed
	maxTokens      = 10  // the maximum number of second calls in a burst
)

// Begin adds a call's share to the budget, and returns the delay before a second call; 0 means too few latencies.
func (m *Meter) Begin() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tokens = min(m.tokens+m.Ratio, maxTokens)
	if m.delay == 0 {
		return 0
	}
	return max(m.delay, m.Min)
}

// Fill fills the budget, for a Meter whose first calls may be hedged.
func (m *Meter) Fill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tokens = maxTokens
}

// Withdraw pays for a second call, and reports whether the budget could.
func (m *Meter) Withdraw() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tokens < 1 {
		return false
	}
	m.tokens--
	return true
}

// Learn records the latency of a success.
func (m *Meter) Learn(took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recent[m.seen%window] = max(took, 1)
	m.seen++
	if m.seen < minSamples || m.seen%recomputeEvery != 0 && m.delay != 0 {
		return
	}
	known := slices.Sorted(slices.Values(m.recent[:min(m.seen, window)]))
	m.delay = known[min(int(m.Percentile*float64(len(known))), len(known)-1)]
}
