package grpcretry_test

import (
	"context"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/seed-0f2c7998/perdure/grpcretry"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A server is a health service whose responses a test decides: check and watch get the number of
// the call, from 1.
type server struct {
	healthpb.UnimplementedHealthServer

	check func(ctx context.Context, n int) error
	watch func(n int, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error

	mu       sync.Mutex
	calls    int
	previous []string // grpc-previous-rpc-attempts of each call
	at       []time.Time
}

func (s *server) arrived(ctx context.Context) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	md, _ := metadata.FromIncomingContext(ctx)
	s.previous = append(s.previous, strings.Join(md.Get("grpc-previous-rpc-attempts"), "+"))
	s.at = append(s.at, time.Now())
	return s.calls
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// waits returns the times between the calls.
func (s *server) waits() (waits []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 1; i < len(s.at); i++ {
		waits = append(waits, s.at[i].Sub(s.at[i-1]))
	}
	return waits
}

func (s *server) Check(ctx context.Context, in *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	n := s.arrived(ctx)
	if err := s.check(ctx, n); err != nil {
		return nil, err
	}
	out := &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}
	if in.GetService() == "down" {
		out.Status = healthpb.HealthCheckResponse_NOT_SERVING
	}
	return out, nil
}

func (s *server) Watch(_ *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	return s.watch(s.arrived(stream.Context()), stream)
}

// fail returns a check that fails the first n calls.
func fail(n int, code codes.Code) func(context.Context, int) error {
	return func(_ context.Context, call int) error {
		if call > n {
			return nil
		}
		return status.Error(code, "by script")
	}
}

// pushback is an error whose trailer holds the values.
func pushback(ctx context.Context, code codes.Code, values ...string) error {
	md := metadata.MD{}
	for _, v := range values {
		md.Append("grpc-retry-pushback-ms", v)
	}
	_ = grpc.SetTrailer(ctx, md)
	return status.Error(code, "by script")
}

// inMemory starts s without a network, and returns a connection to it.
func inMemory(tb testing.TB, s healthpb.HealthServer, options ...grpc.DialOption) *grpc.ClientConn {
	tb.Helper()
	l := bufconn.Listen(1 << 20)
	g := grpc.NewServer()
	if s != nil {
		healthpb.RegisterHealthServer(g, s)
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = g.Serve(l) }()
	conn := dial(tb, "passthrough:///memory", append(options, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return l.DialContext(ctx)
	}))...)
	tb.Cleanup(func() {
		_ = conn.Close()
		g.Stop()
		<-served
	})
	return conn
}

func dial(tb testing.TB, target string, options ...grpc.DialOption) *grpc.ClientConn {
	tb.Helper()
	conn, err := grpc.NewClient(target, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		tb.Fatal(err)
	}
	return conn
}

// quiet is a policy that logs nothing.
func quiet() *retry.Policy {
	return &retry.Policy{MaxAttempts: 4, BaseDelay: time.Second, Jitter: retry.NoJitter, Observe: func(context.Context, retry.Event) {}}
}

func check(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

func with(p *retry.Policy) []grpc.DialOption {
	return grpcretry.DialOptions(grpcretry.Options{Policy: p})
}

// noLeak fails the test if, at its end, goroutines of this package's streams or of gRPC's
// connections are left. Call it before whatever registers a Cleanup.
func noLeak(tb testing.TB) {
	tb.Helper()
	tb.Cleanup(func() {
		servertest.Until(tb, "no goroutine of a call or a connection", func() bool {
			buf := make([]byte, 1<<20)
			stacks := string(buf[:runtime.Stack(buf, true)])
			for _, part := range [...]string{"grpcretry.(*", "grpcretry.New", "transport.(*http2", "grpc.newClientStream"} {
				if strings.Contains(stacks, part) {
					return false
				}
			}
			return true
		})
	})
}

// unreachable returns a connection to a server that cannot be reached.
func unreachable(tb testing.TB, options ...grpc.DialOption) *grpc.ClientConn {
	tb.Helper()
	conn := dial(tb, "passthrough:///nowhere", append(options, grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: net.ErrClosed}
	}))...)
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}
