// Package storetest tests what every store of circuit breakers promises. A package with a
// store runs these tests against it.
//
// The files go by promise: breaker.go, one state for all processes; gate.go, the same
// for gates; shared.go, one budget, one rate, and keys that share nothing; alone.go, a
// store that is closed or unreachable.
package storetest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
)

// A Process is one user of a store.
type Process struct {
	Store circuit.Store
	Ready func(context.Context) error // waits until the process has the shared state; nil if it always has
	Close func()                      // nil if there is nothing to close
}

// A Subject is one store, with the faults that it can have.
type Subject struct {
	Open  func(*testing.T) Process        // opens the store as one more process
	Away  func()                          // makes the shared state unreachable; nil if it always is reachable
	Noisy bool                            // a process may be cut off at any time, and then needs calls to recover
	Back  func()                          // makes the shared state reachable again
	Spoil func(t *testing.T, name string) // replaces the named breaker's state by one of another format; nil if it cannot be replaced
}

// Run runs the tests, each against a store that subject makes.
func Run(t *testing.T, subject func(*testing.T) Subject) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Subject){
		"a trip opens all":                    testTrip,
		"one probe for all":                   testOneProbe,
		"a probe's lease ends":                testLease,
		"a failed probe opens all":            testFailedProbe,
		"an opening is its opener's":          testOpenersTime,
		"a lease is its prober's":             testProbersLease,
		"an override sets the state of all":   testOverride,
		"a later process is isolated too":     testLatecomer,
		"a token is spent once":               testBudget,
		"an override reaches a limited gate":  testGateOverride,
		"a later process finds a gate shut":   testGateLatecomer,
		"a success at one gate opens all":     testGateSuccess,
		"all processes share one rate":        testRate,
		"names share nothing with each other": testNames,
		"a store is closed during calls":      testClose,
		"the store is unreachable":            testAway,
		"another format is not shared":        testSpoiled,
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

// breakers returns n breakers of one name, each in a process of its own.
func (s Subject) breakers(t *testing.T, n int, c circuit.Config) []*circuit.Breaker {
	t.Helper()
	return s.breakersOf(t, slices.Repeat([]circuit.Config{c}, n)...)
}

// breakersOf returns a breaker of one name for each of configs, each in a process of its own.
func (s Subject) breakersOf(t *testing.T, configs ...circuit.Config) (all []*circuit.Breaker) {
	t.Helper()
	for _, c := range configs {
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

// patience limits each wait. No step takes as long, on a machine under load.
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

// eventually waits until is returns true.
func eventually(t *testing.T, is func() bool, what string, args ...any) {
	t.Helper()
	servertest.Until(t, fmt.Sprintf(what, args...), is)
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
