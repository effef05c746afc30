package otelretry

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/seed-0f2c7998/perdure/metrics"
)

// An instrument is the name and the unit that a family of package metrics has here; its type and its help are the family's.
type instrument struct{ name, unit string }

// instruments returns the instruments by family. The histogram of retries is missing: Observe
// records it.
func instruments() map[string]instrument {
	const s, by = "s", "By"
	return map[string]instrument{
		"perdure_attempts":             {"perdure.client.attempts", "{attempt}"},
		"perdure_calls":                {"perdure.client.calls", "{call}"},
		"perdure_wait_seconds":         {"perdure.client.wait.duration", s},
		"perdure_retry_after":          {"perdure.client.retry_after", "{response}"},
		"perdure_retry_after_seconds":  {"perdure.client.retry_after.duration", s},
		"perdure_hedges":               {"perdure.client.call.hedges", "{attempt}"},
		"perdure_fallbacks":            {"perdure.client.call.fallbacks", "{call}"},
		"perdure_resumes":              {"perdure.client.resumes", "{resume}"},
		"perdure_resumed_bytes":        {"perdure.client.resumes.io", by},
		"perdure_breaker_state":        {"perdure.breaker.state", "1"},
		"perdure_breaker_open_seconds": {"perdure.breaker.open.duration", s},
		"perdure_breaker_trips":        {"perdure.breaker.trips", "{trip}"},
		"perdure_breaker_probes":       {"perdure.breaker.probes", "{attempt}"},
		"perdure_breaker_refusals":     {"perdure.breaker.refusals", "{call}"},
		"perdure_breaker_waits":        {"perdure.breaker.waits", "{call}"},
		"perdure_breaker_wait_seconds": {"perdure.breaker.wait.duration", s},
		"perdure_breaker_attempts":     {"perdure.breaker.attempts", "{attempt}"},
		"perdure_breaker_retries":      {"perdure.breaker.retries", "{retry}"},
		"perdure_budget_balance":       {"perdure.budget.balance", "{token}"},
		"perdure_budget_denials":       {"perdure.budget.denials", "{retry}"},
		"perdure_gate_limited":         {"perdure.gate.limited", "1"},
		"perdure_gate_pace":            {"perdure.gate.pace", "{call}/s"},
		"perdure_gate_waiters":         {"perdure.gate.waiters", "{call}"},
	}
}

// observe makes the instruments, and reports the counts of r when meter collects.
func observe(meter metric.Meter, r *metrics.Registry) (metric.Registration, error) {
	made := map[string]metric.Float64Observable{}
	var all []metric.Observable
	var errs []error
	known := instruments()
	for _, f := range metrics.Families() {
		i, ok := known[f.Name]
		if !ok {
			continue
		}
		var o metric.Float64Observable
		var err error
		if f.Type == metrics.Gauge {
			o, err = meter.Float64ObservableGauge(i.name, metric.WithUnit(i.unit), metric.WithDescription(f.Help))
		} else {
			o, err = meter.Float64ObservableCounter(i.name, metric.WithUnit(i.unit), metric.WithDescription(f.Help))
		}
		made[f.Name], all, errs = o, append(all, o), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return meter.RegisterCallback(func(_ context.Context, to metric.Observer) error {
		for _, f := range r.Snapshot().Families {
			o, ok := made[f.Name]
			if !ok {
				continue
			}
			for _, s := range f.Samples {
				to.ObserveFloat64(o, s.Value, metric.WithAttributes(attributes(s.Labels)...))
			}
		}
		return nil
	}, all...)
}

// attributes returns the attributes of a series: perdure. and the name of each label.
func attributes(labels []metrics.Label) []attribute.KeyValue {
	attrs := make([]attribute.KeyValue, len(labels))
	for i, l := range labels {
		attrs[i] = attribute.String("perdure."+l.Name, l.Value)
	}
	return attrs
}
