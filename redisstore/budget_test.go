package redisstore_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/redisstore"
	"github.com/seed-0f2c7998/perdure/retry"
)

// thrifty is a breaker that only its budget matters of.
func thrifty() circuit.Config { return circuit.Config{Budget: 10, FailureThreshold: 1000} }

// retries makes each breaker's operation fail so often, in turns, and returns
// how many retries that made.
func retries(t *testing.T, rounds int, breakers ...*circuit.Breaker) (n int) {
	t.Helper()
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for range rounds {
		for _, b := range breakers {
			p := retry.Policy{
				MaxAttempts: 3, BaseDelay: time.Millisecond, Jitter: retry.NoJitter, Breaker: b,
				Classify: retry.Always, Observe: func(context.Context, retry.Event) {},
			}
			err := retry.Do(t.Context(), &p, func(context.Context) error { n++; return errors.New("down") })
			if err == nil {
				t.Fatal("an operation that fails has succeeded")
			}
			n--
		}
		<-pace.C
	}
	return n
}

// prosper has all members' calls go well until nothing more is earned.
func prosper(f []member, sync time.Duration) {
	for range 20 {
		for _, m := range f {
			for range 100 {
				m.RecordSuccess()
			}
		}
		<-time.After(sync)
	}
}

func breakers(f []member) (all []*circuit.Breaker) {
	for _, m := range f {
		all = append(all, m.Breaker)
	}
	return all
}

// Against a service that is dead, a fleet makes as many retries as one of its
// hosts would alone.
func TestOneBudget(t *testing.T) {
	srv := startServer(t)
	const rounds = 200
	for _, c := range []struct {
		hosts int
		what  string
		warm  bool
		most  int
	}{{8, "that has just begun", false, 1}, {8, "that was well", true, 10}, {20, "that was well", true, 10}} {
		o := brisk(srv)
		o.Prefix = c.what + strconv.Itoa(c.hosts)
		shared := fleet(t, c.hosts, o, thrifty())
		var alone []member
		for range c.hosts {
			alone = append(alone, member{Breaker: circuit.New("backend", thrifty())})
		}
		if c.warm {
			prosper(shared, o.Sync)
			prosper(alone, 0)
		}
		got := retries(t, rounds, breakers(shared)...)
		one, all := retries(t, rounds, alone[0].Breaker), retries(t, rounds, breakers(alone[1:])...)
		t.Logf("a fleet of %d hosts %s, then an outage: %d retries of %d operations that share a budget; one host alone %d, without sharing %d",
			c.hosts, c.what, got, c.hosts*rounds, one, one+all)
		if got > c.most || got < c.most*8/10 {
			t.Errorf("%d retries, want %d, or a little less", got, c.most)
		}
	}
}

// What a host has that is gone comes back by calls that go well, once its part
// is forgotten; and so does that of a host that has ended, at once.
func TestBudgetOfTheDead(t *testing.T) {
	srv := startServer(t)
	o := brisk(srv)
	for what, local := range map[string]circuit.Store{"dies": new(circuit.Memory), "ends": nil} {
		o.Prefix, o.Local = what, local // with a layer that is the host's, Close leaves there what there is
		gone := fleet(t, 1, o, thrifty())
		prosper(gone, o.Sync)
		o.Local = nil
		f := fleet(t, 1, o, thrifty())
		prosper(f, o.Sync)
		gone[0].Close()
		if what == "ends" {
			if n := retries(t, 100, f[0].Breaker); n != 10 {
				t.Errorf("after the other has ended: %d retries, want 10", n)
			}
			continue
		}
		if n := retries(t, 100, f[0].Breaker); n < 6 || n > 7 {
			t.Errorf("after the other has died: %d retries, want 6, two thirds of what there was", n)
		}
		<-time.After(6 * o.Sync)
		prosper(f, o.Sync)
		if n := retries(t, 100, f[0].Breaker); n != 10 {
			t.Errorf("once the dead one is forgotten: %d retries, want 10", n)
		}
	}
}

// A host whose server is away has its part, and earns it again, and no more;
// the fleet's budget is none the greater for it.
func TestBudgetAlone(t *testing.T) {
	srv := startServer(t)
	road := startProxy(t, srv.addr())
	o := brisk(srv)
	f := fleet(t, 1, o, thrifty())
	o.URL, o.Node = "redis://"+road.listener.Addr().String(), "far"
	far := member{Store: open(t, o)}
	c := thrifty()
	c.Store = far.Store
	far.Breaker = circuit.New("backend", c)
	ready(t, far.Store)
	f = append(f, far)
	prosper(f, o.Sync)
	road.set(0, true)
	for range 3 {
		prosper(f[1:], o.Sync)
		if n := retries(t, 100, far.Breaker); n != 3 {
			t.Errorf("cut off, with a third of ten tokens: %d retries, want 3", n)
		}
	}
	road.set(0, false)
	eventually(t, func() bool { return far.Err() == nil }, "it is back")
	prosper(f, o.Sync)
	if n := retries(t, 100, breakers(f)...); n > 10 || n < 9 {
		t.Errorf("together again: %d retries, want 10", n)
	}
	srv.kill()
	srv.start()
	eventually(t, func() bool { return far.Err() == nil && f[0].Err() == nil }, "the server is back, empty")
	prosper(f, o.Sync)
	if n := retries(t, 100, breakers(f)...); n > 10 || n < 9 {
		t.Errorf("with a server that has lost its memory: %d retries, want 10", n)
	}
}

// With a reset by hand the budget begins anew, wherever it is made.
func TestBudgetReset(t *testing.T) {
	f := fleet(t, 2, brisk(startServer(t)), thrifty())
	retries(t, 50, breakers(f)...)
	f[0].Breaker.Reset()
	f[0].Store.Reset("backend")
	<-time.After(4 * 50 * time.Millisecond)
	if n := retries(t, 50, breakers(f)...); n != 1 {
		t.Errorf("after a reset: %d retries, want 1", n)
	}
}

// However many retries cannot be paid, the server is not asked for each.
func TestShortOfTokens(t *testing.T) {
	srv := startServer(t)
	f := fleet(t, 1, redisstore.Options{URL: srv.url(), Sync: time.Hour}, thrifty())
	before, _ := scriptsRun(t, srv.client())
	retries(t, 500, f[0].Breaker)
	after, _ := scriptsRun(t, srv.client())
	t.Logf("500 operations without a token for a retry: %d scripts", after-before)
	if after-before > 2 {
		t.Errorf("500 operations without a token for a retry: %d scripts, want 2 at most", after-before)
	}
}
