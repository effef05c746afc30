package circuit

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/class"
)

// throttle makes n calls that are throttled, and asked to wait.
func throttle(b *Breaker, n int, wait time.Duration) {
	for range n {
		if p, err := b.Acquire(); err == nil {
			p.Throttled(wait)
		}
	}
}

// A Retry-After delays other calls only while the gate is shut, and then until its end,
// when one call is admitted and no herd.
func TestARetryAfterAtAGate(t *testing.T) {
	const asked = 10 * time.Second
	for name, tc := range map[string]struct {
		config Config
		before func(t *testing.T, b *Breaker)
		until  time.Duration // from which on a call that does not wait is admitted, at most half a second later
		held   bool          // it is until that because of the Retry-After
	}{
		"one response delays no call":    {before: func(_ *testing.T, b *Breaker) { throttle(b, 1, asked) }},
		"four delay no call":             {before: func(_ *testing.T, b *Breaker) { throttle(b, 4, asked) }},
		"five delay all calls":           {before: func(_ *testing.T, b *Breaker) { throttle(b, 5, asked) }, until: asked, held: true},
		"the longest wait counts":        {before: func(_ *testing.T, b *Breaker) { throttle(b, 1, asked); throttle(b, 4, time.Second) }, until: asked, held: true},
		"of no wait only probes go":      {before: func(_ *testing.T, b *Breaker) { throttle(b, 5, 0) }, until: 40 * time.Millisecond},
		"of a day and more none is kept": {before: func(_ *testing.T, b *Breaker) { throttle(b, 5, 25*time.Hour) }, until: 40 * time.Millisecond},
		"what is from before a success is over": {before: func(_ *testing.T, b *Breaker) {
			throttle(b, 4, asked)
			b.RecordSuccess()
			throttle(b, 5, 0)
		}, until: 40 * time.Millisecond},
		"a response ends it": {before: func(t *testing.T, b *Breaker) {
			t.Helper()
			p, err := b.Acquire()
			if err != nil {
				t.Fatal(err)
			}
			throttle(b, 5, asked)
			p.Success()
		}},
		"a reset ends it":               {before: func(_ *testing.T, b *Breaker) { throttle(b, 5, asked); b.Reset() }},
		"observing only delays no call": {config: Config{ObserveOnly: true}, before: func(_ *testing.T, b *Breaker) { throttle(b, 5, asked) }, held: true},
		"Do refuses a hint that its caller would not wait for": {before: func(t *testing.T, b *Breaker) {
			t.Helper()
			for range 5 {
				_ = b.Do(t.Context(), func(context.Context) error {
					return &class.Mark{Err: errors.New("429"), Class: class.Throttled, Wait: 2 * time.Minute}
				})
			}
		}, until: 40 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, mode := range []GateMode{Wait, FailFast} {
					tc.config.Gate = mode
					b := gated(t, tc.config)
					start := time.Now()
					tc.before(t, b)
					if at := b.notBefore(); tc.held != at.Equal(start.Add(asked)) || !tc.held && !at.IsZero() {
						t.Errorf("not before %v, from now %v", at, at.Sub(start))
					}
					for {
						p, err := b.Acquire()
						if err == nil {
							p.Cancel()
							break
						}
						if open, ok := errors.AsType[*OpenError](err); !ok || tc.held && !open.RetryAt.Equal(start.Add(asked)) {
							t.Fatalf("after %v: %v, want one that says when the wait is over", time.Since(start), err)
						}
						pause(t.Context(), 5*time.Millisecond)
					}
					if waited := time.Since(start); waited < tc.until || waited > tc.until+500*time.Millisecond {
						t.Errorf("a call is admitted after %v, want %v", waited, tc.until)
					}
					if _, err := b.Acquire(); tc.until > 0 && err == nil {
						t.Error("two calls are admitted at the end of the wait")
					}
				}
			})
		})
	}
}

// The first throttled response limits a gate that has seen no success, but it may concern one tenant
// or path: its Retry-After delays no other call. That of the second does.
func TestOneRetryAfterDelaysNoOtherCallAtAColdGate(t *testing.T) {
	for n, want := range map[int]time.Duration{1: 0, 2: 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			b := New("s", quiet(Config{Gate: Wait}))
			var permits []Permit
			for range n {
				p, err := b.Acquire()
				if err != nil {
					t.Fatal(err)
				}
				permits = append(permits, p)
			}
			start := time.Now()
			for _, p := range permits {
				p.Throttled(10 * time.Second)
			}
			if m := b.Metrics(); !m.Limited || m.State != Open || m.NotBefore.IsZero() != (want == 0) {
				t.Errorf("after %d throttled responses the breaker is %v, not before %v", n, m.State, m.NotBefore)
			}
			err := b.Do(t.Context(), func(context.Context) error { return nil })
			if waited := time.Since(start); err != nil || waited < want || waited > want+2500*time.Millisecond {
				t.Errorf("after %d throttled responses the next call ends with %v after %v, want %v", n, err, waited, want)
			}
		})
	}
}

// A call that would wait for a Retry-After beyond its deadline is refused at once; others
// wait.
func TestWhoWaitsForARetryAfterAtAGate(t *testing.T) {
	for _, tc := range []struct{ patience, waits time.Duration }{
		{3 * time.Second, 0}, {10 * time.Second, 0}, {20 * time.Second, 10 * time.Second}, {0, 10 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := gated(t, Config{Gate: Wait})
			throttle(b, 5, 10*time.Second)
			ctx := t.Context()
			if tc.patience > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, tc.patience)
				defer cancel()
			}
			start := time.Now()
			err := b.Do(ctx, func(context.Context) error { return nil })
			waited := time.Since(start)
			open, refused := errors.AsType[*OpenError](err)
			switch {
			case waited < tc.waits, waited > tc.waits+20*time.Millisecond, refused != (tc.waits == 0):
				t.Errorf("with a patience of %v: %v after %v", tc.patience, err, waited)
			case refused && !open.RetryAt.Equal(start.Add(10*time.Second)):
				t.Errorf("retry at %v, want 10s after %v", open.RetryAt, start)
			}
		})
	}
}
