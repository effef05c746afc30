package redisstore_test

import (
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
	inner "github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// brisk is a store that looks at its server often, so that tests are short.
func brisk(srv *server) redisstore.Options {
	return redisstore.Options{URL: srv.url(), Quorum: 1, Sync: 50 * time.Millisecond, Stale: 500 * time.Millisecond}
}

// steady is brisk, and never decides alone because the machine has much else to do.
func steady(srv *server) redisstore.Options {
	o := brisk(srv)
	o.Stale = patience
	return o
}

// unhurried is steady, and gives a process under load a second to extend its lease before a
// probe outlasts it.
func unhurried(srv *server) redisstore.Options {
	o := steady(srv)
	o.Sync = time.Second
	return o
}

// What one node finds, another respects; one probe, by one of them, closes both.
func TestTwoAgree(t *testing.T) {
	srv := startServer(t)
	o := redisstore.Options{URL: srv.url(), Quorum: 1, Stale: patience}
	f := fleet(t, 2, o, circuit.Config{FailureThreshold: 3, RecoveryTimeout: time.Second})
	a, b := f[0], f[1]
	opens(t, a)
	eventually(t, func() bool { return b.State() != circuit.Closed }, "the other opens")
	probe := awaitProbe(t, b.Breaker)
	if a.Allow() {
		t.Error("a second probe passes")
	}
	probe.Success()
	eventually(t, func() bool { return a.State() == circuit.Closed && b.State() == circuit.Closed }, "both close")
}

// awaitProbe calls until it is let pass, as the next calls of a program would be.
func awaitProbe(t *testing.T, b *circuit.Breaker) (probe circuit.Permit) {
	t.Helper()
	eventually(t, func() bool {
		p, err := b.Acquire()
		probe = p
		return err == nil && p.Probe()
	}, "a probe passes")
	return probe
}

// A change arrives at another process by push.
func TestPushLatency(t *testing.T) {
	srv := startServer(t)
	seen := make(chan time.Time, 1)
	f := fleet(t, 1, redisstore.Options{URL: srv.url()}, circuit.Config{})
	other := open(t, redisstore.Options{URL: srv.url(), Node: "other"})
	circuit.New("backend", circuit.Config{Store: other, Observe: func(context.Context, circuit.Transition) { seen <- time.Now() }})
	ready(t, other)
	var took []time.Duration
	for i := range 200 {
		began := time.Now()
		if i%2 == 0 {
			f[0].Trip()
		} else {
			f[0].Breaker.Reset()
		}
		took = append(took, receive(t, seen, "change %d arrives", i).Sub(began))
	}
	slices.Sort(took)
	t.Logf("from one process to another: p50 %v, p99 %v of %d changes", took[100], took[198], len(took))
}

// Calls that succeed send nothing; a transition takes at most two round trips.
func TestCommands(t *testing.T) {
	srv := startServer(t)
	f := fleet(t, 2, redisstore.Options{URL: srv.url(), Quorum: 1, Sync: time.Hour},
		circuit.Config{FailureThreshold: 3, RecoveryTimeout: 200 * time.Millisecond, Budget: 10})
	c := srv.client()
	_, before := scriptsRun(t, c)
	const calls = 1_000_000
	for range calls {
		p, err := f[0].Acquire()
		if err != nil {
			t.Fatal(err)
		}
		p.Success()
	}
	scripts, after := scriptsRun(t, c)
	t.Logf("%d calls that succeeded: %d commands", calls, after-before)
	if after != before {
		t.Errorf("%d calls that succeeded made %d commands, want 0", calls, after-before)
	}
	const rounds = 20
	for range rounds {
		opens(t, f[0])
		eventually(t, func() bool { return f[1].State() != circuit.Closed }, "the other opens")
		probe := awaitProbe(t, f[1].Breaker)
		probe.Success()
		eventually(t, func() bool { return f[0].State() == circuit.Closed }, "it closes")
	}
	trips, _ := scriptsRun(t, c)
	n := float64(trips-scripts) / (3 * rounds)
	t.Logf("%d transitions: %.2f scripts each", 3*rounds, n)
	if n > 2 {
		t.Errorf("a transition took %.2f scripts, want at most 2", n)
	}
}

// However many processes call at once, the fleet has one probe in flight.
func TestOneProbe(t *testing.T) {
	srv := startServer(t)
	c := circuit.Config{FailureThreshold: 1, RecoveryTimeout: 30 * time.Millisecond, ProbeLease: time.Minute}
	storm(t, fleet(t, 8, unhurried(srv), c))
}

// The same with four hosts of two processes, which share their cells without the
// server too.
func TestOneProbeOfHosts(t *testing.T) {
	srv := startServer(t)
	var f []member
	for host := range 4 {
		path := filepath.Join(t.TempDir(), "cells")
		for range 2 {
			o := unhurried(srv)
			local := hoststore.Open(path)
			t.Cleanup(local.Close)
			o.Node, o.Local = strconv.Itoa(host), local
			m := member{Store: open(t, o)}
			m.Breaker = circuit.New("backend", circuit.Config{
				Store: m.Store, FailureThreshold: 1, RecoveryTimeout: 30 * time.Millisecond,
				ProbeLease: time.Minute, Observe: func(context.Context, circuit.Transition) {},
			})
			ready(t, m.Store)
			f = append(f, m)
		}
	}
	storm(t, f)
}

// storm makes calls on all members, trips the first breaker, and lets 20 probes fail.
func storm(t *testing.T, f []member) {
	t.Helper()
	var out, most, probes atomic.Int32
	ctx, stop := context.WithCancel(t.Context())
	f[0].Trip() // manually: a vote would expire with its open time
	for _, m := range f {
		eventually(t, func() bool { return m.State() != circuit.Closed }, "all open")
	}
	var callers sync.WaitGroup
	for _, m := range f {
		callers.Go(func() {
			var held circuit.Permit // in flight until the next call
			holds := false
			servertest.Repeat(ctx, func() {
				if holds {
					out.Add(-1)
					held.Failure()
					holds = false
					return
				}
				p, err := m.Acquire()
				if err != nil {
					return
				}
				if !p.Probe() {
					t.Error("a call that is no probe passes")
				}
				most.Store(max(most.Load(), out.Add(1)))
				probes.Add(1)
				held, holds = p, true
			})
			if holds {
				out.Add(-1)
				held.Failure()
			}
		})
	}
	eventually(t, func() bool { return probes.Load() >= 20 }, "20 probes are sent")
	stop()
	callers.Wait()
	if t.Logf("%d probes of %d processes, at most %d at a time", probes.Load(), len(f), most.Load()); most.Load() != 1 {
		t.Errorf("%d probes at a time, want 1", most.Load())
	}
}

// A probe that ends after another process has got the lease changes nothing.
func TestLateProbe(t *testing.T) {
	srv := startServer(t)
	f := fleet(t, 3, steady(srv), circuit.Config{FailureThreshold: 1, RecoveryTimeout: 20 * time.Millisecond, ProbeLease: 50 * time.Millisecond})
	f[0].Trip() // manually: a vote would expire with its open time
	for _, m := range f {
		eventually(t, func() bool { return m.State() != circuit.Closed }, "all open")
	}
	late := awaitProbe(t, f[0].Breaker)
	awaitProbe(t, f[1].Breaker) // after the end of the first lease
	late.Success()
	allReported(t, f[0])
	allReported(t, f[2])
	if st, _ := f[2].Status("backend"); st.State != circuit.Open {
		t.Fatalf("a late result made the fleet %v", st.State)
	}
	eventually(t, func() bool { // a probe may be late on a machine under load
		if p, err := f[2].Acquire(); err == nil {
			p.Success()
		}
		return !slices.ContainsFunc(f, func(m member) bool { st, _ := m.Status("backend"); return st.State != circuit.Closed })
	}, "the fleet closes")
}

// One broken node of three opens only its own breaker, two open the fleet.
func TestQuorum(t *testing.T) {
	srv := startServer(t)
	o := redisstore.Options{URL: srv.url(), Sync: time.Minute} // no node counts as dead; the default quorum, 2
	f := fleet(t, 3, o, circuit.Config{FailureThreshold: 1, RecoveryTimeout: time.Minute})
	fail(t, f[0].Breaker)
	c := srv.client()
	eventually(t, func() bool { hash, _ := hashOf(t, c, "circuit_breaker:backend"); return hash["vote.node-0"] != "" }, "its vote is stored")
	if seen, err := redisstore.Inspect(t.Context(), o, []string{"backend"}); err != nil || seen["backend"].State != circuit.Closed {
		t.Fatalf("one node has made the fleet %v; %v", seen["backend"].State, err)
	}
	if f[0].State() != circuit.Open || f[1].State() != circuit.Closed || f[2].State() != circuit.Closed {
		t.Errorf("the broken node is %v, the others %v and %v", f[0].State(), f[1].State(), f[2].State())
	}
	fail(t, f[1].Breaker)
	eventually(t, func() bool { return f[2].State() == circuit.Open }, "two nodes open the fleet")

	alone := fleet(t, 1, redisstore.Options{URL: srv.url(), Prefix: "alone:"}, circuit.Config{FailureThreshold: 1})
	fail(t, alone[0].Breaker)
	eventually(t, func() bool { st, _ := alone[0].Status("backend"); return st.State == circuit.Open },
		"the only node alive decides")
}

// throttle records n throttled responses in a row.
func throttle(t *testing.T, b *circuit.Breaker, n int, wait time.Duration) {
	t.Helper()
	for range n {
		p, err := b.Acquire()
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		p.Throttled(wait)
	}
}

// A Retry-After to one node opens the breaker of that node only. One to a quorum opens
// the fleet, for as long as it says, although the breaker's own open time is shorter.
func TestThrottledQuorum(t *testing.T) {
	srv := startServer(t)
	o := redisstore.Options{URL: srv.url(), Quorum: 2, Sync: time.Minute} // no node counts as dead
	f := fleet(t, 3, o, circuit.Config{FailureThreshold: 3, RecoveryTimeout: time.Second})
	throttle(t, f[0].Breaker, 2, time.Hour)
	if f[0].State() != circuit.Closed {
		t.Fatal("two responses open")
	}
	throttle(t, f[0].Breaker, 1, time.Hour)
	eventually(t, func() bool { _, responded := f[1].Status("backend"); return !responded.IsZero() }, "the fleet's state has arrived")
	st, _ := f[1].Status("backend")
	if f[0].State() != circuit.Open || f[1].State() != circuit.Closed || st.State != circuit.Closed {
		t.Fatalf("the throttled node is %v, another %v, the fleet %v; want open, closed, closed", f[0].State(), f[1].State(), st.State)
	}
	throttle(t, f[1].Breaker, 3, time.Hour)
	eventually(t, func() bool { return f[2].State() == circuit.Open }, "the fleet opens")
	refusal := inner.Peek(f[2].Breaker)
	if left := time.Until(refusal.RetryAt); left < time.Hour-time.Minute || left > time.Hour+time.Second {
		t.Errorf("the third is open for %v, want 1h", left)
	}
}

// A manual override applies to all members.
func TestOverrides(t *testing.T) {
	srv := startServer(t)
	f := fleet(t, 2, brisk(srv), circuit.Config{FailureThreshold: 1, RecoveryTimeout: time.Minute})
	a, b := f[0], f[1]
	a.Isolate()
	eventually(t, func() bool { return b.State() == circuit.Isolated }, "isolated")
	b.Breaker.Reset()
	eventually(t, func() bool { return a.State() == circuit.Closed }, "reset")
	a.Trip()
	eventually(t, func() bool { return b.State() == circuit.Open }, "tripped")

	late := member{Store: open(t, brisk(srv))} // as a command is
	late.Breaker = circuit.New("backend", circuit.Config{Store: late.Store, Observe: func(context.Context, circuit.Transition) {}})
	ready(t, late.Store)
	if late.State() != circuit.Open {
		t.Errorf("a process that comes later is %v after Ready", late.State())
	}
	late.Store.Reset("backend")
	eventually(t, func() bool { return late.State() == circuit.Closed }, "a reset of the whole fleet resets this process too")
	late.Trip()
	late.Store.Reset("backend")
	late.Close()
	eventually(t, func() bool { return a.State() == circuit.Closed && b.State() == circuit.Closed }, "Close sends pending reports")
}

// A process that lives for seconds can be the one to probe.
func TestReadyForProbe(t *testing.T) {
	srv := startServer(t)
	c := circuit.Config{FailureThreshold: 1, RecoveryTimeout: 20 * time.Millisecond}
	o := redisstore.Options{URL: srv.url(), Quorum: 1}
	due := func() {
		t.Helper()
		eventually(t, func() bool {
			seen, err := redisstore.Inspect(t.Context(), o, []string{"backend"})
			st := seen["backend"]
			return err == nil && st.State == circuit.Open && !st.Until.After(time.Now())
		}, "the fleet is open, and the open time has elapsed")
	}
	fleet(t, 1, o, c)[0].Trip() // manually: a vote would expire with its open time
	for i := range 3 {
		due()
		g := fleet(t, 1, o, c)
		p, err := g[0].Acquire()
		if err != nil || !p.Probe() {
			t.Fatalf("the first call of process %d is no probe: %v", i, err)
		}
		p.Failure()
		g[0].Close()
	}
	due()
	dropped := fleet(t, 1, o, c)
	if p, err := dropped[0].Acquire(); err != nil {
		t.Fatal(err)
	} else if p.Cancel(); inner.Peek(dropped[0].Breaker) != nil {
		t.Error("after a probe without a result the breaker is open")
	}
	dropped[0].Close() // returns the lease, as a lease that was not used
	unused := fleet(t, 1, o, c)
	unused[0].Close()
	last := fleet(t, 1, o, c)
	if !last[0].Allow() {
		t.Error("an unused lease was not returned")
	}
}
