package otelretry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// trace adds e, and the attempt that it reports, to the span in ctx.
func (t *Telemetry) trace(ctx context.Context, e *retry.Event, attrs []attribute.KeyValue) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() || e.Kind == retry.Succeeded && e.Attempt <= 1 {
		return
	}
	if e.Kind != retry.Queued && e.Attempt > 0 && e.Duration > 0 {
		t.attempt(ctx, e, attrs)
	}
	attrs = append(attrs, attribute.Int("perdure.attempt", e.Attempt))
	if e.Reason != 0 {
		attrs = append(attrs, attribute.String("perdure.reason", e.Reason.String()))
	}
	if e.Err != nil {
		attrs = append(attrs, attribute.String("perdure.class", e.Class.String()), attribute.String("exception.message", e.Err.Error()))
	}
	if e.Delay > 0 {
		attrs = append(attrs, attribute.Float64("perdure.delay", e.Delay.Seconds()))
	}
	if e.Hint > 0 {
		attrs = append(attrs, attribute.Float64("perdure.retry_after", e.Hint.Seconds()))
	}
	span.AddEvent("perdure."+e.Kind.String(), trace.WithAttributes(attrs...))
}

// attempt makes the span of the attempt that e reports.
func (t *Telemetry) attempt(ctx context.Context, e *retry.Event, attrs []attribute.KeyValue) {
	if e.Attempt > 1 {
		attrs = append(attrs, attribute.Int("http.request.resend_count", e.Attempt-1))
	}
	if e.Err != nil {
		attrs = append(attrs, attribute.String("error.type", e.Class.String()))
	}
	end := time.Now()
	_, span := t.tracer.Start(ctx, "perdure.attempt", trace.WithTimestamp(end.Add(-e.Duration)), trace.WithAttributes(attrs...))
	if e.Err != nil {
		span.SetStatus(codes.Error, e.Err.Error())
	}
	span.End(trace.WithTimestamp(end))
}

// ObserveTransition reports tr, for circuit.Config.Observe, as an event of the span of the
// call that made the transition. It replaces the log of a Config without Observe:
// circuit.Observers keeps both.
func (t *Telemetry) ObserveTransition(ctx context.Context, tr circuit.Transition) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	attrs := []attribute.KeyValue{
		attribute.String("perdure.key", tr.Name), attribute.String("perdure.breaker.from", tr.From.String()),
		attribute.String("perdure.breaker.to", tr.To.String()), attribute.String("perdure.reason", tr.Reason.String()),
	}
	if tr.Refused > 0 {
		attrs = append(attrs, attribute.Int64("perdure.breaker.refused", int64(tr.Refused))) //nolint:gosec // a count
	}
	name := "perdure.breaker.transition"
	switch {
	case tr.Queued:
		name = "perdure.breaker.queued"
	case tr.From == tr.To:
		name = "perdure.breaker.refused"
	}
	span.AddEvent(name, trace.WithAttributes(attrs...))
}
