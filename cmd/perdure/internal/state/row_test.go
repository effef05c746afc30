package state

import (
	"testing"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// The admitted rate is never shown as more than the demand, which is recent and excludes retries.
func TestStateOfAGate(t *testing.T) {
	for _, row := range []struct {
		demand, admitted float64
		waiting          int
		want             string
	}{
		{1600, 410, 96, "half-open 410/s of 1600/s, 96 waiting"},
		{2.2, 3.8, 0, "half-open 3.8/s of 3.8/s"},
		{0.3, 0, 1, "half-open 0.0/s of 0.3/s, 1 waiting"},
		{0, 0, 2, "half-open, 2 waiting"},
	} {
		r := Row{State: circuit.HalfOpen, Demand: row.demand, Admitted: row.admitted, Waiting: row.waiting}
		if got := r.state(); got != row.want {
			t.Errorf("demand %v, admitted %v: %q, want %q", row.demand, row.admitted, got, row.want)
		}
	}
}
