package circuit

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

var errDown = errors.New("the service is down")

// quiet is c with an observer that says nothing.
func quiet(c Config) Config {
	if c.Observe == nil {
		c.Observe = func(context.Context, Transition) {}
	}
	return c
}

// opened returns a breaker that its rules have just opened.
func opened(t *testing.T, c Config) *Breaker {
	t.Helper()
	b := New("s3_upload", quiet(c))
	if b.invalid() != nil {
		t.Fatal(b.invalid())
	}
	for i := range c.filled().FailureThreshold {
		p, err := b.Acquire()
		if err != nil {
			t.Fatalf("call %d: %v", i+1, err)
		}
		p.Failure()
	}
	if s := b.State(); s != Open {
		t.Fatalf("after the failures the breaker is %v", s)
	}
	return b
}

// probing returns a breaker whose one probe is out, and the probe.
func probing(t *testing.T, c Config) (*Breaker, Permit) {
	t.Helper()
	b := opened(t, c)
	after(c.filled().RecoveryTimeout)
	p, err := b.Acquire()
	if err != nil || !p.Probe() {
		t.Fatalf("when the time is up: %v, a probe: %v", err, p.Probe())
	}
	return b, p
}

// after lets d pass in the bubble.
func after(d time.Duration) { <-time.After(d) }

func TestOpensAtTheThreshold(t *testing.T) {
	for n, want := range map[int]int{0: 5, 1: 1, 2: 2, 7: 7, 1000: 1000} {
		b := New("x", quiet(Config{FailureThreshold: n}))
		for range want - 1 {
			b.RecordFailure()
		}
		if s := b.State(); s != Closed {
			t.Errorf("threshold %d: %v one failure before it", n, s)
		}
		b.RecordSuccess() // consecutive means consecutive
		for range want - 1 {
			b.RecordFailure()
		}
		if s := b.State(); s != Closed {
			t.Errorf("threshold %d: %v though a success came between", n, s)
		}
		if b.RecordFailure(); b.State() != Open {
			t.Errorf("threshold %d: %v after %d failures", n, b.State(), want)
		}
	}
}

func TestOpenForExactlyTheRecoveryTimeout(t *testing.T) {
	for _, c := range []struct{ timeout, want, set time.Duration }{
		{0, 30 * time.Second, 0},
		{0, 30 * time.Second, 1},
		{0, 30 * time.Second, 500_000},
		{0, 30 * time.Second, 999_999},
		{7 * time.Second, 7 * time.Second, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			after(time.Second + c.set)
			b := opened(t, Config{RecoveryTimeout: c.timeout})
			at := b.peek().RetryAt
			if late := time.Until(at) - c.want; late < 0 || late >= time.Millisecond {
				t.Fatalf("RetryAt is %v after %v", late, c.want)
			}
			after(time.Until(at) - 1)
			if b.State() != Open || b.peek() == nil || b.Allow() {
				t.Errorf("opened %v past the millisecond: a nanosecond before RetryAt it is %v", c.set, b.State())
			}
			after(1)
			if b.State() != HalfOpen || b.peek() != nil || !b.Allow() {
				t.Errorf("opened %v past the millisecond: at RetryAt it is %v", c.set, b.State())
			}
		})
	}
}

func TestOneProbeOfAHundred(t *testing.T) {
	for _, probes := range []int{1, 3, 31} {
		synctest.Test(t, func(t *testing.T) {
			b := opened(t, Config{HalfOpenMax: probes, SuccessThreshold: probes})
			var ran, refused atomic.Int32
			for range 100 {
				go func() {
					after(30 * time.Second)
					err := b.Do(t.Context(), func(context.Context) error {
						ran.Add(1)
						after(time.Second)
						return nil
					})
					if open, ok := errors.AsType[*OpenError](err); ok && open.State == HalfOpen {
						refused.Add(1)
					}
				}()
			}
			after(30 * time.Second)
			synctest.Wait()
			if ran.Load() != int32(probes) || refused.Load() != int32(100-probes) {
				t.Errorf("%d ran and %d were refused as half-open; want %d and %d",
					ran.Load(), refused.Load(), probes, 100-probes)
			}
			if m := b.Metrics(); m.Probes != uint64(probes) || m.Rejected != uint64(100-probes) {
				t.Errorf("the metrics say %d probes, %d rejected", m.Probes, m.Rejected)
			}
			after(time.Second)
			synctest.Wait()
			if b.State() != Closed {
				t.Errorf("after %d successful probes it is %v", probes, b.State())
			}
		})
	}
}

// The same with goroutines on a real clock, for the race detector, and for the order in
// which state and clock are read.
func TestOneProbeInRealTime(t *testing.T) {
	for range 20 {
		b := New("x", quiet(Config{FailureThreshold: 1, RecoveryTimeout: time.Millisecond}))
		b.RecordFailure()
		start, ran := make(chan struct{}), atomic.Int32{}
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				<-start
				for b.State() == Open {
					runtime.Gosched()
				}
				if _, err := b.Acquire(); err == nil {
					ran.Add(1)
				}
			})
		}
		close(start)
		all.Wait()
		if ran.Load() != 1 {
			t.Fatalf("%d probes ran", ran.Load())
		}
	}
}

func TestProbeThatDoesNotReturnWell(t *testing.T) {
	stop, cancelled := make(chan struct{}), errors.New("cancelled")
	for name, probe := range map[string]struct {
		run   func(context.Context) error
		state State         // once it has ended, or hangs
		wait  time.Duration // until the next probe may go
	}{
		"fails":   {func(context.Context) error { return errDown }, Open, 30 * time.Second},
		"panics":  {func(context.Context) error { panic("boom") }, HalfOpen, 0},
		"Goexit":  {func(context.Context) error { runtime.Goexit(); return nil }, HalfOpen, 0},
		"hangs":   {func(context.Context) error { <-stop; return nil }, HalfOpen, 30 * time.Second},
		"cancels": {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, HalfOpen, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stop = make(chan struct{})
				b := opened(t, Config{})
				after(30 * time.Second)
				ctx, cancel := context.WithCancelCause(t.Context())
				go func() {
					defer func() { _ = recover() }()
					_ = b.Do(ctx, probe.run)
				}()
				synctest.Wait()
				cancel(cancelled)
				synctest.Wait()
				if s := b.State(); s != probe.state {
					t.Errorf("it is %v, want %v", s, probe.state)
				}
				if probe.wait > 0 {
					after(probe.wait - time.Millisecond)
					if b.Allow() {
						t.Error("the next probe goes too early")
					}
					after(time.Millisecond)
				}
				if err := b.Do(t.Context(), func(context.Context) error { return nil }); err != nil {
					t.Errorf("the next probe: %v", err)
				}
				if s := b.State(); s != Closed {
					t.Errorf("after a successful probe it is %v", s)
				}
				close(stop)
			})
		})
	}
}

// A probe that ends after its lease neither opens nor closes the breaker: another probe
// has closed it.
func TestLateProbeIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, late := probing(t, Config{SuccessThreshold: 2})
		after(30 * time.Second)
		next, err := b.Acquire()
		if err != nil {
			t.Fatalf("when the lease is over: %v", err)
		}
		for _, result := range []func(){late.Success, late.Failure, late.Cancel} {
			result()
			if m := b.Metrics(); m.State != HalfOpen || b.Allow() {
				t.Fatalf("a late result leads to %+v", m)
			}
		}
		next.Success()
		last, err := b.Acquire()
		if err != nil {
			t.Fatal(err)
		}
		last.Success()
		late.Failure()
		if s := b.State(); s != Closed {
			t.Errorf("after two successes it is %v", s)
		}
	})
}

// evidence returns all that a breaker knows of its calls.
func evidence(b *Breaker) (words [1 + 2*cell.Buckets]uint64) {
	c := b.cell.Load()
	words[0] = c.Breaker.Load()
	for i := range c.Window {
		words[1+2*i], words[2+2*i] = c.Window[i].Calls.Load(), c.Window[i].Slow.Load()
	}
	return words
}

// Results of calls admitted before the trip change nothing, whenever they are recorded.
func TestLateResultsChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("x", quiet(Config{Window: time.Minute, FailureRatio: .9}))
		var late []Permit
		for range 300 {
			p, err := b.Acquire()
			if err != nil {
				t.Fatal(err)
			}
			late = append(late, p)
		}
		return100 := func(then string) {
			t.Helper()
			before := evidence(b)
			for i, p := range late[:60] {
				[]func(){p.Success, p.Failure, p.Cancel}[i%3]()
			}
			late = late[60:]
			if now := evidence(b); now != before {
				t.Errorf("late results changed a breaker that was %s from %v to %v", then, before, now)
			}
		}
		for range 5 {
			b.RecordFailure()
		}
		return100("open")
		after(30 * time.Second)
		return100("open, its time up")
		p, err := b.Acquire()
		if err != nil {
			t.Fatal(err)
		}
		return100("half-open")
		p.Success()
		return100("closed again")
		b.Isolate()
		return100("isolated")
	})
}

func TestTrio(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("s3_upload", quiet(Config{FailureThreshold: 5, RecoveryTimeout: 30 * time.Second}))
		for i := range 5 {
			if !b.Allow() {
				t.Fatalf("call %d is not allowed", i+1)
			}
			b.RecordFailure()
		}
		if b.Allow() {
			t.Error("a call is allowed though the breaker is open")
		}
		b.RecordFailure()
		b.RecordSuccess() // of calls that began before: an open breaker stays so
		if b.State() != Open {
			t.Errorf("it is %v", b.State())
		}
		after(30 * time.Second)
		if !b.Allow() || b.Allow() {
			t.Error("not exactly one probe is allowed")
		}
		after(30 * time.Second)
		if !b.Allow() {
			t.Error("a probe that was forgotten shuts the breaker beyond its lease")
		}
		if b.RecordSuccess(); b.State() != Closed {
			t.Errorf("after the probe's success it is %v", b.State())
		}
		b.Trip()
		after(30 * time.Second)
		b.Allow()
		if b.RecordFailure(); b.State() != Open {
			t.Errorf("after the probe's failure it is %v", b.State())
		}
	})
}

func TestOpenError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := probing(t, Config{})
		half, _ := errors.AsType[*OpenError](b.Do(t.Context(), nil))
		b.RecordFailure()
		open, _ := errors.AsType[*OpenError](b.Do(t.Context(), nil))
		b.Isolate()
		isolated, _ := errors.AsType[*OpenError](b.Do(t.Context(), nil))
		b.Reset()
		for range 5 {
			b.current().Throttled(2 * time.Hour)
		}
		held, _ := errors.AsType[*OpenError](b.Do(t.Context(), nil))
		now := time.Now()
		for _, row := range []struct {
			got     *OpenError
			state   State
			retryAt time.Duration
		}{{half, HalfOpen, 30 * time.Second}, {open, Open, 30 * time.Second}, {isolated, Isolated, -1}, {held, Open, 2 * time.Hour}} {
			if row.got == nil || row.got.Name != "s3_upload" || row.got.State != row.state {
				t.Fatalf("got %#v, want s3_upload and %v", row.got, row.state)
			}
			if row.retryAt < 0 {
				if !row.got.RetryAt.IsZero() {
					t.Errorf("%v: RetryAt is %v, want none", row.state, row.got.RetryAt)
				}
			} else if d := row.got.RetryAt.Sub(now) - row.retryAt; d < 0 || d > 2*time.Millisecond {
				t.Errorf("%v: RetryAt is off by %v", row.state, d)
			}
		}
		text := open.Error()
		if want := `circuit breaker "s3_upload" is open; next probe at 2000-01-01T00:01:30Z`; !strings.HasPrefix(
			strings.ReplaceAll(text, open.RetryAt.Format(time.RFC3339), "2000-01-01T00:01:30Z"), want) {
			t.Errorf("text %q, want %q", text, want)
		}
		if text, want := isolated.Error(), `circuit breaker "s3_upload" is isolated until a reset`; text != want {
			t.Errorf("text %q, want %q", text, want)
		}
	})
}

func TestDo(t *testing.T) {
	b := New("x", quiet(Config{FailureThreshold: 1}))
	cause := errors.New("the caller's reason")
	ctx, cancel := context.WithCancelCause(t.Context())
	if err := b.Do(ctx, func(context.Context) error { cancel(cause); return ctx.Err() }); !errors.Is(err, context.Canceled) {
		t.Errorf("the function's error became %v", err)
	}
	if b.State() != Closed {
		t.Error("a call that its caller cancelled counts as a failure")
	}
	if err := b.Do(ctx, func(context.Context) error { t.Error("called"); return nil }); !errors.Is(err, cause) {
		t.Errorf("with a context that is done: %v, want its cause", err)
	}
	late, stop := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer stop()
	if err := b.Do(late, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	func() {
		defer func() {
			if recover() != "boom" {
				t.Error("the panic does not pass through")
			}
		}()
		_ = b.Do(t.Context(), func(context.Context) error { panic("boom") })
	}()
	if b.State() != Closed {
		t.Error("a panic counts as a failure")
	}
	if err := b.Do(t.Context(), func(context.Context) error { return errDown }); err != errDown { //nolint:errorlint // as itself
		t.Errorf("the function's error became %v", err)
	}
	if b.State() != Open {
		t.Error("an error does not count as a failure")
	}
}
