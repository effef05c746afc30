// Package otelretry reports what package retry and package circuit do to OpenTelemetry: as
// metrics, and as events and attempts on the spans of the callers.
//
//	t, err := otelretry.New(otelretry.Options{})
//	...
//	defer t.Close()
//	p := retry.Service()
//	p.Name, p.Metrics = "fetch_stations", metrics.Default
//	p.Observe = retry.Observers(t.Observe, retry.LogTo(slog.Default()))
//	p.Breaker = circuit.New("stations", circuit.Config{
//		Observe: circuit.Observers(t.ObserveTransition, circuit.LogTo(slog.Default())),
//	})
//
// # Metrics
//
// The counts are those of a [metrics.Registry], in observable instruments that are read when
// the SDK collects. Their names follow gRPC's proposal A96 where it has one, with perdure in
// place of grpc; docs/telemetry.md has all of them. Two histograms are recorded by Observe,
// so that they have exemplars: perdure.client.call.retries, the retries of an operation that
// was retried, and perdure.client.retry.delay, the wait before a retry in seconds.
//
// # Spans
//
// A Telemetry makes no span for an operation: it uses the one in the caller's context, if
// that is recorded. Each retry, end and wait is an event of that span, and so is each
// transition of a breaker that the call makes. Each attempt whose duration is known, of an
// operation that does not succeed at once, becomes a child span named perdure.attempt;
// from the second on it has the attribute http.request.resend_count. The duration of the
// first attempt is known if Policy.Timed is set, or another field that reads the clock.
// Spans that are made during an attempt, by an instrumented client, are siblings of the
// attempt's span, which is made when the attempt has ended.
//
// An operation that succeeds at once costs nothing more than without this package.
package otelretry
