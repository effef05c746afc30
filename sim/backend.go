package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// A backend is the service that is called.
type backend struct {
	config  Backend
	random  *rand.Rand
	shards  []shard
	delay   int64 // of the network, both ways
	rate    float64
	hint    time.Duration // Retry-After of throttled responses
	logMean float64       // of a log-normal service time
}

// A shard is a part of a backend with its own workers and queue.
type shard struct {
	all     int // workers in health
	places  int // length limit of the queue
	workers int
	busy    int
	queue   []queued // valid from first on
	first   int

	down, closed, silent bool
	failing              float64 // ratio of requests that fail
	admits               float64 // requests admitted per second; infinite: all
	due                  int64   // when the next request is admitted at an even pace
}

// A queued is a request that waits for a worker.
type queued struct {
	op   int32
	turn uint32
}

func newBackend(s *Scenario, random *rand.Rand) backend {
	b := backend{config: s.Backend, random: random, delay: int64(s.Backend.Network), rate: s.capacity()}
	t := s.Backend.Service
	b.logMean = math.Log(float64(t.Mean)) - t.Spread*t.Spread/2
	n := s.Backend.Shards
	b.shards = make([]shard, n)
	for i := range b.shards {
		sh := &b.shards[i]
		sh.all = (s.Backend.Workers + i) / n
		switch s.Backend.Queue {
		case 0:
			sh.places = math.MaxInt
		case NoQueue:
		default:
			sh.places = (s.Backend.Queue + i) / n
		}
	}
	b.restore()
	return b
}

// restore ends all faults.
func (b *backend) restore() {
	for i := range b.shards {
		s := &b.shards[i]
		s.workers, s.down, s.closed, s.silent, s.failing, s.admits = s.all, false, false, false, 0, math.Inf(1)
	}
}

// apply adds the effect of f at now.
func (b *backend) apply(f *Fault, now time.Duration) {
	capacity := f.capacity(now)
	on := now >= f.From && now < f.To
	for i := range b.shards {
		s := &b.shards[i]
		if !f.concerns(i) {
			continue
		}
		s.workers = min(s.workers, int(math.Round(capacity*float64(s.all))))
		if !on {
			continue
		}
		switch f.Kind {
		case Outage:
			s.down = true
		case Crash:
			s.closed = true
		case BlackHole:
			s.silent = true
		case Throttle:
			s.admits = min(s.admits, f.Level*b.rate*float64(s.all)/float64(b.config.Workers))
			b.hint = f.RetryAfter
		case Errors:
			s.failing = 1 - (1-s.failing)*(1-f.Level)
		default:
		}
	}
}

// service returns a random service time of a request to s.
func (b *backend) service(s *shard) int64 {
	t := &b.config.Service
	d := float64(t.Mean)
	switch t.Distribution {
	case Uniform:
		d *= 1 + t.Spread*(2*b.random.Float64()-1)
	case Exponential:
		d *= b.random.ExpFloat64()
	case LogNormal:
		d = math.Exp(b.logMean + t.Spread*b.random.NormFloat64())
	case Constant:
	}
	if b.config.Slowdown > 0 {
		d *= 1 + b.config.Slowdown*float64(s.waiting())/float64(s.all)
	}
	return int64(d)
}

// admit reports whether a throttling shard admits a request: at an even rate, and after a
// pause up to 10 ms' worth at once.
func (s *shard) admit(now int64) bool {
	const burst = int64(10 * time.Millisecond)
	switch {
	case math.IsInf(s.admits, 1):
		return true
	case s.admits == 0 || s.due > now:
		return false
	}
	s.due = max(s.due, now-burst) + int64(float64(time.Second)/s.admits)
	return true
}

func (s *shard) waiting() int { return len(s.queue) - s.first }

func (s *shard) enqueue(q queued) {
	if s.first > 1024 && s.first > len(s.queue)/2 {
		s.queue = s.queue[:copy(s.queue, s.queue[s.first:])]
		s.first = 0
	}
	s.queue = append(s.queue, q)
}

// dequeue removes and returns the request that is served next.
func (s *shard) dequeue(last bool) queued {
	if last {
		q := s.queue[len(s.queue)-1]
		s.queue = s.queue[:len(s.queue)-1]
		return q
	}
	s.first++
	return s.queue[s.first-1]
}

// receive serves, queues or refuses a request.
func (m *model) receive(e event) {
	i := 0
	if n := len(m.backend.shards); n > 1 {
		i = m.backend.random.IntN(n)
	}
	s := &m.backend.shards[i]
	q := queued{e.op, e.turn}
	switch {
	case s.silent:
	case s.closed:
		m.reply(q, refused)
	case s.down:
		m.reply(q, unavailable)
	case s.failing > 0 && m.backend.random.Float64() < s.failing:
		m.reply(q, failed)
	case !s.admit(m.now):
		m.reply(q, throttled)
	case s.busy < s.workers:
		m.start(i, q)
	case s.waiting() >= s.places:
		m.reply(q, unavailable)
	default:
		s.enqueue(q)
	}
}

// start has a worker of shard i serve q.
func (m *model) start(i int, q queued) {
	s := &m.backend.shards[i]
	s.busy++
	took := m.backend.service(s)
	m.agenda.add(event{at: m.now + took, kind: done, op: q.op, turn: q.turn, took: took, shard: uint16(i)}) //nolint:gosec // fewer shards than workers
}

// finish ends the service of a request.
func (m *model) finish(e event) {
	i := int(e.shard)
	s := &m.backend.shards[i]
	s.busy--
	q := queued{e.op, e.turn}
	m.recorder.worked(m.now, e.took, m.gone(q))
	m.reply(q, succeeded)
	m.serve(i)
}

// serve has idle workers of shard i serve queued requests.
func (m *model) serve(i int) {
	s := &m.backend.shards[i]
	for s.busy < s.workers && s.waiting() > 0 {
		q := s.dequeue(m.backend.config.LastInFirstOut)
		if !m.backend.config.SkipsAbandoned || !m.gone(q) {
			m.start(i, q)
		}
	}
}

// crash loses all requests in shard i. Their clients notice at once.
func (m *model) crash(i int) {
	s := &m.backend.shards[i]
	lost := s.queue[s.first:]
	s.queue, s.first, s.busy = nil, 0, 0
	for j := range m.agenda.heap {
		if e := &m.agenda.heap[j]; e.kind == done && int(e.shard) == i {
			e.kind = void
			lost = append(lost, queued{e.op, e.turn})
		}
	}
	for _, q := range lost {
		m.reply(q, refused)
	}
}

// gone reports whether the client of a request has given up.
func (m *model) gone(q queued) bool { return m.clients.operations[q.op].turn != q.turn }

// reply sends the response to q.
func (m *model) reply(q queued, a outcome) {
	e := event{at: m.now + m.backend.delay/2, kind: response, op: q.op, turn: q.turn, outcome: a}
	if m.backend.delay > 0 {
		m.agenda.add(e)
	} else {
		m.respond(e)
	}
}
