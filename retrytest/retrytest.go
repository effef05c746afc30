// Package retrytest tests code that retries, without waiting: waits pass at once and are recorded, and calls fail by a
// script.
//
//	ctx, waits := retrytest.NoWaits(t.Context())
//	calls := retrytest.Script("503 after=2s", "reset", "ok")
//	client := &http.Client{Transport: httpretry.NewTransport(calls.Transport(server.Client().Transport), options)}
//	// ... code that sends requests with ctx
//	if calls.Made() != 3 || waits.Delays()[0] < 2*time.Second { ... }
//
// It works inside and outside the bubbles of testing/synctest, which also advance the clock: use a bubble for what depends
// on time that passes (MaxElapsed, a deadline, an AttemptTimeout, when a breaker closes) and for what NoWaits does not pass:
// the waits at a gate or for a limit, and those of the AWS SDK. In a bubble they take no time either:
//
//	synctest.Test(t, func(t *testing.T) {
//		err := retry.Do(t.Context(), &policy, call) // whose Breaker has a Gate, a Rate or Concurrency
//	})
//
// It does not import package testing. Package chaos injects the same faults into a running service. A script fails whole
// calls: a response body that is cut or stalls is a Fault of package httptestfault (CutBody, ResetBody, StallBody), whose
// servers in memory work in a bubble.
package retrytest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/seam"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/retrytest/chaos"
)

// MaxWaits is the number of waits after which a context of [NoWaits] is cancelled, with the cause [ErrEndless]: a policy
// with unlimited attempts must not make a test endless.
const MaxWaits = 1000

// ErrEndless is the cause of a context of [NoWaits] that was cancelled after [MaxWaits] waits.
var ErrEndless = errors.New("retrytest: an operation waits more than 1000 times")

// A Log records the waits under a context of [NoWaits] and, if its Observe observes them, events. It is safe for concurrent
// use.
type Log struct {
	mu     sync.Mutex
	delays []time.Duration
	events []retry.Event
}

// NoWaits returns a child of ctx under which the waits of package retry between attempts, and of the clients that retry by
// it, pass at once, and a Log that records them. Which waits are made does not change, and neither do events and errors:
// a wait that exceeds the deadline of ctx still ends the operation, and a Retry-After longer than MaxRetryAfter, too. The
// clock does not advance. Waits at a gate or for a limit of a breaker, and those of the AWS SDK, take their time:
// use a bubble of testing/synctest for them. A breaker that is new has one token in its budget, so operations with it are
// retried once until others have succeeded.
func NoWaits(ctx context.Context) (context.Context, *Log) {
	ctx, cancel := context.WithCancelCause(ctx)
	log := new(Log)
	return seam.WithWaits(ctx, func(d time.Duration) {
		log.mu.Lock()
		defer log.mu.Unlock()
		if log.delays = append(log.delays, d); len(log.delays) >= MaxWaits {
			cancel(ErrEndless)
		}
	}), log
}

// Delays returns the waits so far, in their order.
func (l *Log) Delays() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.delays)
}

// Observe records an event: it is a Policy.Observe.
func (l *Log) Observe(_ context.Context, e retry.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// Events returns the events so far, in their order.
func (l *Log) Events() []retry.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

// A Steps is a script: what happens to the first call, to the second, and so on. After its last step, calls succeed. It is
// safe for concurrent use.
type Steps struct {
	mu     sync.Mutex
	faults []chaos.Fault
	made   int
}

// Script returns the script with the given steps, each a fault as text (see [chaos.ParseFault]), which xN at its end
// repeats: Script("503 after=2s", "reset x3", "ok delay=300ms"). It panics if a step is not valid.
func Script(steps ...string) *Steps {
	s := new(Steps)
	for _, step := range steps {
		fault, times := step, 1
		if words := strings.Fields(step); len(words) > 1 {
			last := words[len(words)-1]
			if n, err := strconv.Atoi(strings.TrimPrefix(last, "x")); err == nil && last[0] == 'x' && n > 0 && n <= MaxWaits {
				fault, times = strings.Join(words[:len(words)-1], " "), n
			}
		}
		f, err := chaos.ParseFault(fault)
		if err != nil {
			panic(fmt.Sprintf("retrytest: %v", err))
		}
		s.faults = append(s.faults, slices.Repeat([]chaos.Fault{f}, times)...)
	}
	return s
}

// Made returns the number of calls so far.
func (s *Steps) Made() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made
}

// Left returns the number of steps that no call has reached.
func (s *Steps) Left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(len(s.faults)-s.made, 0)
}

func (s *Steps) next() (f chaos.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made < len(s.faults) {
		f = s.faults[s.made]
	}
	s.made++
	return f
}

// Do calls f with the fault of the next step. See [chaos.Call].
func (s *Steps) Do(ctx context.Context, f func(context.Context) error) error {
	_, err := Value(ctx, s, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}

// Value calls f with the fault of the next step of s. See [chaos.Call].
func Value[T any](ctx context.Context, s *Steps, f func(context.Context) (T, error)) (T, error) {
	return chaos.Call(ctx, s.next(), f)
}

// Transport returns a RoundTripper that sends requests by base with the faults of s. If base is nil, no request is sent:
// where the script has no fault, the response is an empty 200.
func (s *Steps) Transport(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = empty{}
	}
	return &transport{s, base}
}

type transport struct {
	steps *Steps
	base  http.RoundTripper
}

// RoundTrip sends req with the fault of the next step.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.steps.next().RoundTrip(t.base, req)
}

type empty struct{}

// RoundTrip returns an empty 200.
func (empty) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		req.Body.Close()
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, Request: req,
	}, nil
}
