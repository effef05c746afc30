package grpcretry

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Options configure an [Interceptor]. The zero Options retry every method by the zero
// Policy. Do not change them after their first use.
type Options struct {
	// Policy decides which failures are retried, and when. If nil, the zero Policy does.
	// If its Name is empty, an operation has the name of its method, as
	// grpc.health.v1.Health/Check. Its Classify, if set, precedes the table of codes, and
	// gets the error of gRPC.
	Policy *retry.Policy

	// Methods holds the methods that differ. The keys are those of a service config:
	// "/package.Service/Method", "/package.Service/" for all methods of a service, or "" for
	// all methods. The longest key that fits applies.
	Methods map[string]Method

	// Breakers, if set, gives each key its own breaker in place of the Policy's. The name of
	// a breaker is "grpc:" and the key.
	Breakers *circuit.Config

	// Registry holds the breakers of Breakers. If nil, the Interceptor has a registry of its
	// own.
	Registry *circuit.Registry

	// Key returns the key of a call; calls with the same key share a breaker, with its gate,
	// budget and limits. target is that of the connection, and method is as
	// "/package.Service/Method". Key is called on the goroutine of the first call of a method
	// of a target, so by several goroutines at once, and not for each call. If nil, the key
	// is the target.
	Key func(target, method string) string

	// BufferLimit is how many bytes of the messages of a stream are kept for a retry; 0
	// means 256 KiB, less than 0 means none.
	BufferLimit int

	// Counter, if set, counts the attempts. [Interceptor.DialOptions] installs it.
	Counter *Counter
}

// A Method configures the methods of a key of [Options.Methods]. The zero Method is
// retried by Options.Policy.
type Method struct {
	// Policy replaces Options.Policy; nil means Options.Policy.
	Policy *retry.Policy
	// Once says that the method is not idempotent: a call is repeated only if it never
	// reached a connection.
	Once bool
	// Hedge, if set, makes several attempts at the same time. It replaces the retries of
	// unary calls; streams are retried, not hedged. Hedge and Once exclude each other.
	Hedge *Hedge
}

// A Hedge sends a unary call several times, like the hedgingPolicy of a service config:
// every Delay another attempt begins, until one succeeds. An attempt that fails with a
// code of NonFatal starts the next attempt at once; any other error ends the call. The
// attempts that are no longer needed are cancelled, and the call waits for their end.
//
// A server's pushback delays the next attempt; a negative pushback, or one that is longer
// than retry.Policy.MaxRetryAfter or the deadline allows, means that no more attempts begin. Each attempt after the first costs a token of the breaker's budget,
// and none begins while the breaker is open or its gate limits calls. For the breaker
// and the events the attempts are one, with the result of the call.
type Hedge struct {
	// MaxAttempts is the maximum number of attempts, the first included, 2 to 5.
	MaxAttempts int
	// Delay is the time between attempts; 0 begins all attempts at once.
	Delay time.Duration
	// NonFatal lists the codes after which other attempts continue; nil means that each
	// failure ends the call.
	NonFatal []codes.Code
}

const (
	defaultBufferLimit = 256 << 10
	maxHedges          = 5
)

// Validate returns an error with a [*retry.ConfigError] that names a field, its value and
// what is allowed, or nil.
func (o *Options) Validate() error {
	if o.Policy != nil {
		if err := o.Policy.Validate(); err != nil {
			return err
		}
	}
	if o.Breakers != nil {
		if err := o.Breakers.Validate(); err != nil {
			return err
		}
	}
	for key, m := range o.Methods {
		if !isMethodKey(key) {
			return setting.Bad("Methods", key, `"/package.Service/Method", "/package.Service/", or "" for all methods`)
		}
		if err := m.validate(); err != nil {
			return fmt.Errorf("method %q: %w", key, err)
		}
	}
	return nil
}

func (m *Method) validate() error {
	if m.Policy != nil {
		if err := m.Policy.Validate(); err != nil {
			return err
		}
	}
	h := m.Hedge
	switch {
	case h == nil:
	case m.Once:
		return setting.Bad("Once", true, "false for a method with a Hedge")
	case h.MaxAttempts < 2 || h.MaxAttempts > maxHedges:
		return setting.Bad("Hedge.MaxAttempts", h.MaxAttempts, fmt.Sprintf("2 to %d", maxHedges))
	case h.Delay < 0:
		return setting.Bad("Hedge.Delay", h.Delay, "positive, or 0 to begin all attempts at once")
	}
	return nil
}
