package otelretry

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed-0f2c7998/perdure/internal/meter"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/retry"
)

// scope is the name of the instrumentation scope.
const scope = "github.com/seed-0f2c7998/perdure/otelretry"

// Options configure a [Telemetry]. The zero Options use the global providers and
// metrics.Default.
type Options struct {
	MeterProvider  metric.MeterProvider // if nil, otel.GetMeterProvider()
	TracerProvider trace.TracerProvider // if nil, otel.GetTracerProvider()
	Registry       *metrics.Registry    // whose counts are reported; if nil, metrics.Default
}

// A Telemetry reports to OpenTelemetry. Make one with [New]; the zero Telemetry is not valid.
// It is safe for concurrent use.
type Telemetry struct {
	tracer   trace.Tracer
	retries  metric.Int64Histogram
	delay    metric.Float64Histogram
	observed metric.Registration
	pairs    metrics.Registry // of the attributes of the histograms; it counts nothing
}

// New makes the instruments of o and begins to report the counts of its Registry. It
// returns the error of the MeterProvider, if that refuses an instrument.
func New(o Options) (*Telemetry, error) {
	if o.MeterProvider == nil {
		o.MeterProvider = otel.GetMeterProvider()
	}
	if o.TracerProvider == nil {
		o.TracerProvider = otel.GetTracerProvider()
	}
	if o.Registry == nil {
		o.Registry = metrics.Default
	}
	instruments := o.MeterProvider.Meter(scope)
	t := &Telemetry{tracer: o.TracerProvider.Tracer(scope)}
	var errs [3]error
	t.retries, errs[0] = instruments.Int64Histogram("perdure.client.call.retries", metric.WithUnit("{retry}"),
		metric.WithDescription("Retries of an operation that was retried."), metric.WithExplicitBucketBoundaries(1, 2, 3, 4, 5, 10))
	t.delay, errs[1] = instruments.Float64Histogram("perdure.client.retry.delay", metric.WithUnit("s"),
		metric.WithDescription("Wait before a retry."), metric.WithExplicitBucketBoundaries(.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300))
	t.observed, errs[2] = observe(instruments, o.Registry)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return t, nil
}

// Close ends the reports of the Registry's counts, and returns the error of the MeterProvider. Observe and ObserveTransition still work.
func (t *Telemetry) Close() error { return t.observed.Unregister() }

// Observe reports e, for Policy.Observe. It replaces the log of a Policy without Observe:
// retry.Observers keeps both.
func (t *Telemetry) Observe(ctx context.Context, e retry.Event) {
	attrs := []attribute.KeyValue{attribute.String("perdure.operation", e.Operation), attribute.String("perdure.key", e.Key)}
	switch e.Kind {
	case retry.Retrying:
		t.delay.Record(ctx, e.Delay.Seconds(), t.bounded(e))
	case retry.Succeeded, retry.Stopped, retry.Nested:
		if e.Attempt > 1 {
			t.retries.Record(ctx, int64(e.Attempt-1), t.bounded(e))
		}
	case retry.Queued:
	}
	t.trace(ctx, &e, attrs)
}

// bounded returns the attributes of a histogram, of which there are as many as a Registry has pairs of labels.
func (t *Telemetry) bounded(e retry.Event) metric.MeasurementOption {
	operation, key := meter.Labels(&t.pairs, e.Operation, e.Key)
	return metric.WithAttributes(attribute.String("perdure.operation", operation), attribute.String("perdure.key", key))
}
