package main

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
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
	target, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(target) }()
	defer server.Stop()
	var out bytes.Buffer
	if err := run(t.Context(), target.Addr().String(), 50, &out); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "SERVING\n"); n != 50 {
		t.Errorf("%d results, want 50", n)
	}
	if n := calls.Load(); n != 72 {
		t.Errorf("%d calls reached the server, want 72", n)
	}
}
