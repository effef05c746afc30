package sim

import (
	"cmp"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/gate"
	"github.com/seed-0f2c7998/perdure/internal/seam"
	"github.com/seed-0f2c7998/perdure/retry"
)

// An outcome is how an attempt ends.
type outcome uint8

const (
	succeeded   outcome = iota
	failed              // 500
	unavailable         // 503
	refused             // no connection, or a reset
	throttled           // 429
	timedOut            // AttemptTimeout
	cut                 // the caller's deadline
)

// err returns the error of an attempt that ended with a, and its class in package retry.
func (a outcome) err() (error, retry.Class) { //nolint:revive,staticcheck // the class explains the error
	switch a {
	case failed:
		return status(500), retry.ClassTransient
	case unavailable:
		return status(503), retry.ClassTransient
	case refused:
		return errRefused, retry.ClassTransient
	case throttled:
		return status(429), retry.ClassThrottled
	case timedOut, cut:
		return context.DeadlineExceeded, retry.ClassTransient
	default:
		return nil, retry.ClassUnknown
	}
}

// A status is an HTTP status as an error.
type status int

func (s status) Error() string       { return "status " + strconv.Itoa(int(s)) }
func (s status) HTTPStatusCode() int { return int(s) }

var errRefused = retry.Transient(errors.New("connection refused"))

// clients are all processes, and the operations in progress.
type clients struct {
	config     Clients
	random     *rand.Rand
	breakers   []*circuit.Breaker // of each process; nil if none
	gates      []gated            // of each process; nil if none
	library    *library           // the clients' library; nil means this one
	peers      []peer             // processes of the library
	waiting    int                // operations at the gates
	operations []operation
	free       []int32 // unused slots of operations
	stalled    int     // this many processes stand still,
	until      int64   // until this instant
}

// An operation is one call of the loop of package retry. Its fields follow that loop.
type operation struct {
	arrived  int64
	deadline int64 // MaxInt64: none
	permit   circuit.Permit
	cost     circuit.Tokens // of the last retry
	spent    circuit.Tokens // on all retries
	process  int32
	client   uint32 // number in its process, of a closed loop
	call     call   // state for a library
	pass     gate.Permit
	waiter   *gate.Waiter // made at first use, kept with the slot
	late     bool         // the attempt was reported as late
	attempt  int32
	// turn grows with each attempt that ends. An event with an earlier turn belongs to
	// an attempt that has ended.
	turn uint32
}

func newClients(m *model, random *rand.Rand) clients {
	c := clients{config: m.scenario.Clients, random: random, library: libraryNamed(m.scenario.Clients.Library)}
	if c.library != nil {
		c.config.Breaker = nil
	}
	c.restart(m)
	return c
}

// restart makes new breakers for all processes.
func (c *clients) restart(m *model) {
	c.peers = newPeers(c.library, c.config.Processes)
	c.gates = newGates(c.config, c.gates)
	c.breakers = make([]*circuit.Breaker, c.config.Processes)
	if c.config.Breaker == nil {
		return
	}
	shared := new(cell.Cell)
	for i := range c.breakers {
		ref := cell.NewRef(shared)
		if !c.config.Shared {
			ref = cell.NewRef(new(cell.Cell))
			ref.Anchor = m.Now()
		}
		ref.Virtual = &m.world
		config := *c.config.Breaker
		if c.gates != nil { // the gates replace the rules of the breakers
			config.Gate, config.FailureThreshold = circuit.NoGate, circuit.Off
		}
		hidden := cell.Hide(store{ref: ref})
		config.Store, config.Observe = &hidden, m.observe
		c.breakers[i] = circuit.New("simulated", config)
	}
}

// A store is the circuit.Store of one process.
type store struct {
	cell.Unshared

	ref *cell.Ref
}

func (s store) Cell(string, cell.Client) *cell.Ref { return s.ref }

// deferred reports whether the process stands still, and then schedules e for the instant at
// which the process continues.
func (m *model) deferred(process int, e event) bool {
	if process >= m.clients.stalled {
		return false
	}
	e.at = m.clients.until
	m.agenda.add(e)
	return true
}

// begin begins an operation of a client in a process.
func (m *model) begin(process, client int) {
	if m.deferred(process, event{kind: thought, op: int32(process), turn: uint32(client)}) { //nolint:gosec // limited by Validate
		return
	}
	c := &m.clients
	if len(c.free) == 0 {
		c.free = append(c.free, int32(len(c.operations))) //nolint:gosec // they would not fit in memory
		c.operations = append(c.operations, operation{})
	}
	i := c.free[len(c.free)-1]
	c.free = c.free[:len(c.free)-1]
	o := &c.operations[i]
	*o = operation{arrived: m.now, deadline: math.MaxInt64, process: int32(process), client: uint32(client), turn: o.turn, waiter: o.waiter} //nolint:gosec // limited by Validate
	if c.config.Deadline > 0 {
		o.deadline = m.now + int64(c.config.Deadline)
	}
	m.recorder.arrived(m.now)
	m.admit(event{op: i, turn: o.turn})
}

// admit asks for the next attempt, as Call.Admit does, and sends it.
func (m *model) admit(e event) {
	c := &m.clients
	o := &c.operations[e.op]
	if m.deferred(int(o.process), event{kind: wake, op: e.op}) {
		return
	}
	if c.peers != nil {
		m.peerAdmit(e.op)
		return
	}
	b := c.breakers[o.process]
	permit, err := b.Acquire()
	if err != nil || m.now >= o.deadline {
		permit.Cancel()
		m.giveUp(e.op)
		return
	}
	o.permit = permit
	if c.gates == nil {
		m.send(e.op)
	} else {
		m.enter(e.op)
	}
}

// giveUp ends an operation without its next attempt.
func (m *model) giveUp(op int32) {
	o := &m.clients.operations[op]
	breakers.Refund(m.clients.breakers[o.process], o.cost)
	m.close(op, false)
}

// send sends an attempt.
func (m *model) send(op int32) {
	c := &m.clients
	o := &c.operations[op]
	o.attempt++
	m.recorder.attempt(m.now)
	end := o.deadline
	if t := c.config.Policy.AttemptTimeout; t > 0 {
		end = min(end, m.now+int64(t))
	}
	if end < math.MaxInt64 {
		m.agenda.addTimeout(event{at: end, kind: timeout, op: op, turn: o.turn})
	}
	sent := event{at: m.now + m.backend.delay/2, kind: request, op: op, turn: o.turn}
	if m.backend.delay > 0 {
		m.agenda.add(sent)
	} else {
		m.receive(sent)
	}
}

// respond ends an attempt with its response.
func (m *model) respond(e event) {
	o := &m.clients.operations[e.op]
	if o.turn != e.turn || m.deferred(int(o.process), e) {
		return
	}
	o.turn++
	if e.outcome != succeeded {
		m.failed(e.op, e.outcome)
		return
	}
	m.ended(o, succeeded)
	o.permit.Success()
	if o.attempt > 1 {
		breakers.Refund(m.clients.breakers[o.process], o.cost)
	}
	m.close(e.op, true)
}

// expire ends an attempt whose timeout is over.
func (m *model) expire(e event) {
	o := &m.clients.operations[e.op]
	if o.turn != e.turn || m.deferred(int(o.process), e) {
		return
	}
	o.turn++
	if m.now >= o.deadline {
		m.failed(e.op, cut)
	} else {
		m.failed(e.op, timedOut)
	}
}

// failed records a failed attempt and decides, as Call.Failed does.
func (m *model) failed(op int32, a outcome) {
	c := &m.clients
	o := &c.operations[op]
	m.ended(o, a)
	if c.peers != nil {
		m.peerDecide(op, a)
		return
	}
	b := c.breakers[o.process]
	out := retry.Outcome{
		Attempt: int(o.attempt), Now: m.Now(), Elapsed: time.Duration(m.now - o.arrived), TimedOut: a == timedOut, Spent: o.spent,
	}
	out.Err, out.Class = a.err()
	if o.deadline < math.MaxInt64 {
		out.Deadline = out.Now.Add(time.Duration(o.deadline - m.now))
	}
	if a == cut {
		out.Ended = out.Err
	}
	if a == throttled && !c.config.Policy.IgnoreRetryAfter {
		out.Hint = m.backend.hint
	}
	switch {
	case c.gates != nil, out.Hint > cmp.Or(c.config.Policy.MaxRetryAfter, time.Minute):
		o.permit.Cancel() // the gate has recorded it; or so long a hint delays no other call
	case a == throttled:
		o.permit.Throttled(out.Hint)
	case a == cut:
		breakers.Record(context.Background(), o.permit, seam.Result{Err: out.Err, Late: true}) //nolint:forbidigo // a simulated call has no context
	default:
		o.permit.Failure()
	}
	out.Open = breakers.Peek(b)
	out.Balance, out.Budgeted = breakers.Balance(b)
	d := c.config.Policy.Decide(out, c.random.Float64())
	if d.Stop != nil || !breakers.Withdraw(b, d.Cost) {
		m.close(op, false)
		return
	}
	o.cost = d.Cost
	o.spent += d.Cost
	m.agenda.add(event{at: m.now + int64(d.Delay), kind: wake, op: op})
}

// close ends an operation.
func (m *model) close(op int32, ok bool) {
	o := &m.clients.operations[op]
	if m.clients.peers != nil {
		m.clients.peers[o.process].quota.end()
	}
	m.recorder.closed(m.now, o.arrived, ok)
	m.clients.free = append(m.clients.free, op)
	if m.load.config.Clients > 0 {
		m.load.think(m, o.process, o.client, o.arrived)
	}
}
