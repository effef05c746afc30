package state

import (
	"context"
	"log/slog"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// An Action overrides the state of a breaker.
type Action struct {
	Name  string
	Short string
	New   bool // the breaker need not exist yet
	do    func(*circuit.Breaker)
}

// Actions returns all actions.
func Actions() []Action {
	return []Action{
		{"trip", "Open a circuit breaker for 30 seconds, as a failure rule does", false, (*circuit.Breaker).Trip},
		{"isolate", "Refuse all calls of a circuit breaker until a reset; it need not exist yet", true, (*circuit.Breaker).Isolate},
		{"reset", "Close a circuit breaker, and clear its failures and its budget", false, (*circuit.Breaker).Reset},
	}
}

// Do applies the action to the breaker of that key, and returns its state before
// and after. A transition is logged to log.
func (a Action) Do(ctx context.Context, s *Store, key string, log *slog.Logger) (was, is circuit.State) {
	b := circuit.New(key, circuit.Config{
		Store: s, Log: log,
		Window: time.Minute, FailureRatio: 1, // so that a reset clears the window, if the breaker has one,
		Gate: circuit.FailFast, // and the limit of its gate
	})
	s.Ready(ctx)
	was = b.State()
	a.do(b)
	if s.fleet != nil && a.Name == "reset" {
		s.fleet.Reset(key) // even if the breaker is closed on this host
	}
	return was, b.State()
}
