package main

import (
	"context"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/otelretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

// telemetry returns the rows of metrics and of OpenTelemetry, without a failure.
func telemetry() []scenario {
	return []scenario{
		{name: "retry, metrics", attempts: 1, cells: map[library]cell{bareCall: bareCell, perdure: perdureMetrics(nil)}},
		{name: "retry, metrics, parallel", attempts: 1, parallel: true, cells: map[library]cell{bareCall: bareCell, perdure: perdureMetrics(nil)}},
		{name: "retry + breaker + budget, metrics", attempts: 1, cells: map[library]cell{bareCall: bareCell, perdure: perdureMetrics(budgetConfig)}},
		{name: "retry + breaker + budget, otelretry", attempts: 1, cells: map[library]cell{bareCall: bareCell, perdure: perdureTelemetry}},
	}
}

// perdureMetrics counts in a registry; config is that of the breaker, nil for none.
func perdureMetrics(config func() circuit.Config) cell {
	return func(f call) call {
		var b *circuit.Breaker
		if config != nil {
			b = circuit.New("bench", config())
		}
		p := perdurePolicy(b)
		p.Name, p.Metrics = "bench", new(metrics.Registry)
		return func(ctx context.Context) error { return retry.Do(ctx, p, f) }
	}
}

// perdureTelemetry reports to the SDK of OpenTelemetry, which collects when it is asked to.
func perdureTelemetry(f call) call {
	registry := new(metrics.Registry)
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	t, err := otelretry.New(otelretry.Options{MeterProvider: provider, Registry: registry})
	if err != nil {
		return func(context.Context) error { return err }
	}
	c := budgetConfig()
	c.Observe = t.ObserveTransition
	p := perdurePolicy(circuit.New("bench", c))
	p.Name, p.Metrics, p.Observe = "bench", registry, t.Observe
	return func(ctx context.Context) error { return retry.Do(ctx, p, f) }
}
