package grpcretry_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/seed-0f2c7998/perdure/grpcretry"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/retry"
)

// serve starts s at an address of 127.0.0.1; a port of 0 takes a free one. stop ends the server
// and waits for its end.
func serve(tb testing.TB, s healthpb.HealthServer, address string) (at string, g *grpc.Server, stop func()) {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	g = grpc.NewServer()
	healthpb.RegisterHealthServer(g, s)
	served := make(chan struct{})
	go func() { defer close(served); _ = g.Serve(l) }()
	return l.Addr().String(), g, func() { g.Stop(); <-served }
}

// lasting returns an address that no other process takes while no server listens on it.
func lasting(tb testing.TB) string {
	tb.Helper()
	port, err := servertest.FreePort()
	if err != nil {
		tb.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// patient is a policy that outlasts the restart of a server.
func patient() *retry.Policy {
	return &retry.Policy{
		MaxAttempts: retry.Unlimited, BaseDelay: 5 * time.Millisecond, MaxDelay: 50 * time.Millisecond, Jitter: 5 * time.Millisecond,
		Observe: func(context.Context, retry.Event) {},
	}
}

// A server that is stopped and started again loses no call of a client that retries: of those that
// wait for a server, and of those that fail at once.
func TestAServerThatRestarts(t *testing.T) {
	noLeak(t)
	s := &server{check: fail(0, codes.OK), watch: func(_ int, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
		return send(3, nil)(stream)
	}}
	address, _, stop := serve(t, s, lasting(t))
	counter := new(grpcretry.Counter)
	conn := dial(t, address, append(grpcretry.DialOptions(grpcretry.Options{Policy: patient(), Counter: counter}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1, MaxDelay: 10 * time.Millisecond}, MinConnectTimeout: time.Second}))...)
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), servertest.Limit)
	defer cancel()
	var calls, streams atomic.Int64
	done := make(chan struct{})
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(worker%2 == 0)); err != nil {
					t.Errorf("call: %v", err)
					return
				}
				calls.Add(1)
				// The stream of a server that stops between two messages breaks: one that ends before its first does not.
				if n, err := watch(ctx, conn); err != nil && n == 0 {
					t.Errorf("stream: %v", err)
					return
				}
				streams.Add(1)
			}
		})
	}
	for range 3 {
		before := calls.Load()
		servertest.Until(t, "calls succeed", func() bool { return calls.Load() > before+20 || t.Failed() })
		stop()
		attempts := counter.Counts().Attempts
		servertest.Until(t, "attempts meet a stopped server", func() bool { return counter.Counts().Attempts > attempts+5 || t.Failed() })
		_, _, stop = serve(t, s, address)
	}
	before := calls.Load()
	servertest.Until(t, "calls succeed at the end", func() bool { return calls.Load() > before+20 || t.Failed() })
	close(done)
	group.Wait()
	stop()
	if c := counter.Counts(); c.Inner != 0 || c.Attempts <= uint64(calls.Load()+streams.Load()) {
		t.Errorf("counts %+v for %d calls and %d streams", c, calls.Load(), streams.Load())
	}
}

// A GOAWAY moves calls to another connection: of a server that stops gracefully no call fails,
// even with one attempt.
func TestAServerThatGoesAway(t *testing.T) {
	noLeak(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	s := &server{check: func(_ context.Context, n int) error {
		if n == 1 {
			close(entered)
			<-leave
		}
		return nil
	}}
	address, g, stop := serve(t, s, lasting(t))
	defer stop()
	conn := dial(t, address, with(patient())...)
	defer func() { _ = conn.Close() }()
	first := make(chan error, 1)
	go func() { first <- check(t.Context(), conn) }()
	<-entered
	stopped := make(chan struct{})
	go func() { defer close(stopped); g.GracefulStop() }() // sends GOAWAY, and waits for the first call
	servertest.Until(t, "the address is free", func() bool {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		if err == nil {
			_ = l.Close()
		}
		return err == nil
	})
	_, _, stopSecond := serve(t, s, address)
	defer stopSecond()
	if err := check(t.Context(), conn); err != nil {
		t.Errorf("after the GOAWAY: %v", err)
	}
	close(leave)
	if err := <-first; err != nil {
		t.Errorf("before the GOAWAY: %v", err)
	}
	<-stopped
}

// refusing is an HTTP/2 server that resets each stream of the first n with code.
func refusing(tb testing.TB, n int, code http2.ErrCode) (address string, streams *atomic.Int64) {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	streams = new(atomic.Int64)
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := conn.Read(make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f := http2.NewFramer(conn, conn)
		_ = f.WriteSettings()
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			if h, ok := frame.(*http2.HeadersFrame); ok && streams.Add(1) <= int64(n) {
				_ = f.WriteRSTStream(h.StreamID, code)
			}
		}
	}()
	tb.Cleanup(func() { l.Close(); <-served })
	return l.Addr().String(), streams
}

// gRPC repeats a refused stream once by itself: that belongs to the attempt, and the counter tells
// the two apart.
func TestTransparentRetriesAreNotCountedTwice(t *testing.T) {
	for _, row := range []struct {
		code        http2.ErrCode
		status      codes.Code
		attempts    int
		streams     int64
		transparent uint64
	}{
		{http2.ErrCodeRefusedStream, codes.Unavailable, 3, 6, 3},
		{http2.ErrCodeEnhanceYourCalm, codes.ResourceExhausted, 3, 3, 0},
		{http2.ErrCodeCancel, codes.Canceled, 3, 3, 0},
		{http2.ErrCodeInternal, codes.Internal, 1, 1, 0},
	} {
		t.Run(row.code.String(), func(t *testing.T) {
			noLeak(t)
			address, streams := refusing(t, 100, row.code)
			counter := new(grpcretry.Counter)
			p := patient()
			p.MaxAttempts = 3
			conn := dial(t, address, grpcretry.DialOptions(grpcretry.Options{Policy: p, Counter: counter})...)
			defer func() { _ = conn.Close() }()
			err := check(t.Context(), conn)
			attempts := 1
			if e, ok := errors.AsType[*retry.Error](err); ok {
				attempts = e.Attempts
			}
			if status.Code(err) != row.status || attempts != row.attempts || streams.Load() != row.streams {
				t.Errorf("error %v, %d attempts, %d streams; want %v, %d, %d", err, attempts, streams.Load(), row.status, row.attempts, row.streams)
			}
			if want := (grpcretry.Counts{Attempts: uint64(row.attempts), Transparent: row.transparent}); counter.Counts() != want {
				t.Errorf("counts %+v, want %+v", counter.Counts(), want)
			}
		})
	}
}

// Beside a service config that retries, the interceptors alone multiply attempts, and
// DialOptions does not.
func TestAttemptsMultiplyWithoutDialOptions(t *testing.T) {
	noLeak(t)
	s := &server{check: func(ctx context.Context, _ int) error { return pushback(ctx, codes.Unavailable, "0") }}
	address, _, stop := serve(t, s, "127.0.0.1:0")
	defer stop()
	p := patient()
	p.MaxAttempts = 3
	for _, row := range []struct {
		name    string
		options func(*grpcretry.Interceptor, *grpcretry.Counter) []grpc.DialOption
		calls   int
		counts  grpcretry.Counts
	}{
		{"alone", func(i *grpcretry.Interceptor, c *grpcretry.Counter) []grpc.DialOption {
			return []grpc.DialOption{grpc.WithUnaryInterceptor(i.Unary), grpc.WithStatsHandler(c)}
		}, 12, grpcretry.Counts{Attempts: 3, Inner: 9}},
		{"DialOptions", func(i *grpcretry.Interceptor, _ *grpcretry.Counter) []grpc.DialOption {
			return i.DialOptions()
		}, 3, grpcretry.Counts{Attempts: 3}},
	} {
		t.Run(row.name, func(t *testing.T) {
			counter := new(grpcretry.Counter)
			before := s.count()
			i := grpcretry.New(grpcretry.Options{Policy: p, Counter: counter})
			conn := dial(t, address, append(row.options(i, counter), grpc.WithDefaultServiceConfig(twin))...)
			defer func() { _ = conn.Close() }()
			_ = check(t.Context(), conn)
			if n := s.count() - before; n != row.calls || counter.Counts() != row.counts {
				t.Errorf("%d calls, counts %+v; want %d, %+v", n, counter.Counts(), row.calls, row.counts)
			}
		})
	}
}
