package state

import (
	"context"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// A Hand is what a person can do to a breaker.
type Hand struct {
	Name  string
	Short string
	do    func(*circuit.Breaker)
}

// Hands returns all that a person can do.
func Hands() []Hand {
	return []Hand{
		{"trip", "Open it for 30 seconds, as its own rules would", (*circuit.Breaker).Trip},
		{"isolate", "Refuse all calls until it is reset", (*circuit.Breaker).Isolate},
		{"reset", "Close it, and forget its failures, its budget and its not-before instant", (*circuit.Breaker).Reset},
	}
}

// Do does it to the breaker of that key, and returns the state that it was in
// and the one that it is in now. The observer is told of the change.
func (h Hand) Do(ctx context.Context, s *Store, key string, observe func(circuit.Transition)) (was, is circuit.State) {
	b := circuit.New(key, circuit.Config{
		Store: s, Observe: observe,
		Window: time.Minute, FailureRatio: 1, // so that a reset forgets the window of a breaker that has one
	})
	seen := circuit.New(key, circuit.Config{Store: s, RecoveryTimeout: longest, ProbeLease: longest})
	s.Ready(ctx)
	was = seen.State()
	h.do(b)
	if s.fleet != nil && h.Name == "reset" {
		s.fleet.Reset(key) // also where this host's is closed
	}
	return was, seen.State()
}
