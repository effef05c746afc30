package circuit

import (
	"fmt"
	"slices"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// A ConfigError is a value that a [Config] may not have. It names the field,
// the value and what is allowed.
type ConfigError = setting.Error

// A State is what a breaker does with a call.
type State uint8

// The states.
const (
	Closed   State = iota // calls pass
	Open                  // calls are refused until an instant
	HalfOpen              // a few calls pass as probes, the rest are refused
	Isolated              // calls are refused until Reset
)

// String returns closed, open, half-open or isolated.
func (s State) String() string {
	if names := stateNames(); int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// MarshalText returns the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a state's name. It refuses any other text.
func (s *State) UnmarshalText(text []byte) error {
	i := slices.Index(stateNames(), string(text))
	if i < 0 {
		return setting.Unknown("state", string(text), stateNames())
	}
	*s = State(i)
	return nil
}

func stateNames() []string { return []string{"closed", "open", "half-open", "isolated"} }

// An OpenError is a call that was not made, because a breaker was not closed.
type OpenError struct {
	Name    string    // the breaker's
	State   State     // Open, HalfOpen (its probes are out) or Isolated
	RetryAt time.Time // when a probe may be let through; zero: not by itself
}

// Error names the breaker, its state and when to come back.
func (e *OpenError) Error() string {
	text := fmt.Sprintf("circuit breaker %q is %v", e.Name, e.State)
	if e.RetryAt.IsZero() {
		return text
	}
	return text + "; next probe at " + e.RetryAt.Format(time.RFC3339)
}
