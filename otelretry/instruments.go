package otelretry

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/seed-0f2c7998/perdure/metrics"
)

// An instrument is the name and the unit that a family of package metrics has here.
type instrument struct {
	name, unit string
	gauge      bool
	help       string
}

// instruments returns the instruments by family. The histogram of retries is missing: Observe
// records it.
func instruments() map[string]instrument {
	const s, by = "s", "By"
	return map[string]instrument{
		"perdure_attempts":             {"perdure.client.attempts", "{attempt}", false, "Attempts, by number and class."},
		"perdure_calls":                {"perdure.client.calls", "{call}", false, "Operations that have ended, by outcome and reason."},
		"perdure_wait_seconds":         {"perdure.client.wait.duration", s, false, "Time that operations have waited, by cause."},
		"perdure_retry_after":          {"perdure.client.retry_after", "{response}", false, "Waits that servers asked for."},
		"perdure_retry_after_seconds":  {"perdure.client.retry_after.duration", s, false, "Time that servers asked to wait."},
		"perdure_hedges":               {"perdure.client.call.hedges", "{attempt}", false, "Second attempts beside slow ones: sent, and won."},
		"perdure_fallbacks":            {"perdure.client.call.fallbacks", "{call}", false, "Errors for which a fallback was called."},
		"perdure_resumes":              {"perdure.client.resumes", "{resume}", false, "Bodies that were resumed after a break."},
		"perdure_resumed_bytes":        {"perdure.client.resumes.io", by, false, "Bytes of resumed bodies."},
		"perdure_breaker_state":        {"perdure.breaker.state", "1", true, "1 for the state that the breaker is in, 0 for the others."},
		"perdure_breaker_open_seconds": {"perdure.breaker.open.duration", s, false, "Time that the breaker has been open."},
		"perdure_breaker_trips":        {"perdure.breaker.trips", "{trip}", false, "Number of times that the breaker has opened."},
		"perdure_breaker_probes":       {"perdure.breaker.probes", "{attempt}", false, "Probes that were admitted."},
		"perdure_breaker_refusals":     {"perdure.breaker.refusals", "{call}", false, "Calls that were refused, by reason."},
		"perdure_breaker_waits":        {"perdure.breaker.waits", "{call}", false, "Waits at the gate or for the rate."},
		"perdure_breaker_wait_seconds": {"perdure.breaker.wait.duration", s, false, "Time that calls have waited."},
		"perdure_breaker_attempts":     {"perdure.breaker.attempts", "{attempt}", false, "Attempts of all processes, by class."},
		"perdure_breaker_retries":      {"perdure.breaker.retries", "{retry}", false, "Retries of all processes."},
		"perdure_budget_balance":       {"perdure.budget.balance", "{token}", true, "Tokens in the retry budget."},
		"perdure_budget_denials":       {"perdure.budget.denials", "{retry}", false, "Retries for which the budget had no tokens."},
		"perdure_gate_limited":         {"perdure.gate.limited", "1", true, "1 while the gate limits calls, else 0."},
		"perdure_gate_pace":            {"perdure.gate.pace", "{call}/s", true, "Calls per second that the gate admits."},
		"perdure_gate_waiters":         {"perdure.gate.waiters", "{call}", true, "Calls that wait at the gate."},
	}
}

// observe makes the instruments, and reports the counts of r when meter collects.
func observe(meter metric.Meter, r *metrics.Registry) (metric.Registration, error) {
	made := map[string]metric.Float64Observable{}
	var all []metric.Observable
	var errs []error
	for family, i := range instruments() {
		var o metric.Float64Observable
		var err error
		if i.gauge {
			o, err = meter.Float64ObservableGauge(i.name, metric.WithUnit(i.unit), metric.WithDescription(i.help))
		} else {
			o, err = meter.Float64ObservableCounter(i.name, metric.WithUnit(i.unit), metric.WithDescription(i.help))
		}
		made[family], all, errs = o, append(all, o), append(errs, err)
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
