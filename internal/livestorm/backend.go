package livestorm

import (
	"bufio"
	"container/heap"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/sim"
)

// A Backend is the service of a scenario: workers that sleep for the service time, and a queue. A worker takes the next
// request at the instant at which the previous one should have ended, so the capacity does not depend on late timers. The
// work on a request is done even if its client has left.
type Backend struct {
	scenario sim.Scenario
	start    time.Time
	socket   string
	random   *rand.Rand
	late     func(time.Duration)
	wake     chan struct{} // the loop has to look at its timer
	stop     chan struct{}
	running  sync.WaitGroup

	mu       sync.Mutex // guards what follows
	closed   bool
	listener net.Listener // nil during a crash
	conns    map[net.Conn]bool
	queue    []waiting
	busy     jobs
	edges    []time.Duration // when faults begin or end, in order, from now on
	due      time.Duration   // when a throttle admits the next request
}

// A waiting request has not been taken by a worker.
type waiting struct {
	conn    net.Conn
	number  uint64
	arrived time.Duration
}

// A job is a request in service.
type job struct {
	waiting

	took, end time.Duration
}

// jobs is a heap, by end.
type jobs []job

func (j jobs) Len() int           { return len(j) }
func (j jobs) Less(a, b int) bool { return j[a].end < j[b].end }
func (j jobs) Swap(a, b int)      { j[a], j[b] = j[b], j[a] }
func (j *jobs) Push(x any)        { *j = append(*j, x.(job)) } //nolint:errcheck,forcetypeassert // nothing else is pushed
func (j *jobs) Pop() any {
	last := len(*j) - 1
	x := (*j)[last]
	*j = (*j)[:last]
	return x
}

// Start starts the backend of s on a Unix socket. The scenario begins at start. If late is not nil, the Backend calls it
// with how late each of its timers was, never twice at the same time. Close ends the Backend.
func Start(s sim.Scenario, start time.Time, socket string, seed uint64, late func(time.Duration)) (*Backend, error) {
	if late == nil {
		late = func(time.Duration) {}
	}
	b := &Backend{
		scenario: s, start: start, socket: socket, random: rand.New(rand.NewPCG(seed, 2)), late: late,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), conns: map[net.Conn]bool{},
	}
	for _, f := range s.Faults {
		b.edges = append(b.edges, f.From, f.To)
	}
	if err := b.listen(); err != nil {
		return nil, err
	}
	b.running.Go(b.loop)
	return b, nil
}

// Close drops all requests and connections.
func (b *Backend) Close() {
	close(b.stop)
	b.mu.Lock()
	b.closed = true
	b.shut()
	b.mu.Unlock()
	b.running.Wait()
}

// listen opens the socket. b.mu is locked, or b is not shared yet.
func (b *Backend) listen() error {
	if err := os.Remove(b.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", b.socket) //nolint:noctx // this waits for nothing
	if err != nil {
		return err
	}
	b.listener = l
	b.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b.running.Go(func() { b.receive(l, conn) })
		}
	})
	return nil
}

// shut closes the socket and all connections, and drops their requests. b.mu is locked.
func (b *Backend) shut() {
	if b.listener != nil {
		b.listener.Close()
	}
	for conn := range b.conns {
		conn.Close()
	}
	b.listener, b.queue, b.busy = nil, nil, nil
}

// receive reads the requests of a connection that l has accepted.
func (b *Backend) receive(l net.Listener, conn net.Conn) {
	b.mu.Lock()
	shut := b.listener != l
	b.conns[conn] = !shut
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.conns, conn)
		b.mu.Unlock()
		conn.Close()
	}()
	if shut {
		return
	}
	buffered := bufio.NewReader(conn)
	var request [requestSize]byte
	for {
		if _, err := io.ReadFull(buffered, request[:]); err != nil {
			return
		}
		number, _ := decode(append(request[:], make([]byte, responseSize-requestSize)...))
		b.mu.Lock()
		now := time.Since(b.start)
		b.advance(now)
		b.take(waiting{conn, number, now})
		b.mu.Unlock()
	}
}

// fault returns the fault at an instant, the zero Fault without one.
func (b *Backend) fault(at time.Duration) (f sim.Fault, on bool) {
	for _, f := range b.scenario.Faults {
		if at >= f.From && at < f.To {
			return f, true
		}
	}
	return sim.Fault{}, false
}

// workers returns the number of workers at an instant.
func (b *Backend) workers(at time.Duration) int {
	if f, on := b.fault(at); on && f.Kind == sim.Brownout {
		return int(math.Round(f.Level * float64(b.scenario.Backend.Workers)))
	}
	return b.scenario.Backend.Workers
}

// take accepts or refuses an arriving request. b.mu is locked.
func (b *Backend) take(w waiting) {
	f, on := b.fault(w.arrived)
	switch {
	case on && f.Kind == sim.Outage:
		w.reply(response{status: 503})
	case on && f.Kind == sim.Errors && b.random.Float64() < f.Level:
		w.reply(response{status: 500})
	case on && f.Kind == sim.Throttle && !b.admit(f, w.arrived):
		w.reply(response{status: 429, retryAfter: f.RetryAfter})
	case len(b.busy) < b.workers(w.arrived):
		b.begin(w, w.arrived)
	case len(b.queue) >= b.scenario.Backend.Queue:
		w.reply(response{status: 503})
	default:
		b.queue = append(b.queue, w)
	}
}

// admit reports whether a throttle admits a request: at an even rate, and up to 10 ms' worth at once after a pause.
func (b *Backend) admit(f sim.Fault, now time.Duration) bool {
	if b.due > now {
		return false
	}
	rate := f.Level * float64(b.scenario.Backend.Workers) / b.scenario.Backend.Service.Mean.Seconds()
	b.due = max(b.due, now-10*time.Millisecond) + time.Duration(float64(time.Second)/rate)
	return true
}

// begin starts the work on a request. b.mu is locked.
func (b *Backend) begin(w waiting, at time.Duration) {
	took := time.Duration(float64(b.scenario.Backend.Service.Mean) * (0.5 + b.random.Float64()))
	heap.Push(&b.busy, job{w, took, at + took})
	if b.busy[0].number == w.number && b.busy[0].conn == w.conn {
		b.look()
	}
}

func (b *Backend) look() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// advance processes all events until now. b.mu is locked.
func (b *Backend) advance(now time.Duration) {
	for {
		at, ok := b.next()
		if !ok || at > now || b.closed {
			return
		}
		b.late(now - at)
		if len(b.edges) > 0 && b.edges[0] == at {
			b.edges = b.edges[1:]
			b.change(at)
		} else {
			done := heap.Pop(&b.busy).(job) //nolint:errcheck,forcetypeassert // nothing else was pushed
			done.reply(response{status: 200, took: done.took})
		}
		for len(b.queue) > 0 && len(b.busy) < b.workers(at) {
			w := b.queue[0]
			b.queue = b.queue[1:]
			b.begin(w, at)
		}
	}
}

// next returns the instant of the next event. b.mu is locked.
func (b *Backend) next() (at time.Duration, ok bool) {
	if len(b.edges) > 0 {
		at, ok = b.edges[0], true
	}
	if len(b.busy) > 0 && (!ok || b.busy[0].end < at) {
		at, ok = b.busy[0].end, true
	}
	return at, ok
}

// change begins or ends a fault. b.mu is locked.
func (b *Backend) change(at time.Duration) {
	for _, f := range b.scenario.Faults {
		switch {
		case f.Kind != sim.Crash:
		case f.From == at:
			b.shut()
		case f.To == at:
			if err := b.listen(); err != nil {
				panic(err) // somebody has taken the directory away
			}
		}
	}
}

// loop calls advance at each event.
func (b *Backend) loop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-b.wake:
		case <-timer.C:
		}
		b.mu.Lock()
		b.advance(time.Since(b.start))
		if at, ok := b.next(); ok {
			timer.Reset(at - time.Since(b.start))
		}
		b.mu.Unlock()
	}
}

// reply sends the response, unless the client has left.
func (w waiting) reply(r response) { _, _ = w.conn.Write(r.encode(w.number)) }
