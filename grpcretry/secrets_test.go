package grpcretry_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/secrettest"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/retry"
)

// What a server's status says of a secret is in no log, event and metric. The status itself reaches the caller as it is.
func TestSecretsStaySecret(t *testing.T) { synctest.Test(t, secretsStaySecret) }

func secretsStaySecret(t *testing.T) {
	t.Helper()
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, text := range secrettest.Texts() {
		var registry metrics.Registry
		p := &retry.Policy{
			Name: text, MaxAttempts: 2, BaseDelay: time.Nanosecond, Metrics: &registry, ObserveAll: true,
			Breaker: circuit.New(text, circuit.Config{FailureThreshold: 2, Observe: circuit.LogTo(log)}),
			Observe: retry.Observers(retry.LogTo(log), retry.LogRecords(log), func(_ context.Context, e retry.Event) {
				fmt.Fprintf(&out, "%+v %#v %s\n", e, e.Err, e.Message())
			}),
		}
		conn := inMemory(t, &server{check: func(context.Context, int) error { return status.Error(codes.Unavailable, text) }}, with(p)...)
		for range 2 { // the second is refused
			if err := check(t.Context(), conn); err == nil {
				t.Error("no error")
			}
		}
		if err := registry.Snapshot().Write(&out, metrics.OpenMetrics); err != nil {
			t.Error(err)
		}
	}
	if out.Len() == 0 {
		t.Error("nothing was written")
	}
	for _, found := range secrettest.Find(out.String()) {
		t.Errorf("it shows %s", found)
	}
}
