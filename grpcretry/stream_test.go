package grpcretry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/grpcretry"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/retrytest"
)

// watch opens a stream of the server and returns the number of its messages and its error.
func watch(ctx context.Context, conn *grpc.ClientConn) (int, error) {
	stream, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{})
	for n := 0; ; n++ {
		if err != nil {
			return n, err
		}
		if _, err = stream.Recv(); errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// send returns a watch that sends n messages and then err.
func send(n int, err error) func(grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	return func(stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
		for range n {
			if err := stream.Send(&healthpb.HealthCheckResponse{}); err != nil {
				return err
			}
		}
		return err
	}
}

// A stream is repeated until its first message, and by gRPC's own retries as often.
func TestAStreamIsRepeatedUntilItsFirstMessage(t *testing.T) {
	down := status.Error(codes.Unavailable, "by script")
	type script = func(grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error
	back := func(value string) script {
		return func(s grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
			s.SetTrailer(metadata.Pairs("grpc-retry-pushback-ms", value))
			return down
		}
	}
	for _, row := range []struct {
		name     string
		attempts []script
		messages int
		code     codes.Code
		calls    int
	}{
		{"success", []script{send(3, nil)}, 3, codes.OK, 1},
		{"no messages", []script{send(0, nil)}, 0, codes.OK, 1},
		{"failures before", []script{send(0, down), send(0, down), send(2, nil)}, 2, codes.OK, 3},
		{"failure after", []script{send(0, down), send(1, down), send(9, nil)}, 1, codes.Unavailable, 2},
		{"exhausted", []script{send(0, down), send(0, down), send(0, down), send(0, down), send(9, nil)}, 0, codes.Unavailable, 4},
		{"permanent", []script{send(0, status.Error(codes.NotFound, "")), send(9, nil)}, 0, codes.NotFound, 1},
		{"pushback now", []script{back("0"), send(1, nil)}, 1, codes.OK, 2},
		{"pushback stop", []script{back("-1"), send(1, nil)}, 0, codes.Unavailable, 1},
		{"pushback garbage", []script{back("soon"), send(1, nil)}, 0, codes.Unavailable, 1},
	} {
		for client, options := range map[string][]grpc.DialOption{
			"grpcretry": with(quiet()), "gRPC": {grpc.WithDefaultServiceConfig(twin)},
		} {
			t.Run(row.name+"/"+client, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					noLeak(t)
					s := &server{watch: func(n int, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
						return row.attempts[n-1](stream)
					}}
					n, err := watch(t.Context(), inMemory(t, s, options...))
					if n != row.messages || status.Code(err) != row.code || s.count() != row.calls {
						t.Errorf("%d messages, error %v, %d calls; want %d, %v, %d", n, err, s.count(), row.messages, row.code, row.calls)
					}
				})
			})
		}
	}
}

// Each attempt of a stream has the number that an attempt of a unary call has, also within an attempt of an outer
// operation, and no wait takes time under retrytest.
func TestTheNumberOfAnAttempt(t *testing.T) {
	for name, call := range map[string]func(context.Context, *grpc.ClientConn) error{
		"unary":  check,
		"stream": func(ctx context.Context, conn *grpc.ClientConn) error { _, err := watch(ctx, conn); return err },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				down := status.Error(codes.Unavailable, "by script")
				var numbers []int
				s := &server{check: fail(2, codes.Unavailable), watch: func(n int, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
					if n <= 2 {
						return down
					}
					return send(1, nil)(stream)
				}}
				number := func(ctx context.Context) { numbers = append(numbers, retry.Attempt(ctx)) }
				conn := inMemory(t, s, append(with(quiet()),
					grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
						number(ctx)
						return next(ctx, method, req, reply, cc, opts...)
					}),
					grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
						number(ctx)
						return next(ctx, desc, cc, method, opts...)
					}))...)
				ctx, waits := retrytest.NoWaits(t.Context())
				begin, outer := time.Now(), 0
				err := retry.Do(ctx, quiet(), func(ctx context.Context) error {
					if outer++; outer == 1 {
						return retry.Transient(down)
					}
					err := call(ctx, conn)
					if n := retry.Attempt(ctx); n != 2 {
						t.Errorf("the outer attempt has the number %d, want 2", n)
					}
					return err
				})
				if err != nil || !slices.Equal(numbers, []int{1, 2, 3}) {
					t.Errorf("attempts %v, error %v", numbers, err)
				}
				if took := time.Since(begin); took != 0 || len(waits.Delays()) != 3 {
					t.Errorf("%v and the waits %v, want no time and three", took, waits.Delays())
				}
			})
		})
	}
}

// anyMethod starts a server that serves every method by handle, which gets the number of
// the call, and returns a connection to it.
func anyMethod(tb testing.TB, handle func(n int, stream grpc.ServerStream) error, options ...grpc.DialOption) *grpc.ClientConn {
	tb.Helper()
	l := bufconn.Listen(1 << 20)
	s := new(server)
	g := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		return handle(s.arrived(stream.Context()), stream)
	}))
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

var bothWays = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

// receive returns the texts that a stream sends until its end.
func receive(stream interface{ RecvMsg(any) error }, limit int) (texts []string, err error) {
	for len(texts) < limit {
		var m wrapperspb.StringValue
		if err := stream.RecvMsg(&m); err != nil {
			return texts, err
		}
		texts = append(texts, m.GetValue())
	}
	return texts, nil
}

// The messages that were sent are sent again, as they were, in order and with the end.
func TestMessagesAreSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noLeak(t)
		var got []string
		conn := anyMethod(t, func(n int, stream grpc.ServerStream) error {
			if n < 3 {
				_, _ = receive(stream, n)
				return status.Error(codes.Unavailable, "by script")
			}
			var err error
			if got, err = receive(stream, 100); !errors.Is(err, io.EOF) {
				return err
			}
			return stream.SendMsg(wrapperspb.String("thanks"))
		}, with(quiet())...)
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, "/test.Files/Put")
		if err != nil {
			t.Fatal(err)
		}
		m := new(wrapperspb.StringValue)
		for _, m.Value = range []string{"a", "b", "c"} { // the same message
			if err := stream.SendMsg(m); err != nil {
				t.Fatal(err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		reply := new(wrapperspb.StringValue)
		if err := stream.RecvMsg(reply); err != nil || reply.GetValue() != "thanks" {
			t.Errorf("reply %q, error %v", reply.GetValue(), err)
		}
		if want := []string{"a", "b", "c"}; !slices.Equal(got, want) {
			t.Errorf("the server received %q, want %q", got, want)
		}
	})
}

// One goroutine sends while another receives; the attempt that fails is replaced under both.
func TestBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noLeak(t)
		conn := anyMethod(t, func(n int, stream grpc.ServerStream) error {
			if n == 1 {
				_, _ = receive(stream, 3)
				return status.Error(codes.Unavailable, "by script")
			}
			for {
				texts, err := receive(stream, 1)
				if errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					return err
				}
				if err := stream.SendMsg(wrapperspb.String(texts[0])); err != nil {
					return err
				}
			}
		}, with(quiet())...)
		stream, err := conn.NewStream(t.Context(), bothWays, "/test.Echo/Chat")
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for i := range 200 {
			want = append(want, strings.Repeat("x", 100)+fmt.Sprint(i))
		}
		sent := make(chan error, 1)
		go func() {
			for _, text := range want {
				if err := stream.SendMsg(wrapperspb.String(text)); err != nil {
					sent <- err
					return
				}
			}
			sent <- stream.CloseSend()
		}()
		got, err := receive(stream, len(want)+1)
		if !errors.Is(err, io.EOF) || !slices.Equal(got, want) {
			t.Errorf("error %v after %d of %d messages", err, len(got), len(want))
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
}

// Beyond BufferLimit a stream is not repeated, and its error says so.
func TestBufferLimit(t *testing.T) {
	for _, row := range []struct {
		name     string
		limit    int
		sent     int // messages of 1,003 bytes
		repeated bool
	}{
		{"default, below", 0, 200, true},
		{"default, above", 0, 300, false},
		{"below", 2006, 2, true},
		{"above", 2005, 2, false},
		{"none", -1, 1, false},
		{"none, and no message", -1, 0, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				noLeak(t)
				conn := anyMethod(t, func(n int, stream grpc.ServerStream) error {
					_, _ = receive(stream, row.sent)
					if n == 1 {
						return status.Error(codes.Unavailable, "by script")
					}
					return nil
				}, grpcretry.DialOptions(grpcretry.Options{Policy: quiet(), BufferLimit: row.limit})...)
				stream, err := conn.NewStream(t.Context(), bothWays, "/test.Files/Put")
				if err != nil {
					t.Fatal(err)
				}
				for range row.sent {
					if err := stream.SendMsg(wrapperspb.String(strings.Repeat("x", 1000))); err != nil {
						t.Fatal(err)
					}
				}
				_, err = receive(stream, 1)
				if row.repeated != errors.Is(err, io.EOF) || row.repeated == errors.Is(err, grpcretry.ErrBuffer) {
					t.Errorf("error %v, want a repetition: %v", err, row.repeated)
				}
				if !row.repeated && status.Code(err) != codes.Unavailable {
					t.Errorf("code %v", status.Code(err))
				}
			})
		})
	}
}

// A textCodec sends strings, which this package does not keep.
type textCodec struct{}

func (textCodec) Name() string { return "proto" } // the server reads StringValues
func (textCodec) Marshal(v any) ([]byte, error) {
	return append([]byte{10, byte(len(*v.(*string)))}, *v.(*string)...), nil
}
func (textCodec) Unmarshal(data []byte, v any) error { *v.(*string) = string(data); return nil }

func TestAMessageOfAnotherKindIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := anyMethod(t, func(_ int, stream grpc.ServerStream) error {
			_, _ = receive(stream, 1)
			return status.Error(codes.Unavailable, "by script")
		}, with(quiet())...)
		stream, err := conn.NewStream(t.Context(), bothWays, "/test.Text/Put", grpc.ForceCodec(textCodec{}))
		if err != nil {
			t.Fatal(err)
		}
		text := "hello"
		if err := stream.SendMsg(&text); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(&text); !errors.Is(err, grpcretry.ErrBuffer) {
			t.Errorf("error %v", err)
		}
	})
}

// AttemptTimeout limits the time to the first message, not the stream.
func TestAttemptTimeoutOfAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noLeak(t)
		pause := func(ctx context.Context, d time.Duration) {
			timer, cancel := context.WithTimeout(ctx, d)
			defer cancel()
			<-timer.Done()
		}
		s := &server{watch: func(n int, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
			if n == 1 {
				<-stream.Context().Done()
				return nil
			}
			for range 3 {
				if err := stream.Send(&healthpb.HealthCheckResponse{}); err != nil {
					return err
				}
				pause(stream.Context(), time.Minute)
			}
			return nil
		}}
		p := quiet()
		p.AttemptTimeout = 5 * time.Second
		begin := time.Now()
		n, err := watch(t.Context(), inMemory(t, s, with(p)...))
		if took := time.Since(begin); n != 3 || err != nil || took != 3*time.Minute+6*time.Second {
			t.Errorf("%d messages in %v, error %v", n, took, err)
		}
	})
}

// A slow stream takes a message in for some time, if it is that of the first attempt.
type slow struct {
	grpc.ClientStream

	pause func()
}

func (s slow) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	s.pause()
	return err
}

// The timeout may be over just as the first message comes: gRPC wrote the trailer of that attempt while it was read.
func TestAttemptTimeoutAtTheFirstMessage(t *testing.T) {
	for _, once := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			noLeak(t)
			p := quiet()
			p.AttemptTimeout = 5 * time.Second
			o := grpcretry.Options{Policy: p, Methods: map[string]grpcretry.Method{"": {Once: once}}}
			s := &server{watch: func(_ int, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
				return send(2, nil)(stream)
			}}
			pauses := sync.OnceFunc(func() { _ = pause(t.Context(), 6*time.Second) })
			conn := inMemory(t, s, append(grpcretry.DialOptions(o), grpc.WithChainStreamInterceptor(
				func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
					stream, err := next(ctx, desc, cc, method, opts...)
					return slow{stream, pauses}, err
				}))...)
			n, err := watch(t.Context(), conn)
			if want := map[bool]codes.Code{false: codes.OK, true: codes.DeadlineExceeded}[once]; status.Code(err) != want || n != map[bool]int{false: 2}[once] {
				t.Errorf("once %v: %d messages, error %v after %d calls", once, n, err, s.count())
			}
		})
	}
}

func TestAttemptTimeoutOfEveryAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noLeak(t)
		s := &server{watch: func(_ int, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
			<-stream.Context().Done()
			return nil
		}}
		p := quiet()
		p.AttemptTimeout = 5 * time.Second
		p.Breaker = circuit.New("slow", circuit.Config{})
		_, err := watch(t.Context(), inMemory(t, s, with(p)...))
		if !errors.Is(err, retry.ErrExhausted) || status.Code(err) != codes.DeadlineExceeded || s.count() != 4 {
			t.Errorf("error %v after %d calls", err, s.count())
		}
		if p.Breaker.Metrics().LastFailureClass != "transient" {
			t.Errorf("the breaker counts %q", p.Breaker.Metrics().LastFailureClass)
		}
	})
}

// A stream that its caller leaves, at any time, keeps no place of the breaker's concurrency, and
// no goroutine.
func TestAStreamThatIsLeft(t *testing.T) {
	for _, messages := range []int{0, 1} {
		t.Run(fmt.Sprint(messages, " messages"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				noLeak(t)
				s := &server{watch: func(_ int, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
					_ = send(messages, nil)(stream)
					<-stream.Context().Done()
					return nil
				}, check: fail(0, codes.OK)}
				p := quiet()
				p.Breaker = circuit.New("places", circuit.Config{Concurrency: 1})
				conn := inMemory(t, s, with(p)...)
				ctx, cancel := context.WithCancel(t.Context())
				stream, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{})
				if err != nil {
					t.Fatal(err)
				}
				for range messages {
					if _, err := stream.Recv(); err != nil {
						t.Fatal(err)
					}
				}
				short, end := context.WithTimeout(t.Context(), time.Second)
				defer end()
				var limit *circuit.LimitError
				if err := check(short, conn); !errors.As(err, &limit) || status.Code(err) != codes.Unavailable {
					t.Errorf("beside the stream: %v, want a LimitError", err)
				}
				cancel()
				if err := check(t.Context(), conn); err != nil {
					t.Errorf("after the stream: %v", err)
				}
				if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
					t.Errorf("the stream that was left: %v", err)
				}
			})
		})
	}
}

// A header that the caller has received belongs to one attempt: the stream is not repeated.
func TestAHeaderEndsTheRepetition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noLeak(t)
		s := &server{watch: func(_ int, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
			_ = stream.SendHeader(metadata.Pairs("version", "1"))
			<-time.NewTimer(time.Second).C
			return status.Error(codes.Unavailable, "by script")
		}}
		stream, err := healthpb.NewHealthClient(inMemory(t, s, with(quiet())...)).Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if header, err := stream.Header(); err != nil || header.Get("version")[0] != "1" {
			t.Fatalf("header %v, error %v", header, err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || s.count() != 1 {
			t.Errorf("error %v after %d calls", err, s.count())
		}
	})
}

// One goroutine may wait for the header while another waits for the first message: the message used to be taken for late, once in
// some ten thousand streams.
func TestAHeaderBesideTheFirstMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := quiet()
		p.AttemptTimeout = time.Hour
		s := &server{watch: func(_ int, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
			return send(1, nil)(stream)
		}}
		client := healthpb.NewHealthClient(inMemory(t, s, with(p)...))
		for range 4_000 {
			stream, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
			if err != nil {
				t.Fatal(err)
			}
			var header sync.WaitGroup
			header.Go(func() { _, _ = stream.Header() })
			_, first := stream.Recv()
			_, end := stream.Recv()
			if header.Wait(); first != nil || !errors.Is(end, io.EOF) {
				t.Fatalf("a message and its end: %v, %v", first, end)
			}
		}
	})
}

func TestAStreamWithOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := grpcretry.Options{Policy: quiet(), Methods: map[string]grpcretry.Method{"/grpc.health.v1.Health/Watch": {Once: true}}}
		s := &server{watch: func(int, grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
			return status.Error(codes.Unavailable, "by script")
		}}
		if _, err := watch(t.Context(), inMemory(t, s, grpcretry.DialOptions(o)...)); status.Code(err) != codes.Unavailable || s.count() != 1 {
			t.Errorf("sent: error %v after %d calls", err, s.count())
		}
		var e *retry.Error
		if _, err := watch(t.Context(), unreachable(t, grpcretry.DialOptions(o)...)); !errors.As(err, &e) || e.Attempts != 4 {
			t.Errorf("not sent: %v, want 4 attempts", err)
		}
	})
}

// The caller's deadline ends a stream that waits for its first message.
func TestTheDeadlineOfAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noLeak(t)
		s := &server{watch: func(_ int, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
			<-stream.Context().Done()
			return nil
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := watch(ctx, inMemory(t, s, with(quiet())...))
		if status.Code(err) != codes.DeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) || s.count() != 1 {
			t.Errorf("error %v after %d calls", err, s.count())
		}
	})
}

// A fragile context ends just after ends was set and Err was called, which returns nil that time.
type fragile struct {
	context.Context

	ends   atomic.Bool
	cancel func()
}

func (c *fragile) Err() error {
	err := c.Context.Err()
	if c.ends.CompareAndSwap(true, false) {
		c.cancel()
	}
	return err
}

// The caller's context may end just as the next attempt begins: what recorded the end read the policy that the attempt was setting.
func TestAStreamEndsAsAnAttemptBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noLeak(t)
		down := status.Error(codes.Unavailable, "by script")
		s := &server{watch: func(_ int, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
			return send(0, down)(stream)
		}}
		within, cancel := context.WithCancel(t.Context())
		ctx := &fragile{Context: within, cancel: cancel}
		p := quiet()
		p.Observe = func(_ context.Context, e retry.Event) { ctx.ends.Store(e.Kind == retry.Retrying) }
		conn := inMemory(t, s, append(with(p), grpc.WithChainStreamInterceptor(
			func(c context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
				if c.Err() != nil {
					_ = pause(t.Context(), time.Second) // the stream records the end
				}
				return next(c, desc, cc, method, opts...)
			}))...)
		begin := time.Now()
		if _, err := watch(ctx, conn); status.Code(err) != codes.Canceled || s.count() != 1 || time.Since(begin) != 2*time.Second {
			t.Errorf("error %v after %d calls and %v", err, s.count(), time.Since(begin))
		}
	})
}

// A late context ends later than its deadline, as one does whose timer is behind that of the server.
type late struct {
	context.Context

	deadline time.Time
}

func (c late) Deadline() (time.Time, bool) { return c.deadline, true }

// The server ends a call at the deadline that the client has told it, and its timer may be the first: that is no failure of the server.
func TestTheServerSeesTheDeadlineFirst(t *testing.T) {
	for name, call := range map[string]func(context.Context, *grpc.ClientConn) error{
		"unary":  check,
		"stream": func(ctx context.Context, conn *grpc.ClientConn) error { _, err := watch(ctx, conn); return err },
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{check: hang, watch: func(_ int, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
				return hang(stream.Context(), 0)
			}}
			p := quiet()
			p.Breaker = circuit.New("caller", circuit.Config{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Millisecond)
			defer cancel()
			err := call(late{ctx, time.Now().Add(time.Minute)}, inMemory(t, s, with(p)...))
			if status.Code(err) != codes.DeadlineExceeded || s.count() != 1 || !p.Breaker.Metrics().LastFailure.IsZero() {
				t.Errorf("%s: error %v after %d calls, and the breaker has counted a failure at %v", name, err, s.count(), p.Breaker.Metrics().LastFailure)
			}
		})
	}
}
