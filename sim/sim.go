// Package sim simulates what the clients of a backend do to it when it fails: how
// much of their traffic is lost, how many attempts they send, and how long the
// backend takes to recover.
//
// A [Scenario] describes the load, the clients with their retry policy and
// circuit breaker, the backend, and its faults. [Run] plays it in virtual time:
// seconds of thousands of clients take milliseconds. The backend and the network
// are a model; the clients decide with the code that real calls run: the Decide
// step of package retry, and the breakers and budgets of package circuit, to
// which the simulation gives its own clock and random numbers. Of other libraries,
// [Libraries] names those whose published algorithms can be compared.
//
//	storm := sim.Storm("outage", sim.Fault{Kind: sim.Outage, From: 4 * time.Second, To: 9 * time.Second})
//	storm.Clients.Policy, storm.Clients.Breaker = retry.Service(), &breaker
//	result, err := sim.Run(ctx, storm, 1)
//
// A run depends on nothing but the scenario and the seed: the same two give the
// same [Result], to the byte.
package sim

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// Run plays s and returns what was measured. The error is that of [Scenario.Validate], or
// the cause of ctx if that ends before the simulation does. Run is safe for
// concurrent use; each one needs one processor.
func Run(ctx context.Context, s Scenario, seed uint64) (Result, error) {
	return Watch(ctx, s, seed, func(time.Duration) {})
}

// Watch is Run for who waits for it: it calls progress with the virtual time since
// the beginning, at the end of each [Step], on its own goroutine.
func Watch(ctx context.Context, s Scenario, seed uint64, progress func(time.Duration)) (Result, error) {
	if err := s.Validate(); err != nil {
		return Result{}, err
	}
	m := newModel(s.filled(), seed)
	m.progress = progress
	for n := 0; m.step(); n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return Result{}, context.Cause(ctx)
		}
	}
	m.endStep()
	return m.recorder.result(m.scenario, seed), nil
}

// A model is a simulation while it runs.
type model struct {
	world // its time and chance

	scenario Scenario
	progress func(time.Duration)
	end      int64 // after the last arrival, until which operations may end
	agenda   agenda
	load     load
	clients  clients
	backend  backend
	recorder recorder
}

// newModel returns the model of s, which is filled in.
func newModel(s Scenario, seed uint64) *model {
	m := &model{world: world{random: stream(seed, 1)}, scenario: s}
	m.end = int64(s.Duration + s.Drain)
	m.recorder = newRecorder(s)
	m.backend = newBackend(&s, stream(seed, 2))
	m.load = newLoad(&s, stream(seed, 3))
	m.clients = newClients(m, stream(seed, 4))
	for i, f := range s.Faults {
		m.schedule(i, f)
	}
	m.load.begin(m)
	return m
}

// stream returns the random numbers of one part of the model. Each part has its
// own, so that two policies meet the same arrivals.
func stream(seed, part uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, part))
}

// step makes the next event happen. It reports whether there was one.
func (m *model) step() bool {
	e, ok := m.agenda.next()
	if !ok || e.at > m.end {
		return false
	}
	if e.at >= m.recorder.end {
		m.passSteps(e.at)
	}
	m.now = e.at
	switch e.kind {
	case arrival:
		m.load.arrive(m, e)
	case thought:
		m.begin(e.process(), e.client())
	case request:
		m.receive(e)
	case done:
		m.finish(e)
	case response:
		m.respond(e)
	case timeout:
		m.expire(e)
	case wake:
		m.admit(e)
	case look:
		m.looks(e)
	case late:
		m.lag(e)
	case change:
		m.fault(e)
	case void:
	}
	return true
}

// A world is the virtual time and the chance of a simulation.
type world struct {
	now    int64 // nanoseconds since the beginning
	set    int64 // by which the wall clock has been set since
	random *rand.Rand
}

// epoch is when each simulation begins, by its wall clock.
const epoch = int64(1_767_225_600_000_000_000) // 2026-01-01

// Now returns the wall clock.
func (w *world) Now() time.Time { return time.Unix(0, epoch+w.now+w.set) }

// Elapsed returns the time since the beginning.
func (w *world) Elapsed() time.Duration { return time.Duration(w.now) + time.Second } // 0 means "not known" to a permit

// Float64 returns a random number in [0, 1).
func (w *world) Float64() float64 { return w.random.Float64() }

// observe counts what happens to the breakers.
func (m *model) observe(_ context.Context, t circuit.Transition) {
	m.recorder.transition(t)
}
