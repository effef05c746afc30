package grpcretry_test

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/grpcretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A client whose calls are retried; each target has a breaker, a gate and a retry budget.
func ExampleDialOptions() {
	policy, breakers := retry.Service(), circuit.Service()
	policy.Observe = func(_ context.Context, e retry.Event) { fmt.Println(e.Kind, e.Attempt) }
	options := grpcretry.DialOptions(grpcretry.Options{
		Policy:   &policy,
		Breakers: &breakers,
		Methods: map[string]grpcretry.Method{
			"/orders.Orders/Create": {Once: true}, // not idempotent
		},
	})
	server := 0 // in place of a server: the first call fails
	options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithChainUnaryInterceptor(
		func(context.Context, string, any, any, *grpc.ClientConn, grpc.UnaryInvoker, ...grpc.CallOption) error {
			if server++; server == 1 {
				return status.Error(codes.Unavailable, "restarting")
			}
			return nil
		}))
	conn, err := grpc.NewClient("dns:///api.example.org:443", options...)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
	_, err = healthpb.NewHealthClient(conn).Check(context.Background(), &healthpb.HealthCheckRequest{})
	fmt.Println(err)
	// Output:
	// retrying 1
	// succeeded 2
	// <nil>
}
