//go:build integration

package redisstore_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	inner "github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// A watch measures how long calls of a breaker take on their own goroutine,
// all the while; and, to know what is the machine's doing, those of a breaker
// that asks no server.
type watch struct {
	stop        chan struct{}
	done        sync.WaitGroup
	mu          sync.Mutex
	most, alone time.Duration // the slowest call
	n           int
}

// watchCalls has a breaker of its own, on each store, called all the time, with
// results that make it go through all its states.
func watchCalls(t *testing.T, stores ...*redisstore.Store) *watch {
	t.Helper()
	w := &watch{stop: make(chan struct{})}
	w.done.Go(func() { w.call(new(circuit.Memory), &w.alone) })
	for _, s := range stores {
		w.done.Go(func() { w.call(s, &w.most) })
	}
	t.Cleanup(func() { w.end(t) })
	return w
}

func (w *watch) call(store circuit.Store, most *time.Duration) {
	b := circuit.New("watched", circuit.Config{
		Store: store, FailureThreshold: 2, RecoveryTimeout: 20 * time.Millisecond,
		Observe: func(context.Context, circuit.Transition) {},
	})
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for i := 0; ; i++ {
		select {
		case <-w.stop:
			return
		case <-pace.C:
		}
		began := time.Now()
		p, err := b.Acquire()
		if err == nil && i/16%2 == 0 {
			p.Failure()
		} else if err == nil {
			p.Success()
		}
		took := time.Since(began)
		w.mu.Lock()
		*most, w.n = max(*most, took), w.n+1
		w.mu.Unlock()
	}
}

// end stops and judges: a call that waited for the network would have taken
// half a second at least.
func (w *watch) end(t *testing.T) {
	t.Helper()
	select {
	case <-w.stop:
		return
	default:
	}
	close(w.stop)
	w.done.Wait()
	t.Logf("%d calls, the slowest took %v, and %v without a server", w.n, w.most, w.alone)
	if w.most > 400*time.Millisecond+w.alone {
		t.Errorf("a call took %v, and %v without a server: it waited for one", w.most, w.alone)
	}
}

// agree makes sure that the fleet is one: what one node sets arrives at the other.
func agree(t *testing.T, f []member, what string) {
	t.Helper()
	eventually(t, func() bool { return f[0].Err() == nil && f[1].Err() == nil }, "%s: connected", what)
	f[0].Isolate()
	eventually(t, func() bool { return f[1].State() == circuit.Isolated }, "%s: isolated", what)
	f[0].Breaker.Reset()
	eventually(t, func() bool { return f[1].State() == circuit.Closed }, "%s: reset", what)
}

// converges measures how long after healing the other node learns what the
// first one has found out while they could not talk.
func converges(t *testing.T, f []member, what string, heal func()) {
	t.Helper()
	f[0].Trip() // nobody can be told yet
	if f[1].State() != circuit.Closed {
		t.Fatalf("%s: told through a server that is away", what)
	}
	heal()
	took := eventually(t, func() bool { return f[1].State() == circuit.Open }, "%s: converged", what)
	t.Logf("%s: converged %v after healing", what, took)
	f[1].Breaker.Reset()
	eventually(t, func() bool { return f[0].State() == circuit.Closed }, "%s: reset", what)
}

// alone waits until stores have given up their server.
func alone(t *testing.T, stores ...*redisstore.Store) {
	t.Helper()
	for _, s := range stores {
		eventually(t, func() bool { return s.Err() != nil }, "the server is given up")
	}
}

func pass(d time.Duration) { <-time.After(d) }

// The default times, a server that is stopped, killed, and empty afterwards,
// and a road that is slow or cut.
func TestFaults(t *testing.T) {
	warnings := logged(t)
	srv := startServer(t)
	road := startProxy(t, srv.addr())
	o := redisstore.Options{URL: strings.Replace(road.url(), "user:hunter2@", "", 1), Quorum: 1}
	f := fleet(t, 2, o, circuit.Config{FailureThreshold: 3, RecoveryTimeout: time.Minute})
	watchCalls(t, f[0].Store, f[1].Store)
	agree(t, f, "at first")

	srv.signal(stop)
	alone(t, f[0].Store, f[1].Store)
	converges(t, f, "stopped and continued", func() { srv.signal(resume) })

	srv.kill()
	alone(t, f[0].Store, f[1].Store)
	converges(t, f, "killed and started again, empty", srv.start)

	road.set(0, true)
	alone(t, f[0].Store, f[1].Store)
	converges(t, f, "road cut", func() { road.set(0, false) })

	road.set(250*time.Millisecond, false) // 500ms a round trip
	agree(t, f, "slow road")
	for _, m := range f {
		if m.Err() != nil {
			t.Errorf("a slow road is none: %v", m.Err())
		}
	}
	road.set(0, false)

	text := warnings()
	if n := strings.Count(text, "level=WARN"); n > 2*2 {
		t.Errorf("%d warnings of two stores in one minute:\n%s", n, text)
	}
}

// One node is cut off and the others are not: it goes its own way, and is told
// when it is back.
func TestOneCutOff(t *testing.T) {
	srv := startServer(t)
	road := startProxy(t, srv.addr())
	c := circuit.Config{FailureThreshold: 1, RecoveryTimeout: time.Minute, Observe: func(context.Context, circuit.Transition) {}}
	f := fleet(t, 1, redisstore.Options{URL: srv.url(), Quorum: 1}, c)
	far := open(t, redisstore.Options{URL: "redis://" + road.listener.Addr().String(), Quorum: 1, Node: "far"})
	c.Store = far
	f = append(f, member{far, circuit.New("backend", c)})
	c.RecoveryTimeout = 10 * time.Millisecond
	own := circuit.New("own", c)
	ready(t, far)
	watchCalls(t, far)
	agree(t, f, "at first")
	road.set(0, true)
	fail(t, f[0].Breaker, 1)
	alone(t, far)
	if f[1].State() != circuit.Closed {
		t.Errorf("cut off, it is %v", f[1].State())
	}
	for range 3 {
		fail(t, own, 1)
		awaitProbe(t, own).Success()
	}
	road.set(0, false)
	took := eventually(t, func() bool { return f[1].State() == circuit.Open }, "it is told")
	t.Logf("told %v after healing", took)
}

// What the fleet had agreed on outlives a server that forgets.
func TestServerForgets(t *testing.T) {
	srv := startServer(t)
	f := fleet(t, 3, redisstore.Options{URL: srv.url()}, circuit.Config{FailureThreshold: 1, RecoveryTimeout: time.Minute})
	fail(t, f[0].Breaker, 1)
	fail(t, f[1].Breaker, 1)
	eventually(t, func() bool { return f[2].State() == circuit.Open }, "the fleet opens")
	until := inner.Peek(f[2].Breaker).RetryAt
	srv.kill()
	srv.start()
	late := fleetOf(t, srv, "late")
	took := eventually(t, func() bool { return late.State() == circuit.Open }, "a process that comes later learns it")
	t.Logf("told again after %v", took)
	if d := inner.Peek(late.Breaker).RetryAt.Sub(until); d.Abs() > time.Second {
		t.Errorf("the first probe has moved by %v", d)
	}
	for _, m := range f {
		if m.State() != circuit.Open {
			t.Errorf("a node is %v", m.State())
		}
	}
}

func fleetOf(t *testing.T, srv *server, node string) member {
	t.Helper()
	m := member{Store: open(t, redisstore.Options{URL: srv.url(), Node: node})}
	m.Breaker = circuit.New("backend", circuit.Config{
		Store: m.Store, FailureThreshold: 1, RecoveryTimeout: time.Minute, Observe: func(context.Context, circuit.Transition) {},
	})
	return m
}

// A server that accepts and never says a word: calls go on by themselves, with
// one warning that shows no password.
func TestSilentServer(t *testing.T) {
	warnings := logged(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := open(t, redisstore.Options{URL: "redis://user:hunter2@" + l.Addr().String() + "/3", Sync: 100 * time.Millisecond})
	w := watchCalls(t, s)
	b := circuit.New("backend", circuit.Config{Store: s, FailureThreshold: 1, RecoveryTimeout: 10 * time.Millisecond})
	eventually(t, func() bool { return s.Err() != nil }, "noticed")
	for range 3 { // alone, each goes its own way
		fail(t, b, 1)
		awaitProbe(t, b).Success()
	}
	pass(time.Second)
	w.end(t)
	text := warnings()
	if n := strings.Count(text, "not shared with the fleet"); n != 1 {
		t.Errorf("%d warnings, want 1:\n%s", n, text)
	}
	if strings.Contains(text+s.Err().Error(), "hunter2") {
		t.Errorf("a password is shown: %s\n%v", text, s.Err())
	}
}
