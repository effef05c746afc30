// Command grpc is examples/services/grpc with failsafe-go. All methods and targets share a breaker, streams are not repeated,
// the request to stop in a negative pushback is not obeyed, and there are no metrics.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafegrpc"
	"github.com/failsafe-go/failsafe-go/timeout"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func main() {
	target := flag.String("target", "127.0.0.1:50051", "`target` of the calls")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *target, 100, os.Stdout); err != nil {
		log.Fatal(err) //nolint:gocritic // nothing is left to stop
	}
}

// run makes n calls and prints their results.
func run(ctx context.Context, target string, n int, out io.Writer) error {
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}

	// resilience: begin
	retries := failsafegrpc.NewRetryPolicyBuilder[any]().
		WithMaxAttempts(3).WithMaxDuration(30*time.Second).WithBackoff(50*time.Millisecond, 20*time.Second).WithJitterFactor(0.5).
		WithDelayFunc(pushback).WithBudget(budget.New()).AbortOnErrors(circuitbreaker.ErrOpen).ReturnLastFailure().Build()
	breaker := circuitbreaker.NewBuilder[any]().
		HandleIf(func(_ any, err error) bool {
			c := status.Code(err)
			return c == codes.Unavailable || c == codes.DeadlineExceeded || c == codes.ResourceExhausted
		}).
		WithFailureRateThreshold(0.5, 10, time.Second).WithDelay(500 * time.Millisecond).WithSuccessThreshold(3).Build()
	limit := timeout.New[any](2 * time.Second)
	options = append(options, grpc.WithDisableRetry(),
		grpc.WithChainUnaryInterceptor(failsafegrpc.NewUnaryClientInterceptor(retries, breaker, limit), readPushback))
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

// resilience: begin

// A pushbackError is an error with the wait that the server asks for.
type pushbackError struct {
	error
	wait time.Duration
}

func (e pushbackError) Unwrap() error { return e.error }

func readPushback(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	var trailer metadata.MD
	err := invoker(ctx, method, req, reply, cc, append(opts, grpc.Trailer(&trailer))...)
	if values := trailer.Get("grpc-retry-pushback-ms"); err != nil && len(values) == 1 {
		if ms, bad := strconv.Atoi(values[0]); bad == nil {
			return pushbackError{err, time.Duration(ms) * time.Millisecond}
		}
	}
	return err
}

func pushback(e failsafe.ExecutionAttempt[any]) time.Duration {
	if p, ok := errors.AsType[pushbackError](e.LastError()); ok {
		return p.wait
	}
	return -1
}

// resilience: end
