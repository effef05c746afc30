package otelretry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/fallback"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/otelretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A rig is a Telemetry with an SDK that keeps all it gets.
type rig struct {
	*otelretry.Telemetry

	registry *metrics.Registry
	reader   *metric.ManualReader
	spans    *tracetest.InMemoryExporter
	tracers  *sdktrace.TracerProvider
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{registry: new(metrics.Registry), reader: metric.NewManualReader(), spans: tracetest.NewInMemoryExporter()}
	r.tracers = sdktrace.NewTracerProvider(sdktrace.WithSyncer(r.spans))
	var err error
	r.Telemetry, err = otelretry.New(otelretry.Options{
		MeterProvider: metric.NewMeterProvider(metric.WithReader(r.reader)), TracerProvider: r.tracers, Registry: r.registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// policy returns a policy that r observes, whose breaker has the configuration c.
func (r *rig) policy(name string, c circuit.Config) *retry.Policy {
	p := retry.Service()
	c.Observe = r.ObserveTransition
	p.Name, p.Metrics, p.Observe, p.Breaker, p.Timed = name, r.registry, r.Observe, circuit.New(name+" key", c), true
	return &p
}

// within runs f in a recorded span, and returns that span and the spans below it.
func (r *rig) within(t *testing.T, f func(context.Context)) (parent tracetest.SpanStub, below tracetest.SpanStubs) {
	t.Helper()
	r.spans.Reset()
	ctx, span := r.tracers.Tracer("test").Start(t.Context(), "caller")
	f(ctx)
	span.End()
	for _, s := range r.spans.GetSpans() {
		if s.Name == "caller" {
			parent = s
		} else {
			below = append(below, s)
		}
	}
	for _, s := range below {
		if s.Parent.SpanID() != parent.SpanContext.SpanID() {
			t.Errorf("span %s is not below the caller's", s.Name)
		}
	}
	return parent, below
}

func (r *rig) collect(t *testing.T) map[string]metricdata.Metrics {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := r.reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	found := map[string]metricdata.Metrics{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			found[m.Name] = m
		}
	}
	return found
}

// rows returns the instrument of each metric, as docs/telemetry.md has them.
func rows(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../docs/telemetry.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, "|"); len(cells) > 3 && strings.HasPrefix(cells[1], " `perdure_") {
			found[strings.Trim(cells[1], " `")] = strings.Trim(cells[2], " `")
		}
	}
	return found
}

// Every metric that docs/metrics.md lists has an instrument in docs/telemetry.md.
func TestPageHasEachMetric(t *testing.T) {
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	instruments := rows(t)
	for line := range strings.Lines(string(page)) {
		name, found := strings.CutPrefix(line, "| `")
		name, _, _ = strings.Cut(name, "`")
		if found && instruments[name] == "" {
			t.Errorf("%s has no instrument", name)
		}
	}
}

// storm makes calls of all kinds: retried, exhausted, throttled, refused, cancelled.
func storm(t *testing.T, r *rig) {
	t.Helper()
	p := r.policy("storm", circuit.Config{FailureThreshold: 5, Budget: 10, RecoveryTimeout: time.Minute})
	gated := r.policy("gated", circuit.Service())
	for i := range 60 {
		n := 0
		_ = retry.Do(t.Context(), p, func(context.Context) error {
			switch n++; {
			case i%3 == 0 && n == 1:
				return retry.After(errors.New("busy"), time.Second)
			case i > 40:
				return retry.Transient(errors.New("down"))
			}
			return nil
		})
		_ = retry.Do(t.Context(), gated, func(context.Context) error {
			if i%2 == 0 {
				return retry.Transient(errors.New("down"))
			}
			return nil
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = retry.Do(ctx, p, func(context.Context) error { return nil })
	cached := fallback.Policy{Name: "storm", Metrics: r.registry, Observe: func(context.Context, fallback.Event) {}}
	down := func(context.Context) error { return io.ErrUnexpectedEOF }
	_ = fallback.Do(t.Context(), &cached, down, func(context.Context, error) error { return nil })
}

// The instruments have the values of the Registry, series by series, under the names of
// docs/telemetry.md.
func TestInstrumentsHaveTheCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		storm(t, r)
		got, names := r.collect(t), rows(t)
		compared := 0
		for _, f := range r.registry.Snapshot().Families {
			full := f.Name
			if f.Type == metrics.Counter {
				full += "_total"
			}
			if f.Type == metrics.Histogram {
				continue
			}
			if help := got[names[full]].Description; help != f.Help {
				t.Errorf("the description of %s is %q, want %q", names[full], help, f.Help)
			}
			for _, s := range f.Samples {
				if v, ok := value(got[names[full]], s.Labels); !ok || v != s.Value {
					t.Errorf("%s%v is %v as %q (found: %v), want %v", full, s.Labels, v, names[full], ok, s.Value)
				}
				compared++
			}
		}
		if compared < 40 {
			t.Errorf("only %d series were compared", compared)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if m, ok := r.collect(t)["perdure.client.calls"]; ok {
			t.Errorf("after Close there is still %v", m)
		}
	})
}

// value returns the value of the series of m with these labels.
func value(m metricdata.Metrics, labels []metrics.Label) (float64, bool) {
	var points []metricdata.DataPoint[float64]
	switch d := m.Data.(type) {
	case metricdata.Sum[float64]:
		points = d.DataPoints
	case metricdata.Gauge[float64]:
		points = d.DataPoints
	}
	var attrs []attribute.KeyValue
	for _, l := range labels {
		attrs = append(attrs, attribute.String("perdure."+l.Name, l.Value))
	}
	want := attribute.NewSet(attrs...)
	for _, p := range points {
		if p.Attributes.Equals(&want) {
			return p.Value, true
		}
	}
	return 0, false
}

// Retries of an HTTP client are events of the caller's span; each attempt is a span below
// it, with the number of resends, its error and the time that it took.
func TestAttemptsAreSpans(t *testing.T) {
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	r := newRig(t)
	p := r.policy("fetch", circuit.Config{})
	p.BaseDelay, p.Jitter = time.Nanosecond, retry.NoJitter
	client := httpretry.Client(p)
	parent, attempts := r.within(t, func(ctx context.Context) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/?token=hunter2", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	})
	if len(attempts) != 3 {
		t.Fatalf("%d spans of attempts, want 3", len(attempts))
	}
	for i, s := range attempts {
		if resends := attr(s.Attributes, "http.request.resend_count"); resends.AsInt64() != int64(i) {
			t.Errorf("attempt %d has the resend_count %d", i+1, resends.AsInt64())
		}
		failure := attr(s.Attributes, "error.type")
		if want := map[bool]string{true: "transient"}[i < 2]; failure.AsString() != want {
			t.Errorf("attempt %d has error.type %q, want %q", i+1, failure.AsString(), want)
		}
		if !s.StartTime.Before(s.EndTime) || s.StartTime.Before(parent.StartTime) || s.EndTime.After(parent.EndTime) {
			t.Errorf("attempt %d from %v to %v, the call from %v to %v", i+1, s.StartTime, s.EndTime, parent.StartTime, parent.EndTime)
		}
	}
	var events []string
	for _, e := range parent.Events {
		events = append(events, e.Name)
	}
	if got := strings.Join(events, " "); got != "perdure.retrying perdure.retrying perdure.succeeded" {
		t.Errorf("events %s", got)
	}
	if text := fmt.Sprint(parent.Events, attempts); strings.Contains(text, "hunter2") {
		t.Errorf("a secret is shown in %s", text)
	}
}

// attr returns the value of an attribute, or the empty one.
func attr(attrs []attribute.KeyValue, key attribute.Key) attribute.Value {
	set := attribute.NewSet(attrs...)
	v, _ := set.Value(key)
	return v
}

// The transitions of a breaker are events of the span of the call that made them, and the
// refused call says why it ended.
func TestTransitionsAreEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		p := r.policy("fetch", circuit.Config{FailureThreshold: 2})
		p.Classify = retry.Always
		down := func(context.Context) error { return errors.New("get https://ada:hunter2@api.example/: down") }
		opening, _ := r.within(t, func(ctx context.Context) { _ = retry.Do(ctx, p, down) })
		refused, spans := r.within(t, func(ctx context.Context) { _ = retry.Do(ctx, p, down) })
		text := fmt.Sprint(opening.Events, refused.Events)
		for _, want := range []string{"perdure.breaker.transition", "2 consecutive failures", "breaker_open"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in %s", want, text)
			}
		}
		if strings.Contains(text, "hunter2") {
			t.Errorf("a secret is shown in %s", text)
		}
		if len(spans) != 0 {
			t.Errorf("a refused call has the spans %v", spans)
		}
	})
}

// The histograms of retries and delays lead to the trace of a call.
func TestHistogramsHaveExemplars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		p := r.policy("fetch", circuit.Config{})
		n := 0
		parent, _ := r.within(t, func(ctx context.Context) {
			_ = retry.Do(ctx, p, func(context.Context) error {
				if n++; n < 3 {
					return retry.Transient(errors.New("down"))
				}
				return nil
			})
		})
		got := r.collect(t)
		retries, ok := got["perdure.client.call.retries"].Data.(metricdata.Histogram[int64])
		if !ok || len(retries.DataPoints) != 1 || retries.DataPoints[0].Sum != 2 || retries.DataPoints[0].Count != 1 {
			t.Fatalf("retries are %+v", retries)
		}
		delays, ok := got["perdure.client.retry.delay"].Data.(metricdata.Histogram[float64])
		if !ok || len(delays.DataPoints) != 1 || delays.DataPoints[0].Count != 2 {
			t.Fatalf("delays are %+v", delays)
		}
		id := parent.SpanContext.TraceID()
		if e := retries.DataPoints[0].Exemplars; len(e) != 1 || string(e[0].TraceID) != string(id[:]) {
			t.Errorf("exemplars %v, want the trace %v", e, id)
		}
	})
}

// However many operations are retried, the attributes of the histograms are bounded as those of the other instruments are:
// what comes after 1000 of them is other.
func TestHistogramsAreBounded(t *testing.T) {
	r := newRig(t)
	const operations = 2500
	for i := range operations {
		event := retry.Event{Kind: retry.Retrying, Operation: fmt.Sprint("operation ", i), Key: "key", Attempt: 1, Delay: time.Second}
		r.Observe(t.Context(), event)
		event.Kind, event.Attempt = retry.Succeeded, 2
		r.Observe(t.Context(), event)
	}
	found := r.collect(t)
	retries, _ := found["perdure.client.call.retries"].Data.(metricdata.Histogram[int64])
	delays, _ := found["perdure.client.retry.delay"].Data.(metricdata.Histogram[float64])
	counts := map[attribute.Set]uint64{}
	for _, p := range retries.DataPoints {
		counts[p.Attributes] += p.Count
	}
	other := attribute.NewSet(attribute.String("perdure.operation", "other"), attribute.String("perdure.key", "other"))
	if len(counts) != 1001 || len(delays.DataPoints) != 1001 || counts[other] != operations-1000 {
		t.Errorf("%d series of retries and %d of delays, of which other has counted %d; want 1001 and %d", len(counts), len(delays.DataPoints), counts[other], operations-1000)
	}
}

// Without a recorded span, and for an operation that succeeds at once, nothing is made and
// nothing allocated.
func TestFirstTryCostsNothing(t *testing.T) {
	r := newRig(t)
	p := r.policy("fetch", circuit.Config{})
	p.Timed = false
	ctx, span := r.tracers.Tracer("test").Start(t.Context(), "caller")
	defer span.End()
	work := func(context.Context) error { return nil }
	if n := testing.AllocsPerRun(100, func() { _ = retry.Do(ctx, p, work) }); n != 0 {
		t.Errorf("an operation that succeeds at once allocates %v times", n)
	}
	if s := r.spans.GetSpans(); len(s) != 0 {
		t.Errorf("it made the spans %v", s)
	}
}

func BenchmarkFirstTry(b *testing.B) {
	t, err := otelretry.New(otelretry.Options{})
	if err != nil {
		b.Fatal(err)
	}
	work := func(context.Context) error { return nil }
	for name, p := range map[string]*retry.Policy{"off": {}, "on": {Metrics: metrics.Default, Observe: t.Observe}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = retry.Do(b.Context(), p, work)
			}
		})
	}
}
