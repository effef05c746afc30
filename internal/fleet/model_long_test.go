//go:build integration

package fleet

import (
	"os"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// Worlds that take longer.
func TestModelAtLength(t *testing.T) {
	holds(t, map[string]func(w *world){
		"a probe fails":        func(w *world) { w.trips, w.failures = 1, 1 },
		"changes are pushed":   func(w *world) { w.trips, w.pushes = 1, true },
		"requests take time":   func(w *world) { w.trips, w.slow = 1, true },
		"responses are lost":   func(w *world) { w.trips, w.drops, w.slow = 1, 1, true },
		"a process is cut off": func(w *world) { w.trips, w.cuts = 1, 1 },
		"throttled twice":      func(w *world) { w.asks = 2 },
	})
	if os.Getenv("PERDURE_TEST_LONG") == "" {
		t.Log("four worlds of up to a million states each are left to make long")
		return
	}
	holds(t, map[string]func(w *world){
		"two trip, one probe fails": func(w *world) { w.trips, w.failures = 2, 1 },
		"throttled, and trips":      func(w *world) { w.trips, w.asks = 1, 1 },
		"throttled, and lost":       func(w *world) { w.asks, w.losses = 1, 1 },
		"the server forgets":        func(w *world) { w.trips, w.losses = 1, 1 },
	})
}

// Overrides, at length.
func TestOverrideModelAtLength(t *testing.T) {
	holds(t, map[string]func(w *world){
		"in quick succession": func(w *world) {
			w.pushes, w.slow, w.overrides = true, true, overrides{lazy: true, resets: 1, isolations: 2}
		},
		"processes are killed":  func(w *world) { w.overrides = overrides{lazy: true, resets: 2, isolations: 1, kills: 2} },
		"killed and forgotten":  func(w *world) { w.losses, w.overrides = 1, overrides{lazy: true, resets: 1, isolations: 1, kills: 1} },
		"it forgets":            func(w *world) { w.losses, w.overrides = 1, overrides{lazy: true, resets: 2, isolations: 1} },
		"cut off and forgotten": func(w *world) { w.cuts, w.losses, w.overrides = 1, 1, overrides{lazy: true, resets: 1, isolations: 1} },
	})
}

// With limits that expire, processes that are killed and servers that lose their data,
// tokens are lost and no token is made.
func TestBudgetModelAtLength(t *testing.T) {
	m := market{ceiling: 3 * cell.Token}
	m.thrives(t)
}
