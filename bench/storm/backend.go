package main

import (
	"bufio"
	"container/heap"
	"context"
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

// A backend is the service of a scenario: workers that sleep for the service time, and a queue. A worker takes the next
// request at the instant at which the previous one should have ended, so the capacity does not depend on late timers. The
// work on a request is done even if its client has left.
type backend struct {
	scenario sim.Scenario
	start    time.Time
	socket   string
	random   *rand.Rand
	wake     chan struct{} // the loop has to look at its timer

	mu       sync.Mutex // guards what follows
	listener net.Listener
	conns    map[net.Conn]bool
	queue    []waiting
	busy     jobs
	edges    []time.Duration // when faults begin or end, in order, from now on
	due      time.Duration   // when a throttle admits the next request
	late     histogram
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

// serve runs a backend until in ends, and then writes to out how late its timers were.
func serve(ctx context.Context, s spec, in io.Reader, out io.Writer) error {
	b := &backend{
		scenario: s.scenario(), start: s.Start, socket: s.Socket, random: rand.New(rand.NewPCG(s.Seed, 2)),
		wake: make(chan struct{}, 1), conns: map[net.Conn]bool{}, late: newHistogram(time.Millisecond),
	}
	for _, f := range b.scenario.Faults {
		b.edges = append(b.edges, f.From, f.To)
	}
	if err := b.listen(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	go b.loop(ctx)
	_, _ = io.WriteString(out, "ready\n")
	_, _ = io.Copy(io.Discard, in)
	cancel()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shut()
	return write(out, report{Late: b.late})
}

// listen opens the socket. b.mu is locked, or b is not shared yet.
func (b *backend) listen() error {
	if err := os.Remove(b.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", b.socket) //nolint:noctx // this waits for nothing
	if err != nil {
		return err
	}
	b.listener = l
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go b.receive(conn)
		}
	}()
	return nil
}

// shut closes the socket and all connections, and drops their requests. b.mu is locked.
func (b *backend) shut() {
	b.listener.Close()
	for conn := range b.conns {
		conn.Close()
	}
	b.queue, b.busy = nil, nil
}

// receive reads the requests of a connection.
func (b *backend) receive(conn net.Conn) {
	b.mu.Lock()
	b.conns[conn] = true
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.conns, conn)
		b.mu.Unlock()
		conn.Close()
	}()
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
func (b *backend) fault(at time.Duration) (f sim.Fault, on bool) {
	for _, f := range b.scenario.Faults {
		if at >= f.From && at < f.To {
			return f, true
		}
	}
	return sim.Fault{}, false
}

// workers returns the number of workers at an instant.
func (b *backend) workers(at time.Duration) int {
	if f, on := b.fault(at); on && f.Kind == sim.Brownout {
		return int(math.Round(f.Level * float64(b.scenario.Backend.Workers)))
	}
	return b.scenario.Backend.Workers
}

// take accepts or refuses an arriving request. b.mu is locked.
func (b *backend) take(w waiting) {
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
func (b *backend) admit(f sim.Fault, now time.Duration) bool {
	if b.due > now {
		return false
	}
	rate := f.Level * float64(b.scenario.Backend.Workers) / b.scenario.Backend.Service.Mean.Seconds()
	b.due = max(b.due, now-10*time.Millisecond) + time.Duration(float64(time.Second)/rate)
	return true
}

// begin starts the work on a request. b.mu is locked.
func (b *backend) begin(w waiting, at time.Duration) {
	took := time.Duration(float64(b.scenario.Backend.Service.Mean) * (0.5 + b.random.Float64()))
	heap.Push(&b.busy, job{w, took, at + took})
	if b.busy[0].number == w.number && b.busy[0].conn == w.conn {
		b.look()
	}
}

func (b *backend) look() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// advance processes all events until now. b.mu is locked.
func (b *backend) advance(now time.Duration) {
	for {
		at, ok := b.next()
		if !ok || at > now {
			return
		}
		b.late.add(now - at)
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
func (b *backend) next() (at time.Duration, ok bool) {
	if len(b.edges) > 0 {
		at, ok = b.edges[0], true
	}
	if len(b.busy) > 0 && (!ok || b.busy[0].end < at) {
		at, ok = b.busy[0].end, true
	}
	return at, ok
}

// change begins or ends a fault. b.mu is locked.
func (b *backend) change(at time.Duration) {
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
func (b *backend) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
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
