package otelretry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/secrettest"
	"github.com/seed-0f2c7998/perdure/retry"
)

// What is secret in the name of an operation or of a breaker, and in errors, is in no span, event, attribute, status or
// metric: of an operation that is retried, that fails, and that its breaker refuses.
func TestSecretsStaySecret(t *testing.T) { synctest.Test(t, secretsStaySecret) }

func secretsStaySecret(t *testing.T) {
	t.Helper()
	r := newRig(t)
	for _, text := range secrettest.Texts() {
		p := r.policy(text, circuit.Config{FailureThreshold: 3})
		for _, fail := range []int{1, 100, 100} {
			ctx, span := r.tracers.Tracer("test").Start(t.Context(), "call")
			n := 0
			err := retry.Do(ctx, p, func(context.Context) error {
				if n++; n <= fail {
					return retry.Transient(errors.New(text))
				}
				return nil
			})
			if (err == nil) != (fail == 1) {
				t.Errorf("%d failures end with %v", fail, err)
			}
			span.End()
		}
	}
	var all metricdata.ResourceMetrics
	if err := r.reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	shown := fmt.Sprintf("%+v", all)
	spans := r.spans.GetSpans()
	for _, s := range spans {
		shown += fmt.Sprintf("%s %+v %+v %+v\n", s.Name, s.Attributes, s.Events, s.Status)
		for _, a := range s.Attributes {
			shown += a.Value.String() + "\n"
		}
		for _, e := range s.Events {
			shown += e.Name + "\n"
			for _, a := range e.Attributes {
				shown += string(a.Key) + "=" + a.Value.String() + "\n"
			}
		}
	}
	for _, found := range secrettest.Find(shown) {
		t.Errorf("it shows %s", found)
	}
	if len(spans) < len(secrettest.Texts()) {
		t.Errorf("%d spans", len(spans))
	}
}
