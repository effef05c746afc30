package metrics_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/fallback"
	"github.com/seed-0f2c7998/perdure/hedge"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/retry"
)

var errDown = errors.New("down")

// values returns the value of each series of s whose name begins with prefix, by its name
// and its labels without their names, such as "perdure_calls_total fetch s3 failure exhausted".
func values(s metrics.Snapshot, prefix string) map[string]float64 {
	all := map[string]float64{}
	for _, f := range s.Families {
		for _, sample := range f.Samples {
			id := f.Name + sample.Suffix
			for _, l := range sample.Labels {
				id += " " + l.Value
			}
			if strings.HasPrefix(id, prefix) && sample.Value != 0 {
				all[id] = sample.Value
			}
		}
	}
	return all
}

// A twin counts naively what its operations see from outside.
type twin struct {
	mu     sync.Mutex
	counts map[string]float64
}

func (w *twin) add(name string, labels ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[strings.TrimSuffix(fmt.Sprintln(append([]any{name}, labels...)...), "\n")]++
}

// An operation makes one random operation and counts it.
func (w *twin) operation(ctx context.Context, p *retry.Policy, r *rand.Rand) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	made := 0
	if r.IntN(20) == 0 {
		cancel()
	}
	err := retry.Do(ctx, p, func(context.Context) error {
		made++
		number := fmt.Sprint(made)
		if made > 3 {
			number = "4+"
		}
		class, err := outcome(r)
		if r.IntN(30) == 0 && err != nil {
			cancel()
			class = "ignored"
		}
		w.add("perdure_attempts_total", p.Name, p.Breaker.Name(), number, class)
		return err
	})
	kind, reason := "failure", "permanent"
	gave, open := (*retry.Error)(nil), (*circuit.OpenError)(nil)
	switch {
	case err == nil:
		kind, reason = "success", ""
	case errors.As(err, &gave):
		reason = gave.Reason.String()
	case made == 0 && errors.As(err, &open):
		kind, reason = "refused", "breaker_open"
	}
	if ctx.Err() != nil && err != nil {
		kind, reason = "cancelled", "cancelled"
	}
	w.add("perdure_calls_total", p.Name, p.Breaker.Name(), kind, reason)
	for _, bound := range []int{0, 1, 2, 3, 5, 10} {
		if made-1 <= bound {
			w.add("perdure_call_retries_bucket", p.Name, p.Breaker.Name(), bound)
		}
	}
	w.add("perdure_call_retries_bucket", p.Name, p.Breaker.Name(), "+Inf")
	w.add("perdure_call_retries_count", p.Name, p.Breaker.Name())
	for range made - 1 {
		w.add("perdure_call_retries_sum", p.Name, p.Breaker.Name())
	}
}

// outcome returns a random error and its class.
func outcome(r *rand.Rand) (class string, err error) {
	switch n := r.IntN(20); {
	case n < 8:
		return "success", nil
	case n < 14:
		return "transient", retry.Transient(errDown)
	case n < 15:
		return "throttled", retry.After(errDown, time.Nanosecond)
	case n < 17:
		return "conflict", retry.Conflict(errDown)
	case n < 18:
		return "permanent", retry.Permanent(errDown)
	case n < 19:
		return "ignored", retry.Ignored(errDown)
	default:
		return "unknown", errDown
	}
}

// What a Registry counts of random operations of several policies, on many goroutines, is
// exactly what they see from outside: so all sums agree.
func TestCountsAreExact(t *testing.T) {
	for seed := range uint64(6) {
		var r metrics.Registry
		w := twin{counts: map[string]float64{}}
		quiet := func(context.Context, retry.Event) {}
		base := retry.Policy{BaseDelay: 1, Jitter: retry.NoJitter, Observe: quiet, Metrics: &r}
		policies := []retry.Policy{base, base, base, base, base}
		for i, name := range []string{"plain", "many", "timed", "guarded", "budget"} {
			policies[i].Name = name
		}
		policies[1].MaxAttempts = 14
		policies[2].MaxElapsed = time.Hour
		log := func(context.Context, circuit.Transition) {}
		recovery := [...]time.Duration{time.Millisecond, time.Hour}[seed%2]
		policies[3].Breaker = circuit.New("service", circuit.Config{Observe: log, FailureThreshold: 3, RecoveryTimeout: recovery}) // 5 failures in a row do not occur in each run
		policies[4].Breaker = circuit.New("bucket", circuit.Config{Observe: log, Budget: 10, FailureThreshold: 1000})
		var all sync.WaitGroup
		for worker := range uint64(8) {
			random := rand.New(rand.NewPCG(seed, worker))
			all.Go(func() {
				for i := range 500 {
					w.operation(t.Context(), &policies[i%len(policies)], random)
				}
			})
		}
		all.Wait()
		got := values(r.Snapshot(), "perdure_attempts")
		maps.Copy(got, values(r.Snapshot(), "perdure_call"))
		if !maps.Equal(got, w.counts) {
			for id := range got {
				if got[id] != w.counts[id] {
					t.Errorf("seed %d: %s is %v, want %v", seed, id, got[id], w.counts[id])
				}
			}
			for id := range w.counts {
				if _, ok := got[id]; !ok {
					t.Errorf("seed %d: no %s, want %v", seed, id, w.counts[id])
				}
			}
		}
		checkSums(t, seed, r.Snapshot())
		if seed%2 == 1 && w.counts["perdure_calls_total guarded service refused breaker_open"] == 0 || w.counts["perdure_calls_total budget bucket failure budget"] == 0 {
			t.Errorf("seed %d: the breaker and the budget refused nothing", seed)
		}
	}
}

// checkSums checks that retries are the attempts that are not first ones, and that each
// retry that the budget denied ended an operation.
func checkSums(t *testing.T, seed uint64, s metrics.Snapshot) {
	t.Helper()
	retries, later := map[string]float64{}, map[string]float64{}
	denied := 0.0
	for _, f := range s.Families {
		for _, sample := range f.Samples {
			operation := sample.Labels[0].Value
			switch {
			case sample.Suffix == "_sum":
				retries[operation] += sample.Value
			case f.Name == "perdure_attempts" && sample.Labels[2].Value != "1":
				later[operation] += sample.Value
			case f.Name == "perdure_calls" && sample.Labels[3].Value == "budget":
				denied += sample.Value
			case f.Name == "perdure_budget_denials":
				denied -= sample.Value
			}
		}
	}
	for operation, n := range retries {
		if later[operation] != n {
			t.Errorf("seed %d, %s: %v retries, but %v attempts after the first", seed, operation, n, later[operation])
		}
	}
	if denied != 0 {
		t.Errorf("seed %d: %v more operations ended for the budget than it denied retries", seed, denied)
	}
}

// 10,000 names of operations and breakers grow neither the page nor memory without bound,
// and nothing that they count is lost.
func TestLabelsAreBounded(t *testing.T) {
	var r metrics.Registry
	const n = 10_000
	for i := range n {
		p := retry.Policy{Name: fmt.Sprintf("operation %d of %s", i, strings.Repeat("x", 300)), Metrics: &r}
		if i%3 == 0 {
			p.Name += strings.Repeat("y", 1000)
		}
		if i%2 == 0 {
			p.Breaker = circuit.New(fmt.Sprint("key ", i), circuit.Config{})
		}
		if err := retry.Do(t.Context(), &p, func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	calls, breakers := 0.0, 0
	for _, f := range r.Snapshot().Families {
		for _, s := range f.Samples {
			for _, l := range s.Labels {
				if len(l.Value) > 200 {
					t.Fatalf("a label of %d bytes", len(l.Value))
				}
			}
			if f.Name == "perdure_calls" {
				calls += s.Value
			}
		}
		switch {
		case f.Name == "perdure_calls" && len(f.Samples) > 1001:
			t.Errorf("%d series of %s, want at most 1001", len(f.Samples), f.Name)
		case f.Name == "perdure_breaker_trips":
			breakers = len(f.Samples)
		}
	}
	if calls != n {
		t.Errorf("%v operations are counted, want %d", calls, n)
	}
	if breakers > 1000 {
		t.Errorf("%d breakers, want at most 1000", breakers)
	}
	if got := values(r.Snapshot(), "perdure_calls_total other other"); got["perdure_calls_total other other success "] < n-2000 {
		t.Errorf("of those beyond the limit %v are counted under other", got)
	}
}

// A pair that a user has named other and other is the series of those beyond the limit: two of one name would be refused
// by Prometheus.
func TestAnOperationNamedOther(t *testing.T) {
	t.Parallel()
	var r metrics.Registry
	for _, name := range []string{"other", strings.Repeat("x", 1001)} {
		p := retry.Policy{Name: name, Breaker: circuit.New("other", circuit.Config{}), Metrics: &r}
		if err := retry.Do(t.Context(), &p, func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	var text bytes.Buffer
	if err := r.Snapshot().Write(&text, metrics.Text); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(text.String()) {
		series, _, _ := strings.Cut(line, "} ")
		if strings.Contains(series, `operation="other"`) && seen[series] {
			t.Errorf("twice: %s", series)
		}
		seen[series] = true
	}
	if total := `perdure_calls_total{operation="other",key="other",outcome="success",reason=""} 2`; !strings.Contains(text.String(), total+"\n") {
		t.Errorf("%s is missing of\n%s", total, text.String())
	}
}

// Breakers of one name, a new one for each operation, are one series.
func TestManyBreakersOfOneName(t *testing.T) {
	var r metrics.Registry
	for range 5000 {
		p := retry.Policy{Name: "job", Breaker: circuit.New("key", circuit.Config{}), Metrics: &r}
		if err := retry.Do(t.Context(), &p, func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if got := values(r.Snapshot(), "perdure_calls"); got["perdure_calls_total job key success "] != 5000 {
		t.Errorf("got %v, want 5000 operations of one series", got)
	}
}

// Waits count by what they were for: the delay before a retry, the rate, a place, a gate.
func TestWaitsByCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r metrics.Registry
		quiet := func(context.Context, retry.Event) {}
		p := retry.Policy{Name: "slow", BaseDelay: 3 * time.Second, Jitter: retry.NoJitter, Observe: quiet, Metrics: &r}
		failures := 1
		f := func(context.Context) error {
			if failures--; failures >= 0 {
				return retry.Transient(errDown)
			}
			return nil
		}
		if err := retry.Do(t.Context(), &p, f); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		failures = 10
		_ = retry.Do(ctx, &p, f) // ends after one more wait of 3 s, the second being too long
		p.Name, p.Breaker = "rate", circuit.New("rate", circuit.Config{Rate: 0.5, Burst: 1})
		failures = 0
		for range 2 {
			if err := retry.Do(t.Context(), &p, f); err != nil {
				t.Fatal(err)
			}
		}
		one := retry.Policy{Name: "place", Breaker: circuit.New("place", circuit.Config{Concurrency: 1}), Observe: quiet, Metrics: &r}
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				_ = retry.Do(t.Context(), &one, func(context.Context) error { <-time.After(7 * time.Second); return nil })
			})
		}
		both.Wait()
		got, want := values(r.Snapshot(), "perdure_wait_seconds"), map[string]float64{
			"perdure_wait_seconds_total slow  backoff":           6,
			"perdure_wait_seconds_total rate rate rate":          2,
			"perdure_wait_seconds_total place place concurrency": 7,
		}
		if !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// A retry whose caller gives up while it waits counts the time that it has waited, not the
// time that it would have waited.
func TestWaitThatIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r metrics.Registry
		p := retry.Policy{Name: "cut", BaseDelay: time.Hour, MaxDelay: time.Hour, Jitter: retry.NoJitter, Metrics: &r}
		p.Observe = func(context.Context, retry.Event) {}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2*time.Second, cancel)
		_ = retry.Do(ctx, &p, func(context.Context) error { return retry.Transient(errDown) })
		got := values(r.Snapshot(), "perdure_")
		if got["perdure_wait_seconds_total cut  backoff"] != 2 || got["perdure_calls_total cut  cancelled cancelled"] != 1 {
			t.Errorf("got %v, want a wait of 2 s and one cancelled operation", got)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r metrics.Registry
		p := retry.Policy{Name: "asked", Metrics: &r, Observe: func(context.Context, retry.Event) {}}
		for _, wait := range []time.Duration{10 * time.Second, time.Hour} {
			first := true
			_ = retry.Do(t.Context(), &p, func(context.Context) error {
				if first {
					first = false
					return retry.After(errDown, wait)
				}
				return nil
			})
		}
		got, want := values(r.Snapshot(), "perdure_retry_after"), map[string]float64{
			"perdure_retry_after_total asked  asked": 2, "perdure_retry_after_seconds_total asked  asked": 3610,
			"perdure_retry_after_total asked  obeyed": 1, "perdure_retry_after_seconds_total asked  obeyed": 10,
			"perdure_retry_after_total asked  refused": 1, "perdure_retry_after_seconds_total asked  refused": 3600,
		}
		if !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// Metrics from a variable of type *metrics.Registry that is nil count nothing, like no Metrics.
func TestNilRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var none *metrics.Registry
		p := retry.Policy{Metrics: none, Observe: func(context.Context, retry.Event) {}}
		h := hedge.Hedge[int]{Metrics: none, After: time.Second}
		f := fallback.Policy{Metrics: none, Observe: func(context.Context, fallback.Event) {}}
		for _, p.Breaker = range []*circuit.Breaker{nil, circuit.New("b", circuit.Config{FailureThreshold: 100})} {
			for failures := range 3 {
				v, err := fallback.Value(t.Context(), &f, func(ctx context.Context) (int, error) {
					return retry.Value(ctx, &p, func(ctx context.Context) (int, error) {
						if failures--; failures >= 0 {
							return 0, retry.Transient(errDown)
						}
						return hedge.Value(ctx, &h, func(context.Context) (int, error) {
							<-time.After(90 * time.Second)
							return 0, io.ErrUnexpectedEOF
						})
					})
				}, func(context.Context, error) (int, error) { return 1, nil })
				if v != 1 || err != nil {
					t.Errorf("%d, %v", v, err)
				}
			}
			if err := retry.Do(t.Context(), &p, func(context.Context) error { return nil }); err != nil {
				t.Error(err)
			}
		}
	})
}
