//go:build integration

package redisstore_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	inner "github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// A watch calls a breaker of its own on each of some stores all the time, with results
// that lead the breaker through all its states.
type watch struct{ calls []*atomic.Int64 }

func watchCalls(t *testing.T, stores ...*redisstore.Store) *watch {
	t.Helper()
	w, callers := new(watch), sync.WaitGroup{}
	ctx, stop := context.WithCancel(t.Context())
	for _, s := range stores {
		n := new(atomic.Int64)
		w.calls = append(w.calls, n)
		callers.Go(func() { callAll(ctx, s, n) })
	}
	t.Cleanup(func() { stop(); callers.Wait() })
	return w
}

func callAll(ctx context.Context, store circuit.Store, calls *atomic.Int64) {
	b := circuit.New("watched", circuit.Config{
		Store: store, FailureThreshold: 2, RecoveryTimeout: 20 * time.Millisecond,
		Observe: func(context.Context, circuit.Transition) {},
	})
	servertest.Repeat(ctx, func() {
		p, err := b.Acquire()
		if i := calls.Add(1); err == nil && i/16%2 == 0 {
			p.Failure()
		} else if err == nil {
			p.Success()
		}
	})
}

// proceeds waits for a thousand calls of each breaker, while the server is unreachable.
// If the calls that open, probe or close it waited for the server, each for a second and
// a half, the test would fail by its limit.
func (w *watch) proceeds(t *testing.T, what string) {
	t.Helper()
	for _, n := range w.calls {
		before := n.Load()
		took := eventually(t, func() bool { return n.Load() > before+1000 }, "%s: a thousand calls", what)
		t.Logf("%s: a thousand calls in %v", what, took)
	}
}

// agree checks that the members share a breaker: an override of one reaches the other.
func agree(t *testing.T, f []member, what string) {
	t.Helper()
	eventually(t, func() bool { return f[0].Err() == nil && f[1].Err() == nil }, "%s: connected", what)
	f[0].Isolate()
	eventually(t, func() bool { return f[1].State() == circuit.Isolated }, "%s: isolated", what)
	f[0].Breaker.Reset()
	eventually(t, func() bool { return f[1].State() == circuit.Closed }, "%s: reset", what)
}

// converges measures how long after healing the other node applies a trip from before it.
func converges(t *testing.T, f []member, what string, heal func()) {
	t.Helper()
	f[0].Trip() // it cannot be reported yet
	if f[1].State() != circuit.Closed {
		t.Fatalf("%s: reported through a server that is unreachable", what)
	}
	heal()
	took := eventually(t, func() bool { return f[1].State() == circuit.Open }, "%s: converged", what)
	t.Logf("%s: converged %v after healing", what, took)
	f[1].Breaker.Reset()
	eventually(t, func() bool { return f[0].State() == circuit.Closed }, "%s: reset", what)
}

// alone waits until the stores decide alone.
func alone(t *testing.T, stores ...*redisstore.Store) {
	t.Helper()
	for _, s := range stores {
		eventually(t, func() bool { return s.Err() != nil }, "the store decides alone")
	}
}

// The default times, a server that is stopped, killed, and empty afterwards,
// and a road that is slow or cut.
func TestFaults(t *testing.T) {
	warnings := logged(t)
	srv := startServer(t)
	road := startProxy(t, srv.addr())
	o := redisstore.Options{URL: strings.Replace(road.url(), "user:hunter2@", "", 1), Quorum: 1}
	f := fleet(t, 2, o, circuit.Config{FailureThreshold: 3, RecoveryTimeout: time.Minute})
	w, began := watchCalls(t, f[0].Store, f[1].Store), time.Now()
	agree(t, f, "at first")

	srv.signal(stop)
	w.proceeds(t, "stopped")
	alone(t, f[0].Store, f[1].Store)
	converges(t, f, "stopped and continued", func() { srv.signal(resume) })

	srv.kill()
	w.proceeds(t, "killed")
	alone(t, f[0].Store, f[1].Store)
	converges(t, f, "killed and started again, empty", srv.start)

	road.set(0, true)
	w.proceeds(t, "road cut")
	alone(t, f[0].Store, f[1].Store)
	converges(t, f, "road cut", func() { road.set(0, false) })

	road.set(100*time.Millisecond, false) // 200ms a round trip
	agree(t, f, "slow road")
	for _, m := range f {
		if m.Err() != nil {
			t.Errorf("a slow road counts as cut: %v", m.Err())
		}
	}
	road.set(0, false)

	text := warnings()
	if n, took := strings.Count(text, "level=WARN"), time.Since(began); n > 2*(2+int(took/time.Minute)) {
		t.Errorf("%d warnings of two stores in %v:\n%s", n, took, text)
	}
}

// A node that is cut off decides alone, and applies the fleet's state when it is
// connected again.
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
	w := watchCalls(t, far)
	agree(t, f, "at first")
	road.set(0, true)
	w.proceeds(t, "cut off")
	fail(t, f[0].Breaker)
	alone(t, far)
	if f[1].State() != circuit.Closed {
		t.Errorf("a node that is cut off is %v", f[1].State())
	}
	for range 3 {
		fail(t, own)
		awaitProbe(t, own).Success()
	}
	road.set(0, false)
	took := eventually(t, func() bool { return f[1].State() == circuit.Open }, "it applies the fleet's state")
	t.Logf("applied %v after healing", took)
}

// The fleet's state outlives a server that loses its data.
func TestServerForgets(t *testing.T) {
	srv := startServer(t)
	f := fleet(t, 3, redisstore.Options{URL: srv.url()}, circuit.Config{FailureThreshold: 1, RecoveryTimeout: time.Minute})
	fail(t, f[0].Breaker)
	fail(t, f[1].Breaker)
	eventually(t, func() bool { return f[2].State() == circuit.Open }, "the fleet opens")
	until := inner.Peek(f[2].Breaker).RetryAt
	srv.kill()
	srv.start()
	late := fleetOf(t, srv, "late")
	took := eventually(t, func() bool { return late.State() == circuit.Open }, "a later process gets the state")
	t.Logf("restored after %v", took)
	if d := inner.Peek(late.Breaker).RetryAt.Sub(until); d.Abs() > 10*time.Second {
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

// A server that accepts connections and never responds: calls continue, with one warning
// that shows no password.
func TestSilentServer(t *testing.T) {
	warnings := logged(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var tries atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			tries.Add(1)
		}
	}()
	defer l.Close()
	s := open(t, redisstore.Options{URL: "redis://user:hunter2@" + l.Addr().String() + "/3"})
	w := watchCalls(t, s)
	b := circuit.New("backend", circuit.Config{Store: s, FailureThreshold: 1, RecoveryTimeout: 10 * time.Millisecond})
	eventually(t, func() bool { return s.Err() != nil }, "noticed")
	for range 3 { // each process decides alone
		fail(t, b)
		awaitProbe(t, b).Success()
	}
	w.proceeds(t, "silent")
	tried := tries.Load()
	eventually(t, func() bool { return tries.Load() > tried+2 }, "the server is tried again")
	text := warnings()
	if n := strings.Count(text, "not shared with the fleet"); n != 1 {
		t.Errorf("%d warnings, want 1:\n%s", n, text)
	}
	if strings.Contains(text+s.Err().Error(), "hunter2") {
		t.Errorf("a password is shown: %s\n%v", text, s.Err())
	}
}
