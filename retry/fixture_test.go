package retry_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// What the tests of this package share. The default logger is silent, so that
// a policy without an observer does not write into the output of the tests.

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

var errDown = errors.New("the service is down")

// A coded is an error as the AWS SDK has them: a code and an HTTP status.
type coded struct {
	code   string
	status int
	after  time.Duration
}

func (e *coded) Error() string       { return "api error " + e.code }
func (e *coded) ErrorCode() string   { return e.code }
func (e *coded) HTTPStatusCode() int { return e.status }

func (e *coded) RetryAfter() (time.Duration, bool) { return e.after, e.after > 0 }

// A record keeps events.
type record struct {
	mu  sync.Mutex
	all []retry.Event
}

func (r *record) observe(_ context.Context, e retry.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Err != nil {
		e.Err = errors.Unwrap(e.Err) // what the attempt returned
	}
	r.all = append(r.all, e)
}

func (r *record) events() []retry.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all
}

// kinds returns the kinds of the events as one text: "retrying succeeded".
func (r *record) kinds() string {
	var kinds []string
	for _, e := range r.events() {
		kinds = append(kinds, e.Kind.String())
	}
	return strings.Join(kinds, " ")
}

// calls returns an operation that fails with the errors of results, one an
// attempt, and succeeds when there are no more; and what it did.
func calls(results ...error) (func(context.Context) error, *attempts) {
	a := new(attempts)
	start := time.Now()
	return func(context.Context) error {
		a.at = append(a.at, time.Since(start))
		if a.n++; a.n <= len(results) {
			return results[a.n-1]
		}
		return nil
	}, a
}

type attempts struct {
	n  int
	at []time.Duration // since the operation was made
}

// always returns an operation that only fails.
func always(err error) (func(context.Context) error, *attempts) {
	a := new(attempts)
	start := time.Now()
	return func(context.Context) error {
		a.n++
		a.at = append(a.at, time.Since(start))
		return err
	}, a
}

// breaker returns a breaker that keeps silent.
func breaker(c circuit.Config) *circuit.Breaker {
	if c.Observe == nil {
		c.Observe = func(context.Context, circuit.Transition) {}
	}
	return circuit.New("s3_upload", c)
}

// lines is a handler that writes records as Python's basicConfig does in the
// quickstart: "INFO: message".
type lines struct{ w io.Writer }

func (l lines) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (l lines) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l lines) WithGroup(string) slog.Handler                    { return l }
func (l lines) Handle(_ context.Context, r slog.Record) error {
	_, err := io.WriteString(l.w, r.Level.String()+": "+r.Message+"\n")
	return err
}

// stopped fails the test unless err is an *Error with that Stop, and returns it.
func stopped(t *testing.T, err, stop error, attempts int) *retry.Error {
	t.Helper()
	e, ok := errors.AsType[*retry.Error](err)
	if !ok {
		t.Fatalf("error is %T %v, want a *retry.Error", err, err)
	}
	if !errors.Is(err, stop) || e.Attempts != attempts {
		t.Fatalf("stopped by %v after %d attempts, want %v after %d", e.Stop, e.Attempts, stop, attempts)
	}
	return e
}
