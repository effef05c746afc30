package sim

import (
	"math"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// A Result is what [Run] measured. Without faults, the whole run counts as after
// the fault.
type Result struct {
	Scenario string
	Seed     uint64

	Operations int // that arrived
	Succeeded  int
	Failed     int
	Attempts   int // that were sent
	Trips      int // how often a breaker opened, or a gate was limited

	// Lost is how much of the traffic failed, as time: the operations that arrived
	// from the fault's beginning on and failed, each 1/Load.Rate. In a closed loop
	// it is 0.
	Lost time.Duration
	// Amplification is how many attempts were sent for each operation that arrived:
	// in the fault, and from its end on.
	Amplification Amplification
	// Wasted is the ratio of the workers' time that went, from the fault's beginning
	// on, to requests whose clients had given up.
	Wasted float64
	// Recovery is how long after the fault's end traffic was well again: from then
	// on, each window of 1 s completed at least 95 % of what arrived in it, for 3 s.
	// It is in steps of 100 ms, and Never if that did not happen while operations arrived.
	Recovery time.Duration

	// Latency is how long operations took that succeeded.
	Latency Latency
	// Steps are what happened in each [Step] of the run, the time included in which
	// no operations arrive any more.
	Steps []Counts
}

// Amplification is attempts for each operation.
type Amplification struct{ During, After float64 }

// Never is the Recovery of what did not recover.
const Never = time.Duration(math.MaxInt64)

// A recorder measures a run.
type recorder struct {
	from, to  int64 // of all faults together
	lost      int
	attempts  [3]int // before, in and after the fault
	arrivals  [3]int
	steps     []Counts
	end       int64 // of the step that is going on
	total     Counts
	work      time.Duration // from the fault on
	wasted    time.Duration
	latencies histogram // of all steps that have ended
	recent    histogram // of the one that is going on
}

func newRecorder(s Scenario) recorder {
	r := recorder{from: math.MaxInt64}
	for _, f := range s.Faults {
		r.from, r.to = min(r.from, int64(f.From)), max(r.to, int64(f.To))
	}
	if len(s.Faults) == 0 {
		r.from = 0
	}
	r.steps = make([]Counts, 0, s.Duration/Step+1)
	r.begin()
	return r
}

// part is 0 before the fault, 1 in it, 2 after it.
func (r *recorder) part(now int64) int {
	switch {
	case now < r.from:
		return 0
	case now < r.to:
		return 1
	default:
		return 2
	}
}

// current returns the step that is going on.
func (r *recorder) current() *Counts { return &r.steps[len(r.steps)-1] }

func (r *recorder) arrived(now int64) {
	r.current().Arrived++
	r.total.Arrived++
	r.arrivals[r.part(now)]++
}

func (r *recorder) attempt(now int64) {
	r.current().Attempts++
	r.total.Attempts++
	r.attempts[r.part(now)]++
}

func (r *recorder) closed(now, arrived int64, ok bool) {
	if ok {
		r.current().Succeeded++
		r.total.Succeeded++
		r.recent.add(now - arrived)
		return
	}
	r.current().Failed++
	r.total.Failed++
	if arrived >= r.from {
		r.lost++
	}
}

func (r *recorder) worked(now, took int64, gone bool) {
	d := time.Duration(took)
	s := r.current()
	s.Worked += d
	if gone {
		s.Wasted += d
	}
	if now >= r.from {
		r.work += d
		if gone {
			r.wasted += d
		}
	}
}

func (r *recorder) transition(t circuit.Transition) {
	if t.To == circuit.Open {
		r.trip()
	}
}

func (r *recorder) trip() {
	r.current().Trips++
	r.total.Trips++
}

// result returns what was measured of s. Operations that are still out, of clients
// that never give up, have failed.
func (r *recorder) result(s Scenario, seed uint64) Result {
	out := r.total.Arrived - r.total.Succeeded - r.total.Failed
	x := Result{
		Scenario: s.Name, Seed: seed, Operations: r.total.Arrived, Succeeded: r.total.Succeeded, Failed: r.total.Failed + out,
		Attempts: r.total.Attempts, Trips: r.total.Trips, Latency: r.latencies.latency(), Steps: r.steps,
		Amplification: Amplification{quotient(r.attempts[1], r.arrivals[1]), quotient(r.attempts[2], r.arrivals[2])},
		Wasted:        quotient(int(r.wasted), int(r.work)), Recovery: r.recovery(s.Duration),
	}
	if rate := s.Load.Rate; rate > 0 {
		x.Lost = time.Duration(float64(r.lost+out) / rate * float64(time.Second))
	}
	return x
}

func quotient(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// recovery finds the first step from which all windows of 1 s are well for 3 s.
func (r *recorder) recovery(duration time.Duration) time.Duration {
	const window, needed = int(time.Second / Step), int(3 * time.Second / Step)
	first := int((r.to + int64(Step) - 1) / int64(Step))
	run := 0 // windows in a row that are well
	for i := first; i+window <= min(len(r.steps), int(duration/Step)); i++ {
		if well(r.steps[i : i+window]) {
			run++
		} else {
			run = 0
		}
		if run > needed-window {
			return time.Duration(i-run+1-first) * Step
		}
	}
	return Never
}

func well(window []Counts) bool {
	arrived, succeeded := 0, 0
	for _, c := range window {
		arrived += c.Arrived
		succeeded += c.Succeeded
	}
	return float64(succeeded) >= 0.95*float64(arrived)
}
