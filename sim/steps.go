package sim

import (
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/gate"
)

// Step is the time of one [Counts].
const Step = 100 * time.Millisecond

// Counts are what happened in a [Step], and how things stood at its end.
type Counts struct {
	Arrived   int // operations
	Attempts  int
	Succeeded int // operations that ended so
	Failed    int
	Worked    time.Duration // by all workers
	Wasted    time.Duration // of it, for clients that had given up
	Trips     int
	Latency   Latency // of the operations that succeeded

	Queued  int // requests in the backend's queue, at the end of the step
	Waiting int // operations that wait at a gate
	// Open and HalfOpen are the ratios of processes whose breaker or gate is so, and
	// Budget is the mean number of tokens that a process may spend on retries; 0
	// without a budget. Of more than 100 processes, 100 are looked at.
	Open, HalfOpen float64
	Budget         float64
}

// maxSampled is how many processes a step looks at.
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

// endStep completes the step that is going on.
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

// sample looks at the breakers, gates and budgets of the processes.
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
