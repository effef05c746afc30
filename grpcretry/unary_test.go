package grpcretry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/grpcretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

func TestACallIsRepeated(t *testing.T) {
	noLeak(t)
	synctest.Test(t, func(t *testing.T) {
		s := &server{check: fail(2, codes.Unavailable)}
		conn := inMemory(t, s, with(quiet())...)
		if err := check(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		if want := []string{"", "1", "2"}; !slices.Equal(s.previous, want) {
			t.Errorf("grpc-previous-rpc-attempts %q, want %q", s.previous, want)
		}
		if want := []time.Duration{time.Second, 2 * time.Second}; !slices.Equal(s.waits(), want) {
			t.Errorf("waits %v, want %v", s.waits(), want)
		}
	})
}

// Each code is retried or not, and counts for the breaker, as the table of the package says.
func TestCodes(t *testing.T) {
	for _, row := range []struct {
		code    codes.Code
		text    string
		retried bool
		failure bool
	}{
		{codes.Unavailable, "", true, true},
		{codes.ResourceExhausted, "", true, true},
		{codes.ResourceExhausted, "grpc: received message larger than max (5 vs. 4)", false, false},
		{codes.Aborted, "", true, false},
		{codes.DeadlineExceeded, "", true, true},
		{codes.Canceled, "", true, true},
		{codes.Internal, "", false, true},
		{codes.Unknown, "", false, true},
		{codes.DataLoss, "", false, true},
		{codes.Code(77), "", false, true},
		{codes.InvalidArgument, "", false, false},
		{codes.NotFound, "", false, false},
		{codes.AlreadyExists, "", false, false},
		{codes.PermissionDenied, "", false, false},
		{codes.FailedPrecondition, "", false, false},
		{codes.OutOfRange, "", false, false},
		{codes.Unimplemented, "", false, false},
		{codes.Unauthenticated, "", false, false},
	} {
		t.Run(row.code.String()+row.text, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{check: func(context.Context, int) error { return status.Error(row.code, row.text) }}
				p := quiet()
				p.Breaker = circuit.New("codes", circuit.Config{FailureThreshold: 100})
				err := check(t.Context(), inMemory(t, s, with(p)...))
				if status.Code(err) != row.code {
					t.Errorf("error %v has code %v", err, status.Code(err))
				}
				want := 1
				if row.retried {
					want = 4
				}
				if s.count() != want {
					t.Errorf("%d attempts, want %d", s.count(), want)
				}
				if failed := !p.Breaker.Metrics().LastFailure.IsZero(); failed != row.failure {
					t.Errorf("a failure for the breaker: %v, want %v", failed, row.failure)
				}
			})
		})
	}
}

func TestRetryOnNamesCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{check: fail(1, codes.Internal)}
		p := quiet()
		p.RetryOn = []string{"default", "INTERNAL"}
		if err := check(t.Context(), inMemory(t, s, with(p)...)); err != nil {
			t.Error(err)
		}
	})
}

// twin is a service config with the retryPolicy that does what quiet does.
const twin = `{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 4, "initialBackoff": "1s",
	"maxBackoff": "30s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE", "ABORTED"]}}]}`

// For what a server may say, this package and gRPC's own retries make the same attempts.
func TestPushbackAsInGRPC(t *testing.T) {
	for _, row := range []struct {
		name   string
		script func(ctx context.Context, n int) error
		calls  int
		wait   time.Duration // before the second attempt
	}{
		{"none", func(ctx context.Context, _ int) error { return pushback(ctx, codes.Unavailable) }, 4, -1},
		{"now", func(ctx context.Context, _ int) error { return pushback(ctx, codes.Unavailable, "0") }, 4, 0},
		{"later", func(ctx context.Context, _ int) error { return pushback(ctx, codes.Unavailable, "7000") }, 4, 7 * time.Second},
		{"sooner than the backoff", func(ctx context.Context, _ int) error { return pushback(ctx, codes.Unavailable, "10") }, 4, 10 * time.Millisecond},
		{"stop", func(ctx context.Context, _ int) error { return pushback(ctx, codes.Unavailable, "-1") }, 1, -1},
		{"stop after one", func(ctx context.Context, n int) error {
			if n == 1 {
				return pushback(ctx, codes.Unavailable)
			}
			return pushback(ctx, codes.Unavailable, "-5")
		}, 2, -1},
		{"garbage", func(ctx context.Context, _ int) error { return pushback(ctx, codes.Unavailable, "soon") }, 1, -1},
		{"empty", func(ctx context.Context, _ int) error { return pushback(ctx, codes.Unavailable, "") }, 1, -1},
		{"two values", func(ctx context.Context, _ int) error { return pushback(ctx, codes.Unavailable, "0", "0") }, 1, -1},
		{"too large for an int", func(ctx context.Context, _ int) error {
			return pushback(ctx, codes.Unavailable, "99999999999999999999")
		}, 1, -1},
		{"of a code that is not retried", func(ctx context.Context, _ int) error { return pushback(ctx, codes.NotFound, "0") }, 1, -1},
		{"conflict", func(ctx context.Context, _ int) error { return pushback(ctx, codes.Aborted, "0") }, 4, 0},
		{"success after two", func(ctx context.Context, n int) error {
			if n > 2 {
				return nil
			}
			return pushback(ctx, codes.Unavailable, "0")
		}, 3, 0},
	} {
		for client, options := range map[string][]grpc.DialOption{
			"grpcretry": with(quiet()), "gRPC": {grpc.WithDefaultServiceConfig(twin)},
		} {
			t.Run(row.name+"/"+client, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &server{check: row.script}
					_ = check(t.Context(), inMemory(t, s, options...))
					if s.count() != row.calls {
						t.Errorf("%d attempts, want %d", s.count(), row.calls)
					}
					if row.wait >= 0 && s.waits()[0] != row.wait {
						t.Errorf("waits %v, want %v first", s.waits(), row.wait)
					}
				})
			})
		}
	}
}

// After a pushback that was obeyed, the next delay is the policy's again.
func TestTheBackoffReturnsAfterAPushback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{check: func(ctx context.Context, n int) error {
			if n == 1 {
				return pushback(ctx, codes.Unavailable, "0")
			}
			return pushback(ctx, codes.Unavailable)
		}}
		_ = check(t.Context(), inMemory(t, s, with(quiet())...))
		if want := []time.Duration{0, 2 * time.Second, 4 * time.Second}; !slices.Equal(s.waits(), want) {
			t.Errorf("waits %v, want %v", s.waits(), want)
		}
	})
}

func TestIgnoreRetryAfterIgnoresAPushback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{check: func(ctx context.Context, _ int) error { return pushback(ctx, codes.Unavailable, "9000") }}
		p := quiet()
		p.MaxAttempts, p.IgnoreRetryAfter = 2, true
		_ = check(t.Context(), inMemory(t, s, with(p)...))
		if want := []time.Duration{time.Second}; !slices.Equal(s.waits(), want) {
			t.Errorf("waits %v, want %v", s.waits(), want)
		}
	})
}

func withInfo(code codes.Code, wait time.Duration) error {
	s, err := status.New(code, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	if err != nil {
		return err
	}
	return s.Err()
}

func TestRetryInfo(t *testing.T) {
	for _, row := range []struct {
		info, wait time.Duration
	}{
		{0, time.Second}, {500 * time.Millisecond, time.Second}, {5 * time.Second, 5 * time.Second}, {-time.Second, time.Second},
	} {
		t.Run(row.info.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{check: func(context.Context, int) error { return withInfo(codes.ResourceExhausted, row.info) }}
				p := quiet()
				p.MaxAttempts = 2
				err := check(t.Context(), inMemory(t, s, with(p)...))
				if want := []time.Duration{row.wait}; !slices.Equal(s.waits(), want) {
					t.Errorf("waits %v, want %v", s.waits(), want)
				}
				if st, _ := status.FromError(err); len(st.Details()) != 1 {
					t.Errorf("the details of %v are lost", err)
				}
			})
		})
	}
}

func TestAWaitThatIsTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{check: func(ctx context.Context, _ int) error { return pushback(ctx, codes.Unavailable, "61000") }}
		err := check(t.Context(), inMemory(t, s, with(quiet())...))
		if !errors.Is(err, retry.ErrRetryLater) || status.Code(err) != codes.Unavailable || s.count() != 1 {
			t.Errorf("error %v after %d attempts", err, s.count())
		}
	})
}

// hang waits until the call has ended.
func hang(ctx context.Context, _ int) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestAttemptTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{check: func(ctx context.Context, n int) error {
			if n < 3 {
				return hang(ctx, n)
			}
			return nil
		}}
		p := quiet()
		p.AttemptTimeout = 5 * time.Second
		if err := check(t.Context(), inMemory(t, s, with(p)...)); err != nil || s.count() != 3 {
			t.Errorf("error %v after %d attempts", err, s.count())
		}
	})
}

// The end of the caller's context ends the call, in an attempt and in a wait, and the breaker
// does not count it.
func TestTheCallersContext(t *testing.T) {
	for _, row := range []struct {
		name   string
		script func(context.Context, int) error
		cancel bool
		code   codes.Code
		calls  int
	}{
		{"deadline in an attempt", hang, false, codes.DeadlineExceeded, 1},
		{"cancelled in an attempt", hang, true, codes.Canceled, 1},
		{"cancelled in a wait", fail(9, codes.Unavailable), true, codes.Canceled, 1},
		{"deadline too near for a wait", fail(9, codes.Unavailable), false, codes.Unavailable, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{check: row.script}
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				defer cancel()
				if row.cancel {
					ctx, cancel = context.WithCancel(t.Context())
					time.AfterFunc(500*time.Millisecond, cancel)
				}
				p := quiet()
				p.Breaker = circuit.New("caller", circuit.Config{})
				err := check(ctx, inMemory(t, s, with(p)...))
				if status.Code(err) != row.code || s.count() != row.calls {
					t.Errorf("code %v (%v), %d attempts, want %v, %d", status.Code(err), err, s.count(), row.code, row.calls)
				}
				if row.code != codes.Unavailable && row.calls == 1 && !p.Breaker.Metrics().LastFailure.IsZero() && row.name != "cancelled in a wait" {
					t.Error("the breaker counts a failure")
				}
			})
		})
	}
}

func TestMaxElapsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{check: fail(9, codes.Unavailable)}
		p := quiet()
		p.MaxAttempts, p.MaxElapsed = retry.Unlimited, 4*time.Second
		err := check(t.Context(), inMemory(t, s, with(p)...))
		if !errors.Is(err, retry.ErrDeadline) || s.count() != 3 {
			t.Errorf("error %v after %d attempts", err, s.count())
		}
	})
}

func TestOnceIsRepeatedOnlyIfNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := grpcretry.Options{Policy: quiet(), Methods: map[string]grpcretry.Method{"/grpc.health.v1.Health/": {Once: true}}}
		s := &server{check: fail(9, codes.Unavailable)}
		if err := check(t.Context(), inMemory(t, s, grpcretry.DialOptions(o)...)); status.Code(err) != codes.Unavailable || s.count() != 1 {
			t.Errorf("sent: error %v after %d attempts", err, s.count())
		}
		var e *retry.Error
		err := check(t.Context(), unreachable(t, grpcretry.DialOptions(o)...))
		if !errors.As(err, &e) || e.Attempts != 4 {
			t.Errorf("not sent: %v, want 4 attempts", err)
		}
	})
}

func TestBreakerPerTargetAndMethod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		breakers := circuit.Config{FailureThreshold: 2}
		p := quiet()
		p.MaxAttempts = 1
		var registry circuit.Registry
		o := grpcretry.Options{Policy: p, Breakers: &breakers, Registry: &registry, Key: func(target, method string) string { return target + method }}
		s := &server{check: fail(99, codes.Unavailable)}
		conn := inMemory(t, s, grpcretry.DialOptions(o)...)
		for range 2 {
			_ = check(t.Context(), conn)
		}
		err := check(t.Context(), conn)
		var open *circuit.OpenError
		if !errors.As(err, &open) || status.Code(err) != codes.Unavailable || s.count() != 2 {
			t.Fatalf("error %v after %d calls", err, s.count())
		}
		if want := "grpc:passthrough:///memory/grpc.health.v1.Health/Check"; open.Name != want {
			t.Errorf("name %q, want %q", open.Name, want)
		}
	})
}

func TestOptionsAreValidated(t *testing.T) {
	for name, o := range map[string]grpcretry.Options{
		"key":      {Methods: map[string]grpcretry.Method{"Health": {}}},
		"pattern":  {Methods: map[string]grpcretry.Method{"/grpc.health.v1.Health/*": {}}},
		"hedges":   {Methods: map[string]grpcretry.Method{"": {Hedge: &grpcretry.Hedge{MaxAttempts: 6}}}},
		"once":     {Methods: map[string]grpcretry.Method{"": {Once: true, Hedge: &grpcretry.Hedge{MaxAttempts: 2}}}},
		"delay":    {Methods: map[string]grpcretry.Method{"": {Hedge: &grpcretry.Hedge{MaxAttempts: 2, Delay: -1}}}},
		"policy":   {Policy: &retry.Policy{MaxAttempts: -7}},
		"breakers": {Breakers: &circuit.Config{FailureThreshold: -7}},
		"method":   {Methods: map[string]grpcretry.Method{"": {Policy: &retry.Policy{MaxAttempts: -7}}}},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, "passthrough:///nowhere", grpcretry.DialOptions(o)...)
			defer func() { _ = conn.Close() }()
			var bad *retry.ConfigError
			if err := check(t.Context(), conn); !errors.As(err, &bad) {
				t.Errorf("error %v, want a ConfigError", err)
			}
		})
	}
}

// An error after several attempts names the operation.
func TestErrorNamesTheMethod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{check: fail(9, codes.Unavailable)}
		err := check(t.Context(), inMemory(t, s, with(quiet())...))
		var e *retry.Error
		if !errors.As(err, &e) || e.Operation != "grpc.health.v1.Health/Check" || status.Code(e.Last) != codes.Unavailable || fmt.Sprintf("%T", e.Last) != "*status.Error" {
			t.Errorf("error %#v", err)
		}
	})
}

// gRPC returns io.EOF, without a status, if a stream is reset while its request is being sent.
func TestARequestThatIsCut(t *testing.T) {
	for _, once := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			sent := 0
			cut := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				if sent++; sent == 1 {
					return io.EOF
				}
				return invoke(ctx, method, req, reply, cc, opts...)
			}
			o := grpcretry.Options{Policy: quiet(), Methods: map[string]grpcretry.Method{"": {Once: once}}}
			conn := inMemory(t, &server{check: fail(0, codes.OK)}, append(grpcretry.DialOptions(o), grpc.WithChainUnaryInterceptor(cut))...)
			if err := check(t.Context(), conn); (status.Code(err) == codes.Unavailable) != once || (sent == 1) != once {
				t.Errorf("once %v: error %v after %d attempts", once, err, sent)
			}
		})
	}
}

// A message beyond a limit of the client or the server is not sent again. gRPC tells this by the text of the status alone,
// which this test compares with that of the gRPC at hand.
func TestAMessageBeyondALimitIsNotRepeated(t *testing.T) {
	for _, row := range []struct {
		name    string
		service string
		option  grpc.CallOption
	}{
		{"the client's limit, sent", "down", grpc.MaxCallSendMsgSize(1)},
		{"the client's limit, received", "", grpc.MaxCallRecvMsgSize(1)},
		{"the server's limit", strings.Repeat("x", 5<<20), grpc.MaxCallSendMsgSize(6 << 20)},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				counter := new(grpcretry.Counter)
				conn := inMemory(t, &server{check: fail(0, codes.OK)}, grpcretry.DialOptions(grpcretry.Options{Policy: quiet(), Counter: counter})...)
				client, in := healthpb.NewHealthClient(conn), &healthpb.HealthCheckRequest{Service: row.service}
				_, err := client.Check(t.Context(), in, row.option)
				if status.Code(err) != codes.ResourceExhausted || counter.Counts().Attempts != 1 {
					t.Errorf("error %v after %d attempts, want RESOURCE_EXHAUSTED after one", err, counter.Counts().Attempts)
				}
			})
		})
	}
}
