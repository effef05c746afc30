// Package sim simulates what clients do to a backend that fails: how much of their traffic
// is lost, how many attempts they send, and how long the backend takes to recover.
//
// A [Scenario] describes the load, the clients with their retry policy and circuit breaker,
// the backend, and its faults. [Run] simulates a Scenario in virtual time: seconds of thousands
// of clients take milliseconds. The backend and the network are a model; the clients decide
// with the code of real calls: the Decide step of package retry, and the breakers and
// budgets of package circuit, with the clock and the random numbers of the simulation. The
// published algorithms of other libraries can be compared: see [Libraries].
//
//	storm := sim.Storm("outage", sim.Fault{Kind: sim.Outage, From: 4 * time.Second, To: 9 * time.Second})
//	storm.Clients.Policy, storm.Clients.Breaker = retry.Service(), &breaker
//	result, err := sim.Run(ctx, storm, 1)
//
// A run depends only on the scenario and the seed: the same scenario and seed give the same
// [Result], to the byte.
package sim

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// Run simulates s and returns what it measured. The error is that of [Scenario.Validate], or
// the cause of ctx if ctx ends before the simulation. Run is safe for concurrent use; each
// run uses one processor.
func Run(ctx context.Context, s Scenario, seed uint64) (Result, error) {
	return Watch(ctx, s, seed, func(time.Duration) {})
}

// Watch is Run with a report of progress: at the end of each [Step], Watch calls progress with
// the virtual time since the beginning, on the caller's goroutine. The run waits for progress.
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

// A model is a running simulation.
type model struct {
	world // clocks and random numbers

	scenario Scenario
	progress func(time.Duration)
	end      int64 // until when operations may end
	agenda   agenda
	load     load
	clients  clients
	backend  backend
	recorder recorder
}

// newModel returns the model of s, which has its defaults.
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

// stream returns the random numbers of one part of the model. Each part has its own, so that
// all policies meet the same arrivals.
func stream(seed, part uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, part))
}

// step processes the next event, and reports whether there was one.
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
		m.serveScheduled(e)
	case late:
		m.markLate(e)
	case change:
		m.fault(e)
	case void:
	}
	return true
}

// A world is the virtual clocks and the random numbers of a simulation.
type world struct {
	now    int64 // nanoseconds since the beginning
	set    int64 // steps of the wall clock since
	random *rand.Rand
}

// epoch is the wall clock at the beginning of each simulation.
const epoch = int64(1_767_225_600_000_000_000) // 2026-01-01

// Now returns the wall clock.
func (w *world) Now() time.Time { return time.Unix(0, epoch+w.now+w.set) }

// Elapsed returns the time since the beginning, plus a second.
func (w *world) Elapsed() time.Duration { return time.Duration(w.now) + time.Second } // 0 means "not known" to a permit

// Float64 returns a random number in [0, 1).
func (w *world) Float64() float64 { return w.random.Float64() }

// observe counts the transitions of the breakers.
func (m *model) observe(_ context.Context, t circuit.Transition) {
	m.recorder.transition(t)
}

// A kind is the kind of an event.
type kind uint8

const (
	void     kind = iota // cancelled
	arrival              // operations arrive
	thought              // a client of a closed loop begins its next operation
	request              // an attempt reaches the backend
	done                 // a worker has finished a request
	response             // a response reaches the client
	timeout              // an attempt has taken as long as it may
	wake                 // an operation asks for its next attempt
	look                 // the line at a gate needs a step
	late                 // an attempt without a timeout takes too long
	change               // a fault begins, ends or changes
)

// An event happens at an instant. Events of the same instant happen in the order in which
// they were scheduled.
type event struct {
	at      int64 // nanoseconds since the beginning
	number  uint64
	took    int64  // of done: service time
	op      int32  // operation of an attempt; of change: fault; of look: process
	turn    uint32 // of an attempt: see operation
	shard   uint16
	kind    kind
	outcome outcome
}

// process and client return the process of a thought, and the number of the client in it.
func (e event) process() int { return int(e.op) }
func (e event) client() int  { return int(e.turn) }

func (e *event) before(f *event) bool {
	return e.at < f.at || e.at == f.at && e.number < f.number
}

// An agenda is the queue of events. Its zero value is empty. Timeouts have a queue of their
// own, which costs less than the heap: all are equally long, and most are never needed.
type agenda struct {
	heap   []event // four children each
	line   []event // timeouts, the earliest first
	passed int     // timeouts in line that are over
	number uint64
}

// add schedules e.
func (a *agenda) add(e event) {
	a.number++
	e.number = a.number
	a.heap = append(a.heap, e)
	i := len(a.heap) - 1
	for i > 0 {
		parent := (i - 1) / 4
		if !e.before(&a.heap[parent]) {
			break
		}
		a.heap[i] = a.heap[parent]
		i = parent
	}
	a.heap[i] = e
}

// addTimeout schedules e, which is usually later than the last timeout.
func (a *agenda) addTimeout(e event) {
	if n := len(a.line); n > a.passed && e.at < a.line[n-1].at {
		a.add(e)
		return
	}
	if a.passed > 1024 && a.passed > len(a.line)/2 {
		a.line = a.line[:copy(a.line, a.line[a.passed:])]
		a.passed = 0
	}
	a.number++
	e.number = a.number
	a.line = append(a.line, e)
}

// next removes and returns the first event.
func (a *agenda) next() (event, bool) {
	inLine := a.passed < len(a.line)
	switch {
	case len(a.heap) == 0 && !inLine:
		return event{}, false
	case inLine && (len(a.heap) == 0 || a.line[a.passed].before(&a.heap[0])):
		a.passed++
		return a.line[a.passed-1], true
	}
	first := a.heap[0]
	last := a.heap[len(a.heap)-1]
	a.heap = a.heap[:len(a.heap)-1]
	if len(a.heap) > 0 {
		a.sink(last)
	}
	return first, true
}

// sink puts e at the top of the heap and moves it down to its place.
func (a *agenda) sink(e event) {
	i := 0
	for {
		child := 4*i + 1
		if child >= len(a.heap) {
			break
		}
		least := child
		for c := child + 1; c < min(child+4, len(a.heap)); c++ {
			if a.heap[c].before(&a.heap[least]) {
				least = c
			}
		}
		if !a.heap[least].before(&e) {
			break
		}
		a.heap[i] = a.heap[least]
		i = least
	}
	a.heap[i] = e
}
