//go:build integration

package main

import (
	"testing"
	"time"
)

// 40 processes, 4 at a time: the places are hardly ever free while somebody waits.
func TestFortyProcessesShareFourPlaces(t *testing.T) {
	const processes, limit, hold = 40, 4, 500 * time.Millisecond
	g := limitedRuns(t, processes, limit, hold)
	span := g.last.Sub(g.from)
	t.Logf("%v for %v of work: %.0f %% of the %d places were in use", span, g.busy, 100*float64(g.busy)/float64(limit*span), limit)
}
