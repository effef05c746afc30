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

// A site is a host with short-lived processes that share a file.
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

// process runs do, if it is not nil, in a process of the host, and returns the state of
// the breaker after it. A process that is cut off cannot reach the server; any other
// ends after the server has the state.
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

// live runs do in a process of the host.
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

// later waits until the next override counts as later than those before it: within
// Stale, the last to arrive at the server wins.
func (h site) later() {
	h.t.Helper()
	began := time.Now()
	eventually(h.t, func() bool { return time.Since(began) > brisk(h.srv).Stale }, "later")
}

// known waits until the fleet is in that state at the server.
func (h site) known(state circuit.State) {
	h.t.Helper()
	eventually(h.t, func() bool {
		seen, err := redisstore.Inspect(h.t.Context(), brisk(h.srv), []string{"backend"})
		return err == nil && seen["backend"].State == state
	}, "the fleet is %v", state)
}

// want waits, in a process of the host, until its breaker and the fleet are in that
// state.
func (h site) want(state circuit.State, what string) {
	h.t.Helper()
	h.live(false, func(m member) {
		h.t.Helper()
		eventually(h.t, func() bool { return m.State() == state }, "%s: host %s is %v", what, h.node, state)
		h.known(state)
		if got := m.State(); got != state {
			h.t.Errorf("%s: host %s is %v in the end, want %v", what, h.node, got, state)
		}
	})
}

func isolate(m member) { m.Isolate() }

// reset resets as the command does.
func reset(m member) { m.Breaker.Reset(); m.Store.Reset("backend") }

// An override on one host reaches processes that start later on other hosts, which had
// an override of their own before.
func TestOverrideReachesOtherHosts(t *testing.T) {
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

// An override on a host that cannot reach the server counts on that host, and in the
// fleet once a process of the host can report it, unless a later override was set.
func TestOverrideWhileCutOff(t *testing.T) {
	a, b := sites(t)
	b.want(circuit.Closed, "at first")
	if got := a.process(true, isolate); got != circuit.Isolated {
		t.Errorf("isolated while cut off: %v", got)
	}
	b.want(circuit.Closed, "isolated on a, which cannot report it")
	a.want(circuit.Isolated, "isolated on a, which can report it now")
	b.want(circuit.Isolated, "isolated on a, which has reported it")

	if got := a.process(true, reset); got != circuit.Closed {
		t.Errorf("reset while cut off: %v", got)
	}
	a.want(circuit.Closed, "reset on a, which can report it now")
	b.want(circuit.Closed, "reset on a, which has reported it")

	a.process(true, isolate)
	b.process(false, isolate)
	b.process(false, reset)
	a.want(circuit.Closed, "isolated on a, which was cut off, and reset on b since")
	b.want(circuit.Closed, "isolated on a, which was cut off, and reset on b since")
}

// A reset undoes only what was before it: what happens after it remains, and a server
// that has lost its data restores nothing.
func TestOverrideIsReplacedOnce(t *testing.T) {
	a, b := sites(t)
	a.process(false, isolate)
	b.process(false, reset)
	awake := fleet(t, 1, redisstore.Options{URL: b.srv.url(), Sync: time.Minute}, circuit.Config{}) // a alone is no majority
	a.live(false, func(m member) { fail(t, m.Breaker) })
	a.live(false, func(m member) {
		if got := m.State(); got != circuit.Open {
			t.Errorf("a breaker that opened after the reset is %v", got)
		}
	})
	if got := awake[0].State(); got != circuit.Closed {
		t.Errorf("one node has opened the fleet: %v", got)
	}
	awake[0].Close()
	a.process(false, reset)
	b.srv.kill()
	b.srv.start()
	b.want(circuit.Closed, "the server has lost its data")
	a.want(circuit.Closed, "the server has lost its data")
	b.process(false, isolate)
	a.want(circuit.Isolated, "isolated on b, after the server lost its data")
	local := hoststore.Open(a.path)
	defer local.Close()
	cell.Unseal(local).Cell("backend", cell.Client{}).Load().SetOverride(time.Now().Add(time.Hour), uint8(circuit.Isolated))
	a.process(false, nil)
	b.process(false, reset)
	a.want(circuit.Closed, "isolated on a by a clock that was set back since, and reset on b")
}

// The response to an override arrives after the next override. It used to undo the next
// one, about once in some thousand times.
func TestOverridesInQuickSuccession(t *testing.T) {
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

// An isolation that the server has lost is restored with the instant at which it was set.
// It used to count as a new one, and to undo a later reset that was not reported yet.
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
	a.known(circuit.Isolated) // the isolation is restored
	b.want(circuit.Closed, "reset on b, which was cut off, and is connected again")
	eventually(t, func() bool { return awake.State() == circuit.Closed }, "a is reset")
}

// A process that sets an override is killed before the response, and the next process
// takes the override for a remote one. It used to be lost when the server lost its data.
func TestOverrideOutlivesItsProcessAndTheServer(t *testing.T) {
	a, b := sites(t)
	a.process(false, isolate)
	local := hoststore.Open(a.path)
	defer local.Close()
	cell.Unseal(local).Cell("backend", cell.Client{}).Load().SeenOverride.Store(0) // as before the response
	a.want(circuit.Isolated, "an override of the same host")
	a.srv.kill()
	a.srv.start()
	a.want(circuit.Isolated, "the server has lost its data")
	b.want(circuit.Isolated, "a has restored it")
	b.process(false, reset)
	a.want(circuit.Closed, "reset on b")
}

// A delayed is a Store that receives a transition only when released.
type delayed struct {
	cell.Store

	changed chan bool // signals a transition
	release chan bool
}

func (d *delayed) Transitioned(name string, c cell.Change) {
	d.changed <- true
	<-d.release
	d.Store.Transitioned(name, c)
}

// An override is reported a moment after the breaker is in its state. A remote state that
// arrived in between used to undo the override.
func TestOverrideWhileARemoteStateArrives(t *testing.T) {
	srv := startServer(t)
	other := fleet(t, 1, redisstore.Options{URL: srv.url()}, circuit.Config{})[0]
	o := steady(srv)
	o.Node = "mine"
	store := open(t, o)
	d := &delayed{Store: cell.Unseal(store), changed: make(chan bool), release: make(chan bool)}
	hidden := cell.Hide(d)
	mine := circuit.New("backend", circuit.Config{Store: &hidden, RecoveryTimeout: time.Hour, Observe: func(context.Context, circuit.Transition) {}})
	ready(t, store)
	go mine.Isolate()
	<-d.changed // it is isolated, and this is not reported yet
	client := srv.client()
	other.Trip()
	known := func(s circuit.State) {
		t.Helper()
		eventually(t, func() bool { st, _ := store.Status("backend"); return st.State == s }, "the fleet is %v", s)
	}
	known(circuit.Open)
	other.Breaker.Reset()
	known(circuit.Closed)
	before, _ := scriptsRun(t, client)
	eventually(t, func() bool { n, _ := scriptsRun(t, client); return n > before+10 }, "the server is read a few times")
	if mine.State() != circuit.Isolated {
		t.Errorf("before its override is reported, the breaker is %v", mine.State())
	}
	close(d.release)
	eventually(t, func() bool { return other.State() == circuit.Isolated }, "the override is reported")
	eventually(t, func() bool { return mine.State() == circuit.Isolated }, "the breaker is still isolated")
}
