package circuit

import (
	"context"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A virtual is a Store with the clock and the chance of a simulation.
type virtual struct {
	cell.Unshared

	ref     *cell.Ref
	wall    time.Time
	elapsed time.Duration
	chance  float64
}

func (v *virtual) Cell(string, cell.Client) *cell.Ref { return v.ref }
func (v *virtual) Now() time.Time                     { return v.wall }
func (v *virtual) Elapsed() time.Duration             { return v.elapsed }
func (v *virtual) Float64() float64                   { return v.chance }

func (v *virtual) pass(d time.Duration) {
	v.wall = v.wall.Add(d)
	v.elapsed += d
}

// A breaker in a simulation uses no clock and no random number of the process: its
// transitions depend on its calls alone, and centuries take no time.
func TestVirtualTime(t *testing.T) {
	start := time.Date(1999, 12, 31, 23, 59, 0, 0, time.UTC)
	for _, own := range []bool{false, true} {
		v := &virtual{ref: cell.NewRef(new(cell.Cell)), wall: start, elapsed: time.Hour, chance: 0.5}
		v.ref.Virtual = v
		if own {
			v.ref.Anchor = start.Add(-time.Hour)
		}
		var seen []Transition
		b := New("simulated", Config{
			Store: sealing(v), Window: time.Second, FailureRatio: 0.5, MinCalls: 4, FailureThreshold: Off, OpenJitter: 0.2,
			Observe: func(_ context.Context, t Transition) { seen = append(seen, t) },
		})
		for range 3 {
			b.RecordFailure()
		}
		v.pass(2 * time.Second) // they are out of the window
		for range 3 {
			b.RecordFailure()
		}
		if b.State() != Closed || b.Metrics().Failed != 3 {
			t.Fatalf("own %v: %v, %d failures in the window; want closed, 3", own, b.State(), b.Metrics().Failed)
		}
		v.pass(time.Second / 2)
		b.RecordFailure()
		opened := start.Add(5 * time.Second / 2)
		retryAt := opened.Add(33 * time.Second) // half of the jitter
		_, err := b.Acquire()
		if refusal := b.peek(); err == nil || refusal == nil || !refusal.RetryAt.Equal(retryAt) {
			t.Fatalf("own %v: refusal %v, want one until %v", own, refusal, retryAt)
		}
		v.pass(33*time.Second - time.Millisecond)
		if b.State() != Open {
			t.Errorf("own %v: %v a millisecond before the end of the opening", own, b.State())
		}
		if _, err := b.Acquire(); err == nil {
			t.Errorf("own %v: a call passes a millisecond before the end of the opening", own)
		}
		v.pass(time.Millisecond)
		p, err := b.Acquire()
		if err != nil || !p.Probe() {
			t.Fatalf("own %v: no probe at the end of the opening: %v", own, err)
		}
		p.Success()
		if b.State() != Closed || len(seen) != 3 || !seen[0].At.Equal(opened) || !seen[1].At.Equal(retryAt) || seen[1].Refused != 2 {
			t.Errorf("own %v: %v after %+v", own, b.State(), seen)
		}
		if last := b.Metrics().LastFailure; !last.Equal(opened) {
			t.Errorf("own %v: the last failure is of %v, want %v", own, last, opened)
		}
	}
}
