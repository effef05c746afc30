package retry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A reason is a cause of the caller's own.
type reason struct{ name string }

func (r *reason) Error() string { return r.name }

// The error of a call that its caller ends contains both the cause and context.Canceled or DeadlineExceeded: only one of
// the two used to be found.
func TestEndedByTheCaller(t *testing.T) {
	t.Parallel()
	why := &reason{"the run was called off"}
	begin := map[string]func(context.Context) (context.Context, func(), error){
		"cancelled": func(ctx context.Context) (context.Context, func(), error) {
			ctx, cancel := context.WithCancelCause(ctx)
			return ctx, func() { cancel(why) }, context.Canceled
		},
		"timed out": func(ctx context.Context) (context.Context, func(), error) {
			ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, why)
			return ctx, func() { <-ctx.Done(); cancel() }, context.DeadlineExceeded
		},
	}
	for name, with := range begin {
		for _, when := range []string{"before", "in an attempt", "in a wait"} {
			synctest.Test(t, func(t *testing.T) {
				ctx, end, want := with(t.Context())
				defer end()
				p := retry.Policy{Classify: retry.Always, Jitter: retry.NoJitter, BaseDelay: time.Second, ExponentialBase: 1}
				if when == "before" {
					end()
				}
				err := retry.Do(ctx, &p, func(context.Context) error {
					switch when {
					case "in an attempt":
						end()
					case "in a wait":
						go end()
					}
					return errDown
				})
				if when == "in a wait" && want == context.DeadlineExceeded { //nolint:errorlint // the very one
					return // it is not slept into
				}
				mine, ok := errors.AsType[*reason](err)
				if !errors.Is(err, want) || !errors.Is(err, why) || !ok || mine != why {
					t.Errorf("%s %s: %v is not both %v and %v", name, when, err, want, why)
				}
			})
		}
	}
}

// A caller may cancel sibling calls with the error of the first that fails: errors.As does not find that error in the
// errors of the others.
func TestEndedByASibling(t *testing.T) {
	t.Parallel()
	tired := &retry.Error{Operation: "sibling", Attempts: 5, Stop: retry.ErrDeadline, Last: &coded{code: "SlowDown"}}
	refused := &circuit.OpenError{Name: "sibling", State: circuit.Open}
	for _, cause := range []error{tired, refused, fmt.Errorf("part 7: %w", tired), &retry.Error{Stop: refused, Last: errDown}} {
		ctx, cancel := context.WithCancelCause(t.Context())
		p := retry.Policy{Classify: retry.Always}
		err := retry.Do(ctx, &p, func(context.Context) error {
			cancel(cause)
			return errDown
		})
		_, open := errors.AsType[*circuit.OpenError](err)
		_, code := errors.AsType[*coded](err)
		if open || code || !errors.Is(err, cause) || !errors.Is(err, context.Canceled) || !errors.Is(err, errDown) {
			t.Errorf("cancelled by %v: %v holds its OpenError (%t) or code (%t)", cause, err, open, code)
		}
		if mine, ok := errors.AsType[*retry.Error](err); !ok || mine.Attempts != 1 || mine.Operation != "operation" {
			t.Errorf("cancelled by %v: %+v is not my own", cause, mine)
		}
		err = retry.Do(ctx, &p, func(context.Context) error { return nil })
		if _, theirs := errors.AsType[*retry.Error](err); theirs || !errors.Is(err, cause) || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled by %v before: %v", cause, err)
		}
	}
}

// A fault is an error with a method that panics.
type (
	badUnwrap   struct{ error }
	badHint     struct{ error }
	badCode     struct{ error }
	badStatus   struct{ error }
	badState    struct{ error }
	badTimeout  struct{ error }
	badIs       struct{ error }
	nilPointer  struct{ code string }
	badUnwrapss struct{ error }
)

func (badUnwrap) Unwrap() error                   { panic("a fault") }
func (badUnwrapss) Unwrap() []error               { panic("a fault") }
func (badHint) RetryAfter() (time.Duration, bool) { panic("a fault") }
func (badCode) ErrorCode() string                 { panic("a fault") }
func (badStatus) HTTPStatusCode() int             { panic("a fault") }
func (badState) SQLState() string                 { panic("a fault") }
func (badTimeout) Timeout() bool                  { panic("a fault") }
func (badIs) Is(error) bool                       { panic("a fault") }
func (p *nilPointer) Error() string               { return "fine" }
func (p *nilPointer) ErrorCode() string           { return p.code }

// A panic while an error is classified passes to the caller and leaves the breaker unchanged: calls to a healthy service
// used to be refused until the lease of its probe ended.
func TestPanicInAnErrorPasses(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"Unwrap": badUnwrap{errDown}, "Unwrap of several": badUnwrapss{errDown}, "RetryAfter": badHint{errDown},
		"ErrorCode": badCode{errDown}, "HTTPStatusCode": badStatus{errDown}, "SQLState": badState{errDown},
		"Timeout": badTimeout{errDown}, "Is": badIs{errDown}, "a typed nil": (*nilPointer)(nil), "Classify": errDown,
	} {
		synctest.Test(t, func(t *testing.T) {
			b := breaker(circuit.Config{FailureThreshold: 1, RecoveryTimeout: time.Second, ProbeLease: time.Hour})
			p := retry.Policy{Breaker: b, Observe: func(context.Context, retry.Event) {}}
			if name == "Classify" {
				p.Classify = func(error) retry.Class { panic("a fault") }
			}
			b.RecordFailure()
			open, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			<-open.Done()
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s: the panic did not pass", name)
					}
				}()
				_ = retry.Do(t.Context(), &p, func(context.Context) error { return fmt.Errorf("x: %w", err) })
			}()
			p.Classify = nil
			if err := retry.Do(t.Context(), &p, func(context.Context) error { return nil }); err != nil {
				t.Errorf("%s: the probe's place was not given back: %v", name, err)
			}
		})
	}
}

// Errors that wrap themselves, or a new error each time.
type (
	ring    struct{ next error }
	well    struct{ depth int }
	tree    struct{ depth int }
	flooded struct{}
)

func (r *ring) Error() string     { return "a ring" }
func (r *ring) Unwrap() error     { return r.next }
func (w well) Error() string      { return "a well" }
func (w well) Unwrap() error      { return well{w.depth + 1} }
func (tr tree) Error() string     { return "a tree" }
func (tr tree) Unwrap() []error   { return []error{tree{tr.depth + 1}, tree{tr.depth + 1}} }
func (f flooded) Error() string   { return "a flood" }
func (f flooded) Unwrap() []error { return make([]error, 1<<20) }

// Every walk through an error ends.
func TestEndlessErrors(t *testing.T) {
	t.Parallel()
	one := &ring{}
	one.next = one
	two := &ring{}
	two.next = fmt.Errorf("x: %w", two)
	for _, err := range []error{one, two, well{}, tree{}, flooded{}, errors.Join(one, tree{}), retry.Final(one)} {
		p := retry.Policy{
			RetryOn: []string{"default", "Code", "503", "timeout"}, IgnoreOn: []string{"connection", "40001"}, MaxAttempts: 2,
			Breaker: breaker(circuit.Config{}),
		}
		calls := 0
		got := retry.Do(t.Context(), &p, func(context.Context) error { calls++; return err })
		if calls != 1 || got != err { //nolint:errorlint // as itself
			t.Errorf("%v: %d calls, %v", err, calls, got)
		}
		if class, hint := p.ClassOf(err); class != unknown || hint != 0 {
			t.Errorf("%v: %v, %v", err, class, hint)
		}
		e := &retry.Error{Stop: retry.ErrExhausted, Last: err}
		if e.Timeout() || e.Error() == "" {
			t.Errorf("%v: %v", err, e)
		}
		if err := p.Breaker.Do(t.Context(), func(context.Context) error { return err }); err == nil {
			t.Error("no error of the breaker's Do")
		}
	}
	deep := error(&coded{code: "SlowDown"})
	for range 90 {
		deep = fmt.Errorf("x: %w", deep)
	}
	if class, _ := new(retry.Policy).ClassOf(deep); class != throttled {
		t.Errorf("90 deep: %v", class)
	}
}
