// Command grpc asks a server for its health, with retries, a circuit breaker and a retry budget for the target, and
// metrics on the address -admin.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/examples/services/internal/admin"
	"github.com/seed-0f2c7998/perdure/grpcretry"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/retry"
)

func main() {
	address := flag.String("admin", "127.0.0.1:9464", "`address` of /metrics")
	target := flag.String("target", "127.0.0.1:50051", "`target` of the calls")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *address)
	if err == nil {
		err = run(ctx, listener, *target, 100, os.Stdout)
	}
	if err != nil {
		log.Fatal(err) //nolint:gocritic // nothing is left to stop
	}
}

// run makes n calls and prints their results.
func run(ctx context.Context, listener net.Listener, target string, n int, out io.Writer) error {
	registry := new(metrics.Registry)
	go func() { _ = admin.Serve(listener, registry) }()
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}

	// resilience: begin
	policy, breaker := retry.Service(), circuit.Service()
	policy.AttemptTimeout, policy.Metrics = 2*time.Second, registry
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
