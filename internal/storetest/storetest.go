// Package storetest has what each store of circuit breakers promises, as tests
// that the packages with a store run against it.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A Process is one user of a store.
type Process struct {
	Store circuit.Store
	Ready func(context.Context) error // waits until what the others know is known; nil if that is so at once
	Close func()                      // nil if there is nothing to close
}

// A Subject is one store, and what can happen to it.
type Subject struct {
	Open  func(*testing.T) Process        // as one more process
	Away  func()                          // ends what the processes share; nil if nothing can
	Noisy bool                            // a process may have to go on alone at any time, and then needs calls to find back
	Back  func()                          // has it begin again
	Spoil func(t *testing.T, name string) // puts something of another format in the place of that breaker's state; nil if nothing can
}

// Run runs the tests, each against a store that subject makes.
func Run(t *testing.T, subject func(*testing.T) Subject) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Subject){
		"a trip is seen by all":               testTrip,
		"one probe for all":                   testOneProbe,
		"a probe's lease ends":                testLease,
		"a probe that fails opens for all":    testFailedProbe,
		"a person sets the state for all":     testOverride,
		"what is open is opened for others":   testLatecomer,
		"the budget is spent once":            testBudget,
		"a person reaches a gate's limit":     testGateOverride,
		"who comes later finds a gate shut":   testGateLatecomer,
		"an answer at one gate is for all":    testGateAnswer,
		"a rate is that of all together":      testRate,
		"names share nothing with each other": testNames,
		"a store is closed during calls":      testClose,
		"the store is away":                   testAway,
		"another format is left alone":        testSpoiled,
	} {
		t.Run(name, func(t *testing.T) { test(t, subject(t)) })
	}
}

func quick() circuit.Config {
	return circuit.Config{
		FailureThreshold: 3, RecoveryTimeout: 20 * time.Millisecond, ProbeLease: time.Minute,
		Observe: func(context.Context, circuit.Transition) {},
	}
}

// breakers returns n breakers of one name, each of a process of its own.
func (s Subject) breakers(t *testing.T, n int, c circuit.Config) (all []*circuit.Breaker) {
	t.Helper()
	for range n {
		p := s.process(t)
		c.Store = p.Store
		all = append(all, circuit.New("backend", c))
		p.ready(t)
	}
	return all
}

func (s Subject) process(t *testing.T) Process {
	t.Helper()
	p := s.Open(t)
	if p.Close != nil {
		t.Cleanup(p.Close)
	}
	return p
}

// patience is more than anything takes, on a machine that has much else to do.
const patience = time.Minute

func (p Process) ready(t *testing.T) {
	t.Helper()
	if p.Ready == nil {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Ready(ctx); err != nil {
		t.Fatalf("not ready: %v", err)
	}
}

// eventually waits until is holds.
func eventually(t *testing.T, is func() bool, what string, args ...any) {
	t.Helper()
	began, tick := time.Now(), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is() {
		if time.Since(began) > patience {
			t.Fatalf("not within %v: %s", patience, fmt.Sprintf(what, args...))
		}
		<-tick.C
	}
}

func all(of []*circuit.Breaker, is func(circuit.State) bool) bool {
	for _, b := range of {
		if !is(b.State()) {
			return false
		}
	}
	return true
}

func are(want circuit.State) func(circuit.State) bool {
	return func(s circuit.State) bool { return s == want }
}

func notClosed(s circuit.State) bool { return s != circuit.Closed }

// fail makes calls of b fail until it is not closed any more.
func fail(t *testing.T, b *circuit.Breaker) {
	t.Helper()
	for range 3 {
		p, err := b.Acquire()
		if err != nil {
			t.Fatalf("closed, it refuses: %v", err)
		}
		p.Failure()
	}
	if b.State() == circuit.Closed {
		t.Fatal("three failures have not opened it")
	}
}

// opens makes calls of the first fail until none is closed. A vote that arrives when
// its open time is over counts for nothing, so one opening may not do.
func opens(t *testing.T, of []*circuit.Breaker) {
	t.Helper()
	eventually(t, func() bool {
		if p, err := of[0].Acquire(); err == nil {
			p.Failure()
		}
		return all(of, notClosed)
	}, "all are open")
}

// probe waits until one of the breakers sends a probe.
func probe(t *testing.T, of []*circuit.Breaker) (p circuit.Permit) {
	t.Helper()
	eventually(t, func() bool {
		for _, b := range of {
			var err error
			if p, err = b.Acquire(); err == nil && p.Probe() {
				return true
			} else if err == nil {
				t.Fatal("a call passes that is no probe")
			}
		}
		return false
	}, "a probe passes")
	return p
}

// closes waits until all are closed.
func (s Subject) closes(t *testing.T, of []*circuit.Breaker) {
	t.Helper()
	eventually(t, func() bool {
		for i := 0; s.Noisy && i < len(of); i++ {
			if p, err := of[i].Acquire(); err == nil {
				p.Success()
			}
		}
		return all(of, are(circuit.Closed))
	}, "all are closed")
}

func testTrip(t *testing.T, s Subject) {
	t.Helper()
	c := quick()
	c.RecoveryTimeout = time.Hour
	b := s.breakers(t, 3, c)
	fail(t, b[0])
	eventually(t, func() bool { return all(b, are(circuit.Open)) }, "all are open")
	for i := range b {
		_, err := b[i].Acquire()
		if e, ok := errors.AsType[*circuit.OpenError](err); !ok || e.State != circuit.Open || time.Until(e.RetryAt) > time.Hour+time.Second {
			t.Errorf("breaker %d: %v, want an OpenError that is over within the hour", i, err)
		}
	}
}

func testOneProbe(t *testing.T, s Subject) {
	t.Helper()
	b := s.breakers(t, 3, quick())
	opens(t, b)
	p := probe(t, b)
	for range 100 {
		for i := range b {
			if _, err := b[i].Acquire(); err == nil && !s.Noisy {
				t.Fatalf("breaker %d lets a call pass while a probe is out", i)
			}
		}
	}
	p.Success()
	s.closes(t, b)
}

func testLease(t *testing.T, s Subject) {
	t.Helper()
	c := quick()
	c.ProbeLease = 50 * time.Millisecond
	b := s.breakers(t, 2, c)
	opens(t, b)
	lost := probe(t, b)
	probe(t, b).Success()
	s.closes(t, b)
	lost.Failure() // too late: it counts for nothing
	if !s.Noisy && !all(b, are(circuit.Closed)) {
		t.Error("a probe that was given up has opened a breaker")
	}
}

func testFailedProbe(t *testing.T, s Subject) {
	t.Helper()
	b := s.breakers(t, 2, quick())
	opens(t, b)
	for range 3 {
		probe(t, b).Failure()
	}
	probe(t, b).Success()
	s.closes(t, b)
}

func testOverride(t *testing.T, s Subject) {
	t.Helper()
	b := s.breakers(t, 3, quick())
	for i := range b {
		b[i].Isolate()
		eventually(t, func() bool { return all(b, are(circuit.Isolated)) }, "all are isolated by %d", i)
		other := b[(i+1)%len(b)]
		if other.Allow() {
			t.Error("isolated, it lets a call pass")
		}
		other.Trip() // changes nothing
		other.Reset()
		eventually(t, func() bool { return all(b, are(circuit.Closed)) }, "all are closed by another than %d", i)
	}
}

func testLatecomer(t *testing.T, s Subject) {
	t.Helper()
	b := s.breakers(t, 2, quick())
	b[0].Isolate()
	eventually(t, func() bool { return all(b, are(circuit.Isolated)) }, "all are isolated")
	p := s.process(t)
	c := quick()
	c.Store = p.Store
	late := circuit.New("backend", c)
	p.ready(t)
	if late.State() != circuit.Isolated {
		t.Errorf("a process that came later finds it %v", late.State())
	}
}

func testBudget(t *testing.T, s Subject) {
	t.Helper()
	c, spent := quick(), atomic.Int64{}
	c.Budget = 10
	b := s.breakers(t, 3, c)
	for range 200 {
		for i := range b {
			if p, err := b[i].Acquire(); err == nil {
				p.Success()
			}
		}
	}
	var work sync.WaitGroup
	for i := range b {
		work.Go(func() {
			for range 50 {
				if breakers.Withdraw(b[i], cell.Token) {
					spent.Add(1)
				} else if p, err := b[i].Acquire(); err == nil {
					p.Cancel()
				}
			}
		})
	}
	work.Wait()
	if n := spent.Load(); n < 1 || n > 10 {
		t.Errorf("of a budget of 10 tokens %d were spent, want 1 to 10", n)
	}
}

// gated is a breaker with a gate.
func gated() circuit.Config {
	return circuit.Config{Gate: circuit.Wait, Observe: func(context.Context, circuit.Transition) {}}
}

// shut has calls of all fail until nothing gets through any of them, and all of
// those who share them know.
func (s Subject) shut(t *testing.T, of []*circuit.Breaker) {
	t.Helper()
	eventually(t, func() bool {
		for _, b := range of {
			if p, err := b.Acquire(); err == nil {
				p.Failure()
			}
		}
		return all(of, are(circuit.Open))
	}, "all are open")
}

func testGateOverride(t *testing.T, s Subject) {
	t.Helper()
	b := s.breakers(t, 3, gated())
	for i := range b {
		s.shut(t, b)
		b[i].Reset()
		eventually(t, func() bool { return all(b, are(circuit.Closed)) }, "all are closed by %d", i)
		s.shut(t, b)
		b[i].Isolate()
		eventually(t, func() bool { return all(b, are(circuit.Isolated)) }, "all are isolated by %d", i)
		b[i].Reset()
		eventually(t, func() bool { return all(b, are(circuit.Closed)) }, "all are closed by %d after that", i)
	}
}

func testGateLatecomer(t *testing.T, s Subject) {
	t.Helper()
	b := s.breakers(t, 2, gated())
	s.shut(t, b)
	eventually(t, func() bool {
		for i := range b { // a probe that fails has the others told
			if p, err := b[i].Acquire(); err == nil {
				p.Failure()
			}
		}
		return s.breakers(t, 1, gated())[0].State() == circuit.Open
	}, "a process that came later finds it open")
}

func testGateAnswer(t *testing.T, s Subject) {
	t.Helper()
	b := s.breakers(t, 3, gated())
	for range 3 {
		s.shut(t, b)
		eventually(t, func() bool {
			for i := range b {
				if p, err := b[i].Acquire(); err == nil {
					p.Success()
				}
			}
			return all(b, are(circuit.Closed))
		}, "all are closed once the service answers")
	}
}

func testRate(t *testing.T, s Subject) {
	t.Helper()
	c, calls := quick(), 40
	c.Rate = 50
	b := s.breakers(t, 3, c)
	for i := range b {
		if err := b[i].Do(t.Context(), func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	var work sync.WaitGroup
	began := time.Now()
	for i := range calls {
		work.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := b[i%len(b)].Do(ctx, func(context.Context) error { return nil }); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	work.Wait()
	least := time.Duration(float64(calls-2) / c.Rate * float64(time.Second))
	if took := time.Since(began); took < least && !s.Noisy {
		t.Errorf("%d calls of three at %v/s have taken %v, want at least %v", calls, c.Rate, took, least)
	}
}

func testNames(t *testing.T, s Subject) {
	t.Helper()
	names := []string{"", " ", "a", "a ", "A", "{a}", "a\nb", "ü", strings.Repeat("x", 300), strings.Repeat("x", 301)}
	var here, there []*circuit.Breaker
	one, other := s.process(t), s.process(t)
	for _, name := range names {
		c := quick()
		c.Store = one.Store
		here = append(here, circuit.New(name, c))
		c.Store = other.Store
		there = append(there, circuit.New(name, c))
	}
	one.ready(t)
	other.ready(t)
	for i := range names {
		here[i].Isolate()
		eventually(t, func() bool { return there[i].State() == circuit.Isolated }, "%q is shared", names[i])
		for j := i + 1; j < len(names); j++ {
			if here[j].State() != circuit.Closed || there[j].State() != circuit.Closed {
				t.Errorf("%q is isolated, and so is %q", names[i], names[j])
			}
		}
	}
}

func testClose(t *testing.T, s Subject) {
	t.Helper()
	p, c := s.Open(t), quick()
	c.Store = p.Store
	b := circuit.New("backend", c)
	p.ready(t)
	var work sync.WaitGroup
	begun := make(chan struct{}, 4)
	for range 4 {
		work.Go(func() {
			for i := range 2000 {
				if err := b.Do(t.Context(), func(context.Context) error { return nil }); err != nil {
					t.Errorf("call %d fails: %v", i, err)
					return
				}
				if i == 100 {
					begun <- struct{}{}
				}
			}
		})
	}
	<-begun
	if p.Close != nil {
		p.Close()
		p.Close()
	}
	work.Wait()
	worksAlone(t, b)
}

// worksAlone checks that b trips and recovers, whatever becomes of its store.
func worksAlone(t *testing.T, b *circuit.Breaker) {
	t.Helper()
	fail(t, b)
	probe(t, []*circuit.Breaker{b}).Success()
	if b.State() != circuit.Closed {
		t.Errorf("after its probe it is %v", b.State())
	}
}

func testAway(t *testing.T, s Subject) {
	t.Helper()
	if s.Away == nil {
		t.Skip("this store is never away")
	}
	b := s.breakers(t, 2, quick())
	s.Away()
	for i := range b {
		worksAlone(t, b[i])
	}
	if p := s.process(t); p.Store != nil { // begun without it
		c := quick()
		c.Store = p.Store
		b = append(b, circuit.New("backend", c))
		worksAlone(t, b[2])
	}
	s.Back()
	b[0].Isolate()
	eventually(t, func() bool { return all(b, are(circuit.Isolated)) }, "they share again")
}

func testSpoiled(t *testing.T, s Subject) {
	t.Helper()
	if s.Spoil == nil {
		t.Skip("nothing can be in the place of this store's state")
	}
	s.Spoil(t, "backend")
	for _, b := range s.breakers(t, 2, quick()) {
		worksAlone(t, b)
	}
}
