package sim

import (
	"math"
	"math/bits"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/gate"
)

// A Result is what [Run] measured. Without faults, the whole run counts as after the fault.
type Result struct {
	Scenario string
	Seed     uint64

	Operations int // operations that arrived
	Succeeded  int // operations that succeeded
	Failed     int // operations that failed
	Attempts   int // attempts that were sent
	Trips      int // openings of breakers, and limits of gates

	// Lost is the lost traffic as time: the number of operations that arrived after the fault
	// began and failed, divided by Load.Rate. Lost is 0 in a closed loop.
	Lost time.Duration
	// Amplification is the number of attempts per operation, during the fault and after it.
	Amplification Amplification
	// Wasted is the ratio of the work for clients that had given up to all work, since the fault
	// began.
	Wasted float64
	// Recovery is how long after the fault's end traffic recovered: from then on, for 3 s, each
	// window of 1 s completed at least 95 % of what arrived in it. It is a multiple of
	// 100 ms, or Never if traffic did not recover while operations arrived.
	Recovery time.Duration

	// Latency is the duration of the operations that succeeded.
	Latency Latency
	// Steps has the counts of each [Step] of the run, including the time after the last arrival.
	Steps []Counts
}

// Amplification is the number of attempts per operation, during the faults and after them.
type Amplification struct{ During, After float64 }

// Never is the Recovery of traffic that did not recover.
const Never = time.Duration(math.MaxInt64)

// A recorder measures a run.
type recorder struct {
	from, to  int64 // of all faults together
	lost      int
	attempts  [3]int // before, in and after the fault
	arrivals  [3]int
	steps     []Counts
	end       int64 // of the current step
	total     Counts
	work      time.Duration // since the fault began
	wasted    time.Duration
	latencies histogram // of all steps that have ended
	recent    histogram // of the current step
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

// part returns 0 before the fault, 1 during it, 2 after it.
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

// current returns the current step.
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

// result returns what was measured of s. Operations that are still in progress, of clients that
// never give up, count as failed.
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

// recovery returns the first step from which all windows of 1 s recovered, for 3 s.
func (r *recorder) recovery(duration time.Duration) time.Duration {
	const window, needed = int(time.Second / Step), int(3 * time.Second / Step)
	first := int((r.to + int64(Step) - 1) / int64(Step))
	run := 0 // windows in a row that recovered
	for i := first; i+window <= min(len(r.steps), int(duration/Step)); i++ {
		if recovered(r.steps[i : i+window]) {
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

func recovered(window []Counts) bool {
	arrived, succeeded := 0, 0
	for _, c := range window {
		arrived += c.Arrived
		succeeded += c.Succeeded
	}
	return float64(succeeded) >= 0.95*float64(arrived)
}

// Step is the duration of one [Counts].
const Step = 100 * time.Millisecond

// Counts is what happened in a [Step], and the state at its end.
type Counts struct {
	Arrived   int           // operations that arrived
	Attempts  int           // attempts that were sent
	Succeeded int           // operations that succeeded
	Failed    int           // operations that failed
	Worked    time.Duration // the work of all workers
	Wasted    time.Duration // the work for clients that had given up
	Trips     int           // openings of breakers, and limits of gates
	Latency   Latency       // of the operations that succeeded

	Queued  int // requests in the backend's queue, at the end of the step
	Waiting int // operations that wait at a gate, at the end of the step
	// Open and HalfOpen are the ratios of processes whose breaker or gate is in that state.
	// Budget is the mean balance of a process, in tokens; 0 without a budget. At most 100
	// processes are sampled.
	Open, HalfOpen float64
	Budget         float64
}

// maxSampled is the maximum number of processes that a step samples.
const maxSampled = 100

// begin begins the next step.
func (r *recorder) begin() {
	r.steps = append(r.steps, Counts{})
	r.end += int64(Step)
}

// passSteps ends the steps that are over at the instant at.
func (m *model) passSteps(at int64) {
	r := &m.recorder
	for ; r.end <= at; r.begin() {
		m.now = r.end
		m.endStep()
		m.progress(time.Duration(m.now))
	}
}

// endStep completes the current step.
func (m *model) endStep() {
	r := &m.recorder
	c := r.current()
	c.Latency = r.recent.latency()
	r.recent.drain(&r.latencies)
	for i := range m.backend.shards {
		c.Queued += m.backend.shards[i].waiting()
	}
	c.Waiting = m.clients.waiting
	m.sample(c)
}

// sample counts the states of breakers and gates, and the balances of budgets.
func (m *model) sample(c *Counts) {
	n := m.scenario.Clients.Processes
	if m.scenario.Clients.Shared && m.clients.peers == nil {
		n = 1 // all have one state
	}
	samples := min(n, maxSampled)
	open, halfOpen, tokens := 0, 0, circuit.Tokens(0)
	for i := range samples {
		p := i * n / samples
		switch m.clients.state(p, m.gateNow()) {
		case circuit.Open:
			open++
		case circuit.HalfOpen:
			halfOpen++
		default:
		}
		if balance, on := breakers.Balance(m.clients.breakers[p]); on {
			tokens += balance
		}
	}
	c.Open, c.HalfOpen = quotient(open, samples), quotient(halfOpen, samples)
	c.Budget = float64(tokens) / float64(circuit.Token) / float64(samples)
}

// state returns the state of the breaker or gate of a process.
func (c *clients) state(process int, now int64) circuit.State {
	if c.peers != nil {
		return c.peers[process].breaker.current()
	}
	if c.gates == nil {
		return c.breakers[process].State()
	}
	switch c.gates[process].Status(now).State {
	case gate.Open:
		return circuit.Open
	case gate.HalfOpen:
		return circuit.HalfOpen
	default:
		return circuit.Closed
	}
}

// Latency describes a distribution of durations. Its percentiles are exact to 2 %.
type Latency struct{ Mean, P50, P99, Max time.Duration }

// A histogram counts durations in buckets whose bounds are 1/32 apart.
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

// reach extends the used buckets: from low to before high.
func (h *histogram) reach(low, high int) {
	if h.n == 0 {
		h.low = low
	}
	h.low, h.high = min(h.low, low), max(h.high, high)
}

// drain adds the counts of h to all, and empties h.
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

// bucket returns the bucket of d: the position of the highest bit, and the five bits after it.
func bucket(d int64) int {
	high := bits.Len64(uint64(d)) //nolint:gosec // a time that has passed
	if high <= 6 {
		return int(d)
	}
	return high<<5 | int(d>>(high-6))&31
}

// middle returns the duration in the middle of bucket i.
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
