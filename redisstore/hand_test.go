package redisstore_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// A site is a host whose processes live for a moment and share a file.
type site struct {
	t    *testing.T
	srv  *server
	path string
	node string
}

// sites returns two hosts that share a server.
func sites(t *testing.T) (a, b site) {
	t.Helper()
	srv := startServer(t)
	return site{t, srv, filepath.Join(t.TempDir(), "cells"), "a"}, site{t, srv, filepath.Join(t.TempDir(), "cells"), "b"}
}

// process has a process of the host do that, which may be nothing, and returns in
// which state it leaves the breaker. One that is cut off cannot reach the server.
// Else the server has been told when it ends.
func (h site) process(cutOff bool, do func(m member)) (state circuit.State) {
	h.t.Helper()
	h.live(cutOff, func(m member) {
		if cutOff {
			h.later()
		}
		if do != nil {
			do(m)
		}
		state = m.State()
		if !cutOff {
			h.known(state)
		}
	})
	return state
}

// live has a process of the host live for as long as that takes.
func (h site) live(cutOff bool, do func(m member)) {
	h.t.Helper()
	o := brisk(h.srv)
	if cutOff {
		o.URL = "redis://127.0.0.1:1"
	}
	o.Node, o.Quorum = h.node, 2
	local := hoststore.Open(h.path)
	defer local.Close()
	o.Local = local
	m := member{Store: open(h.t, o)}
	m.Breaker = circuit.New("backend", circuit.Config{
		Store: m.Store, FailureThreshold: 1, RecoveryTimeout: time.Minute, Observe: func(context.Context, circuit.Transition) {},
	})
	if !cutOff {
		ready(h.t, m.Store)
		defer m.Close()
	}
	do(m)
}

// later waits until what is set is set later, for all, than what the server has
// been told so far: within Stale, the last to arrive is the last.
func (h site) later() {
	h.t.Helper()
	began := time.Now()
	eventually(h.t, func() bool { return time.Since(began) > brisk(h.srv).Stale }, "later")
}

// known waits until the server says that the fleet is in that state.
func (h site) known(state circuit.State) {
	h.t.Helper()
	eventually(h.t, func() bool {
		seen, err := redisstore.Inspect(h.t.Context(), brisk(h.srv), []string{"backend"})
		return err == nil && seen["backend"].State == state
	}, "the fleet is %v", state)
}

// want has a process of the host wait until its breaker is in that state, and the
// server says the same of the fleet.
func (h site) want(state circuit.State, what string) {
	h.t.Helper()
	h.live(false, func(m member) {
		h.t.Helper()
		eventually(h.t, func() bool { return m.State() == state }, "%s: on host %s it is %v", what, h.node, state)
		h.known(state)
		if got := m.State(); got != state {
			h.t.Errorf("%s: on host %s it is %v in the end, want %v", what, h.node, got, state)
		}
	})
}

func isolate(m member) { m.Isolate() }

// reset is what the command does.
func reset(m member) { m.Breaker.Reset(); m.Store.Reset("backend") }

// What is set by hand on one host reaches processes that start later, on
// others, which have been told otherwise before.
func TestHandReachesOtherHosts(t *testing.T) {
	a, b := sites(t)
	a.process(false, isolate)
	b.want(circuit.Isolated, "isolated on a")
	b.process(false, reset)
	a.want(circuit.Closed, "reset on b")
	b.process(false, isolate)
	a.process(false, reset)
	b.want(circuit.Closed, "reset on a")
	a.process(false, isolate)
	a.process(false, reset)
	b.want(circuit.Closed, "isolated and reset while b slept")
}

// What is set on a host that cannot reach the server counts there, and for all
// once one of its processes can, unless something was set later.
func TestHandWhileCutOff(t *testing.T) {
	a, b := sites(t)
	b.want(circuit.Closed, "at first")
	if got := a.process(true, isolate); got != circuit.Isolated {
		t.Errorf("isolated while cut off: %v", got)
	}
	b.want(circuit.Closed, "isolated on a, which could not say so")
	a.want(circuit.Isolated, "isolated on a, which can say so now")
	b.want(circuit.Isolated, "isolated on a, which has said so")

	if got := a.process(true, reset); got != circuit.Closed {
		t.Errorf("reset while cut off: %v", got)
	}
	a.want(circuit.Closed, "reset on a, which can say so now")
	b.want(circuit.Closed, "reset on a, which has said so")

	a.process(true, isolate)
	b.process(false, isolate)
	b.process(false, reset)
	a.want(circuit.Closed, "isolated on a, which was cut off, and reset on b since")
	b.want(circuit.Closed, "isolated on a, which was cut off, and reset on b since")
}

// A reset is no more than that: what happens after it stands, and a server that
// has lost its memory brings nothing back.
func TestHandIsOverruledOnce(t *testing.T) {
	a, b := sites(t)
	a.process(false, isolate)
	b.process(false, reset)
	awake := fleet(t, 1, redisstore.Options{URL: b.srv.url(), Sync: time.Minute}, circuit.Config{}) // so that a has no majority
	a.live(false, func(m member) { fail(t, m.Breaker, 1) })
	a.live(false, func(m member) {
		if got := m.State(); got != circuit.Open {
			t.Errorf("it has opened by itself after the reset, and is %v", got)
		}
	})
	if got := awake[0].State(); got != circuit.Closed {
		t.Errorf("one node has opened the fleet: %v", got)
	}
	awake[0].Close()
	a.process(false, reset)
	b.srv.kill()
	b.srv.start()
	b.want(circuit.Closed, "the server has forgotten")
	a.want(circuit.Closed, "the server has forgotten")
	b.process(false, isolate)
	a.want(circuit.Isolated, "isolated on b, by a server that had forgotten")
	local := hoststore.Open(a.path)
	defer local.Close()
	cell.Unseal(local).Cell("backend", cell.Client{}).Load().SetOverride(time.Now().Add(time.Hour), uint8(circuit.Isolated))
	a.process(false, nil)
	b.process(false, reset)
	a.want(circuit.Closed, "isolated on a by a clock that has been put back since, and reset on b")
}

// What somebody sets by hand comes back to him as news, a moment later. It used
// to undo, about once in some thousand times, what he had set by then.
func TestHandsInQuickSuccession(t *testing.T) {
	srv := startServer(t)
	seen := make(chan circuit.State, 1)
	mine := fleet(t, 1, redisstore.Options{URL: srv.url()}, circuit.Config{})[0]
	other := open(t, redisstore.Options{URL: srv.url(), Node: "other"})
	circuit.New("backend", circuit.Config{Store: other, Observe: func(_ context.Context, c circuit.Transition) { seen <- c.To }})
	ready(t, other)
	for i := range 2000 {
		set, want := mine.Trip, circuit.Open
		if i%2 == 1 {
			set, want = mine.Breaker.Reset, circuit.Closed
		}
		set()
		if got := receive(t, seen, "change %d, to %v, arrives", i, want); got != want {
			t.Fatalf("change %d: the other is %v, want %v", i, got, want)
		}
	}
}

// What was isolated is told again to a server that has forgotten it, as of when
// that was set. It used to count as set anew, against a reset that came later and
// could not be told.
func TestResetOutlivesTheServer(t *testing.T) {
	a, b := sites(t)
	o := brisk(a.srv)
	o.Node = a.node
	awake := member{Store: open(t, o)}
	awake.Breaker = circuit.New("backend", circuit.Config{Store: awake.Store, Observe: func(context.Context, circuit.Transition) {}})
	ready(t, awake.Store)
	awake.Isolate()
	a.known(circuit.Isolated)
	b.process(true, reset)
	a.srv.kill()
	a.srv.start()
	a.known(circuit.Isolated) // it is told again
	b.want(circuit.Closed, "reset on b, which was cut off, and is back")
	eventually(t, func() bool { return awake.State() == circuit.Closed }, "it is reset on a")
}

// The process in which it is set is killed before it has its answer, and the next
// one hears of it as of news. It used to be forgotten when the server forgot it.
func TestHandOutlivesItsProcessAndTheServer(t *testing.T) {
	a, b := sites(t)
	a.process(false, isolate)
	local := hoststore.Open(a.path)
	defer local.Close()
	cell.Unseal(local).Cell("backend", cell.Client{}).Load().SeenOverride.Store(0) // as it was before the answer
	a.want(circuit.Isolated, "its own news")
	a.srv.kill()
	a.srv.start()
	a.want(circuit.Isolated, "the server has forgotten")
	b.want(circuit.Isolated, "a has told it again")
	b.process(false, reset)
	a.want(circuit.Closed, "reset on b")
}

// A deaf is a Store that is told of a change when it listens again.
type deaf struct {
	cell.Store

	changed chan bool // there is something to hear
	listen  chan bool
}

func (d *deaf) Transitioned(name string, c cell.Change) {
	d.changed <- true
	<-d.listen
	d.Store.Transitioned(name, c)
}

// What somebody sets by hand is not told at the instant at which it holds. What
// the fleet agrees on in between used to undo it, and then to be taken for undone.
func TestHandWhileAnOrderArrives(t *testing.T) {
	srv := startServer(t)
	other := fleet(t, 1, redisstore.Options{URL: srv.url()}, circuit.Config{})[0]
	o := steady(srv)
	o.Node = "mine"
	store := open(t, o)
	d := &deaf{Store: cell.Unseal(store), changed: make(chan bool), listen: make(chan bool)}
	hidden := cell.Hide(d)
	mine := circuit.New("backend", circuit.Config{Store: &hidden, RecoveryTimeout: time.Hour, Observe: func(context.Context, circuit.Transition) {}})
	ready(t, store)
	go mine.Isolate()
	<-d.changed // it is isolated, and this is not reported yet
	client := srv.client()
	other.Trip()
	known := func(s circuit.State) {
		t.Helper()
		eventually(t, func() bool { st, _ := store.Status("backend"); return st.State == s }, "%v elsewhere", s)
	}
	known(circuit.Open)
	other.Breaker.Reset()
	known(circuit.Closed)
	before, _ := scriptsRun(t, client)
	eventually(t, func() bool { n, _ := scriptsRun(t, client); return n > before+10 }, "the server is read a few times")
	if mine.State() != circuit.Isolated {
		t.Errorf("before it is told, it is %v", mine.State())
	}
	close(d.listen)
	eventually(t, func() bool { return other.State() == circuit.Isolated }, "it is told")
	eventually(t, func() bool { return mine.State() == circuit.Isolated }, "it is in it itself")
}
