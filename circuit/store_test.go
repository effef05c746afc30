package circuit

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// Breakers of one name in one Store share their state. A Store may refuse a probe, and is
// notified of each transition.
func TestStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &grudging{}
		a, b := New("x", quiet(Config{Store: sealing(store)})), New("x", quiet(Config{Store: sealing(store)}))
		c := New("y", quiet(Config{Store: sealing(store)}))
		a.Trip()
		if b.State() != Open || c.State() != Closed {
			t.Errorf("of the same name: %v, of another: %v", b.State(), c.State())
		}
		after(30 * time.Second)
		if b.Allow() {
			t.Error("a probe passes that the store does not grant")
		}
		store.grant = true
		p, err := b.Acquire()
		if err != nil {
			t.Fatal(err)
		}
		p.Success()
		if want := []State{Open, HalfOpen, Closed}; !slices.Equal(store.changes, want) || a.State() != Closed {
			t.Errorf("the store was told of %v, want %v; the other is %v", store.changes, want, a.State())
		}
	})
}

// sealing returns the Store that hides s.
func sealing(s cell.Store) Store {
	hidden := cell.Hide(s)
	return &hidden
}

// grudging is a Store that grants probes only on demand.
type grudging struct {
	cell.Memory
	grant   bool
	changes []State
	obey    func(cell.FetchRemote)
	shorts  int
	drops   int
}

func (g *grudging) AllowProbe(string, time.Duration) bool { return g.grant }

func (g *grudging) Transitioned(_ string, c cell.Change) {
	g.changes = append(g.changes, State(c.To))
}

func (g *grudging) Cell(key string, u cell.Client) *cell.Ref {
	g.obey = u.OnRemote
	return g.Memory.Cell(key, u)
}

func (g *grudging) ProbeCancelled(string) { g.drops++ }

// A store is notified of a probe without a result, and of no other call.
func TestDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &grudging{grant: true}
		b := New("x", quiet(Config{Store: sealing(store)}))
		p, _ := b.Acquire()
		p.Cancel()
		b.Trip()
		after(30 * time.Second)
		if p, _ = b.Acquire(); store.drops != 0 || !p.Probe() {
			t.Errorf("told of %d probes before there is one", store.drops)
		}
		if p.Cancel(); store.drops != 1 {
			t.Errorf("told %d times, want once", store.drops)
		}
	})
}

func (g *grudging) BudgetLow(string) { g.shorts++ }

// A store is notified when the budget is too low for a retry, and not before or without a
// budget.
func TestBudgetLow(t *testing.T) {
	store := &grudging{}
	b, none := New("x", quiet(Config{Store: sealing(store), Budget: 2})), New("y", quiet(Config{Store: sealing(store)}))
	b.RecordFailure()
	none.RecordFailure()
	none.withdraw(Token)
	if b.refund(Token); store.shorts != 0 || !b.withdraw(Token) || store.shorts != 0 {
		t.Errorf("told %d times while there is a token", store.shorts)
	}
	for i, do := range []func(){func() { b.withdraw(1) }, func() { b.withdraw(Token) }, b.RecordFailure} {
		if do(); store.shorts != i+1 {
			t.Errorf("told %d times, want %d", store.shorts, i+1)
		}
	}
}

// A store may apply a remote state before New has returned, which must wait.
func TestOrderAtOnce(t *testing.T) {
	for range 50 {
		store := &hasty{done: make(chan struct{})}
		b := New("x", quiet(Config{Store: sealing(store)}))
		<-store.done
		if b.State() != Open {
			t.Fatalf("told to open, it is %v", b.State())
		}
	}
}

// hasty is a Store that has an order for each breaker at once.
type hasty struct {
	cell.Memory
	done chan struct{}
}

func (h *hasty) Cell(key string, u cell.Client) *cell.Ref {
	go func() {
		defer close(h.done)
		u.OnRemote(func() (cell.RemoteState, bool) {
			return cell.RemoteState{State: uint8(Open), Until: time.Now().Add(time.Minute)}, true
		})
	}()
	return h.Memory.Cell(key, u)
}

// A remote state of the store is applied, reported, and not reported back to the store.
func TestOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, lines := &grudging{grant: true}, []string{}
		b := New("x", Config{Store: sealing(store), Observe: func(_ context.Context, tr Transition) {
			lines = append(lines, tr.From.String()+" "+tr.To.String()+": "+tr.Reason.String())
		}})
		order := func(s State, wait time.Duration) {
			store.obey(func() (cell.RemoteState, bool) {
				return cell.RemoteState{State: uint8(s), Until: time.Now().Add(wait)}, true
			})
		}
		late, _ := b.Acquire()
		order(Open, 10*time.Second)
		late.Success() // of before: it says nothing
		if open := b.peek(); open == nil || time.Until(open.RetryAt) != 10*time.Second {
			t.Errorf("told to open for 10s: %v", open)
		}
		order(Open, 20*time.Second)
		after(15 * time.Second)
		if b.Allow() {
			t.Error("a call passes before the later instant that it was told")
		}
		order(Open, time.Hour) // longer than this breaker is ever open by itself
		after(time.Hour - time.Second)
		if b.Allow() {
			t.Error("a call passes before the instant that it was told, as its own open time is shorter")
		}
		order(Open, 48*time.Hour) // longer than servers can ask for
		after(48*time.Hour - time.Second)
		if b.Allow() {
			t.Error("a call passes before the instant that it was told, as a packed state holds no length of days")
		}
		order(Open, 100*24*time.Hour) // longer than any
		after(60 * 24 * time.Hour)
		probe, err := b.Acquire()
		if err != nil || !probe.Probe() {
			t.Fatalf("no probe after the longest open time that there is: %v", err)
		}
		order(HalfOpen, 0)
		if b.State() != HalfOpen {
			t.Error("half-open is not to be ordered")
		}
		order(Closed, 0)
		probe.Failure() // of before
		order(Closed, 0)
		if b.State() != Closed {
			t.Errorf("told to close: %v", b.State())
		}
		order(Isolated, 0)
		order(Open, time.Second)
		mild := func() (cell.RemoteState, bool) {
			return cell.RemoteState{State: uint8(Closed), OnlyIfIsolated: true}, true
		}
		store.obey(mild)
		order(Open, time.Second)
		if store.obey(mild); b.State() != Open {
			t.Errorf("told to close if it is isolated: %v", b.State())
		}
		order(Closed, 0)
		store.obey(func() (cell.RemoteState, bool) { return cell.RemoteState{State: uint8(Isolated)}, false })
		want := []string{
			"closed open: set by the fleet", "open half-open: recovery timeout elapsed",
			"half-open closed: set by the fleet", "closed isolated: set by the fleet",
			"isolated closed: set by the fleet",
			"closed open: set by the fleet", "open closed: set by the fleet",
		}
		if !slices.Equal(lines, want) {
			t.Errorf("reported %q, want %q", lines, want)
		}
		if !slices.Equal(store.changes, []State{HalfOpen}) {
			t.Errorf("the store was told of %v, want of the probe alone", store.changes)
		}
	})
}
