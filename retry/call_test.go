package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	adapters "github.com/seed-0f2c7998/perdure/internal/calls"
	"github.com/seed-0f2c7998/perdure/retry"
)

// loop is the loop of another client, such as an adapter.
func loop(ctx context.Context, p *retry.Policy, f func(context.Context) error) error {
	c, err := adapters.Begin(ctx, p)
	if err != nil {
		return err
	}
	for {
		if err := c.Admit(ctx); err != nil {
			return err
		}
		err := f(ctx)
		if err == nil {
			c.Succeeded(ctx)
			return nil
		}
		delay, stop := c.Failed(ctx, err)
		if stop != nil {
			return stop
		}
		wait, cancel := context.WithTimeout(ctx, delay)
		<-wait.Done()
		cancel()
	}
}

// The first attempt is made by the caller.
func continued(ctx context.Context, p *retry.Policy, f func(context.Context) error) error {
	permit, err := p.Breaker.Acquire()
	if err != nil {
		return err
	}
	return adapters.Continue(ctx, p, permit, time.Time{}, f(ctx), f)
}

// The loop of another client does exactly what Do does, and so does Continue after a
// first attempt: the instants, events, errors and the state of breaker and budget are
// the same.
func TestCallIsDo(t *testing.T) {
	t.Parallel()
	denied := &coded{code: "AccessDenied", status: 403}
	type run func(context.Context, *retry.Policy, func(context.Context) error) error
	for name, results := range map[string][]error{
		"success":       nil,
		"second":        {errDown},
		"exhausted":     {errDown, errDown, errDown, errDown, errDown},
		"permanent":     {denied},
		"later":         {errDown, denied},
		"hint":          {retry.After(errDown, 20*time.Second), errDown},
		"too long":      {retry.After(errDown, time.Hour)},
		"nested":        {&retry.Error{Stop: retry.ErrExhausted}},
		"trips":         {errDown, errDown, errDown, errDown},
		"ignored":       {context.Canceled},
		"refused again": {&circuit.OpenError{Name: "x"}},
	} {
		type outcome struct {
			text, kinds string
			attempts    int
			took        time.Duration
			metrics     circuit.Metrics
		}
		measure := func(do run) (o outcome) {
			synctest.Test(t, func(t *testing.T) {
				var r record
				b := breaker(circuit.Config{FailureThreshold: 4, Budget: 10})
				breakers.Refund(b, 200)
				p := retry.Policy{Name: name, Breaker: b, Jitter: retry.NoJitter, Observe: r.observe, Classify: func(err error) retry.Class {
					return map[bool]retry.Class{true: transient}[errors.Is(err, errDown)]
				}}
				begin := time.Now()
				f, made := calls(results...)
				if err := do(t.Context(), &p, f); err != nil {
					o.text = err.Error()
				}
				o.kinds, o.attempts, o.took, o.metrics = r.kinds(), made.n, time.Since(begin), b.Metrics()
			})
			return o
		}
		do := measure(retry.Do)
		if call := measure(loop); do != call {
			t.Errorf("%s: Do gives\n%+v, a Call\n%+v", name, do, call)
		}
		if c := measure(continued); do != c {
			t.Errorf("%s: Do gives\n%+v, Continue\n%+v", name, do, c)
		}
	}
}

// Attempt returns the attempt's number, and a cancelled attempt releases its permit.
func TestCallAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		b := breaker(open(time.Second))
		b.Trip()
		<-time.After(time.Second)
		c, err := adapters.Begin(ctx, &retry.Policy{Breaker: b, Classify: retry.Always, Jitter: retry.NoJitter})
		if err != nil || c.Attempt() != 0 {
			t.Fatal(err, c.Attempt())
		}
		if err := c.Admit(ctx); err != nil || c.Attempt() != 1 || breakers.Peek(b) != nil {
			t.Fatal(err, c.Attempt())
		}
		if _, err := b.Acquire(); err == nil {
			t.Fatal("the one probe is not out")
		}
		c.Cancel()
		permit, err := b.Acquire()
		if err != nil || !permit.Probe() {
			t.Fatalf("after Cancel: %v, want the next probe", err)
		}
		permit.Success()
	})
}

// Begin returns no Call if the context has ended or the policy is invalid; nil is the
// zero policy.
func TestBegin(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	c, err := adapters.Begin(ctx, nil)
	if err != nil || c.Admit(ctx) != nil {
		t.Fatal(err)
	}
	cause := errors.New("the run was called off")
	cancel(cause)
	if _, err := adapters.Begin(ctx, nil); !errors.Is(err, cause) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the cause", err)
	}
	if _, err := adapters.Begin(t.Context(), &retry.Policy{MaxAttempts: -3}); err == nil {
		t.Error("an invalid policy is begun")
	}
	_, stop := c.Failed(ctx, errDown)
	stopped(t, stop, cause, 1)
}

// Continue returns the result of the first attempt if no attempt follows, and ends its
// wait when the context ends.
func TestContinue(t *testing.T) {
	t.Parallel()
	again := func(context.Context) error { t.Error("an attempt too many"); return nil }
	if err := adapters.Continue(t.Context(), nil, circuit.Permit{}, time.Time{}, nil, again); err != nil {
		t.Errorf("after a success: %v", err)
	}
	if err := adapters.Continue(t.Context(), nil, circuit.Permit{}, time.Time{}, errDown, again); err != errDown { //nolint:errorlint // as itself
		t.Errorf("after an error that is not retried: %v", err)
	}
	b := breaker(circuit.Config{})
	permit, err := b.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	bad := retry.Policy{MaxAttempts: -3, Breaker: b}
	err = adapters.Continue(t.Context(), &bad, permit, time.Time{}, errDown, again)
	if _, ok := errors.AsType[*retry.ConfigError](err); !ok || b.Metrics().Failures != 0 {
		t.Errorf("with an invalid policy: %v, %+v", err, b.Metrics())
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the run was called off")
	cancel(cause)
	err = adapters.Continue(ctx, &retry.Policy{Classify: retry.Always}, circuit.Permit{}, time.Time{}, errDown, again)
	stopped(t, err, cause, 1)
}
