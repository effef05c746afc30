package main

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/seed-0f2c7998/perdure/examples/services/internal/scrape"
)

// Three of ten calls fail with UNAVAILABLE, one of them with a pushback.
func TestGRPC(t *testing.T) {
	var calls atomic.Int64
	server := grpc.NewServer(grpc.UnaryInterceptor(func(
		ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
	) (any, error) {
		switch n := calls.Add(1); n % 10 {
		case 1:
			if err := grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", "5")); err != nil {
				return nil, err
			}
			fallthrough
		case 3, 8:
			return nil, status.Error(codes.Unavailable, "scripted")
		}
		return handler(ctx, req)
	}))
	healthpb.RegisterHealthServer(server, health.NewServer())
	target := scrape.Listen(t)
	go func() { _ = server.Serve(target) }()
	defer server.Stop()
	listener := scrape.Listen(t)
	var out bytes.Buffer
	if err := run(t.Context(), listener, target.Addr().String(), 50, &out); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "SERVING\n"); n != 50 {
		t.Errorf("%d results, want 50", n)
	}
	operation := `operation="grpc.health.v1.Health/Check"`
	if n := scrape.Metric(t, listener, "perdure_calls_total", operation, `outcome="success"`); n != 50 {
		t.Errorf("%v calls succeeded, want 50", n)
	}
	if n := scrape.Metric(t, listener, "perdure_attempts_total", operation); int64(n) != calls.Load() {
		t.Errorf("%v attempts, the server got %d", n, calls.Load())
	}
	if n := scrape.Metric(t, listener, "perdure_retry_after_total", operation, `result="obeyed"`); n == 0 {
		t.Error("no pushback was obeyed")
	}
}
