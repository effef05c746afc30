// Command grpc asks a server for its health, with retries, a circuit breaker and a retry budget for the target. Its
// metrics are at /metrics of the address -admin, its spans in the log.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/examples/services/internal/service"
	"github.com/seed-0f2c7998/perdure/grpcretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

func main() {
	target := flag.String("target", "127.0.0.1:50051", "`target` of the calls")
	service.Main(func(ctx context.Context, t *service.Telemetry) error { return run(ctx, t, *target, 50, os.Stdout) })
}

// run makes n calls and prints their results.
func run(ctx context.Context, t *service.Telemetry, target string, n int, out io.Writer) error {
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}

	// resilience: begin
	policy, breaker := retry.Service(), circuit.Service()
	policy.AttemptTimeout, policy.Metrics, policy.Observe = 2*time.Second, t.Registry, t.Observe
	options = append(options, grpcretry.DialOptions(grpcretry.Options{Policy: &policy, Breakers: &breaker})...)
	// resilience: end

	conn, err := grpc.NewClient(target, options...)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	client := healthpb.NewHealthClient(conn)
	for range n {
		res, err := client.Check(ctx, &healthpb.HealthCheckRequest{})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, res.GetStatus()); err != nil {
			return err
		}
	}
	return nil
}
