package grpcretry_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/grpcretry"
)

// A unary call over loopback that succeeds: bare, with gRPC's own retries, with this package,
// and with a breaker, a gate and a budget.
func BenchmarkUnary(b *testing.B) {
	service := circuit.Service()
	for _, row := range []struct {
		name    string
		options []grpc.DialOption
	}{
		{"bare", []grpc.DialOption{grpc.WithDisableRetry()}},
		{"grpc", []grpc.DialOption{grpc.WithDefaultServiceConfig(twin)}},
		{"grpcretry", with(quiet())},
		{"grpcretry+service", grpcretry.DialOptions(grpcretry.Options{Policy: quiet(), Breakers: &service})},
	} {
		b.Run(row.name, func(b *testing.B) {
			address, _, stop := serve(b, quickServer{}, "127.0.0.1:0")
			defer stop()
			conn := dial(b, address, row.options...)
			defer func() { _ = conn.Close() }()
			b.ReportAllocs()
			for b.Loop() {
				if err := check(b.Context(), conn); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkInterceptor is the cost of the interceptor alone.
func BenchmarkInterceptor(b *testing.B) {
	i := grpcretry.New(grpcretry.Options{Policy: quiet()})
	conn := unreachable(b)
	invoke := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		return ctx.Err()
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := i.Unary(b.Context(), "/test.Test/Get", nil, nil, conn, invoke); err != nil {
			b.Fatal(err)
		}
	}
}

type quickServer struct {
	healthpb.UnimplementedHealthServer
}

func (quickServer) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return &healthpb.HealthCheckResponse{}, nil
}
