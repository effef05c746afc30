package grpcretry_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/grpcretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// The rows are those of gRPC's proposal A6: when attempts begin, and what ends the call.
func TestHedges(t *testing.T) {
	const s = time.Second
	type step struct {
		takes    time.Duration
		code     codes.Code
		pushback string
	}
	tolerant := grpcretry.Hedge{MaxAttempts: 3, Delay: s, NonFatal: []codes.Code{codes.Unavailable}}
	for _, row := range []struct {
		name  string
		hedge grpcretry.Hedge
		steps []step
		code  codes.Code
		at    []time.Duration // when the attempts begin
		ends  time.Duration
	}{
		{"fast", grpcretry.Hedge{MaxAttempts: 3, Delay: s}, []step{{}}, codes.OK, []time.Duration{0}, 0},
		{"the second is faster", grpcretry.Hedge{MaxAttempts: 3, Delay: s}, []step{{takes: 9 * s}, {}}, codes.OK, []time.Duration{0, s}, s},
		{"the first is faster", grpcretry.Hedge{MaxAttempts: 3, Delay: s}, []step{{takes: 1500 * time.Millisecond}, {takes: 9 * s}}, codes.OK, []time.Duration{0, s}, 1500 * time.Millisecond},
		{"as many as allowed", grpcretry.Hedge{MaxAttempts: 3, Delay: s}, []step{{takes: 9 * s}, {takes: 9 * s}, {takes: 9 * s}}, codes.OK, []time.Duration{0, s, 2 * s}, 9 * s},
		{"all at once", grpcretry.Hedge{MaxAttempts: 3}, []step{{takes: 2 * s}, {takes: s}, {takes: 2 * s}}, codes.OK, []time.Duration{0, 0, 0}, s},
		{"not fatal: at once", tolerant, []step{{code: codes.Unavailable}, {code: codes.Unavailable}, {takes: s / 2}}, codes.OK, []time.Duration{0, 0, 0}, s / 2},
		{"fatal", tolerant, []step{{takes: 9 * s}, {code: codes.NotFound}}, codes.NotFound, []time.Duration{0, s}, s},
		{"all fail", tolerant, []step{{code: codes.Unavailable}, {code: codes.Unavailable}, {code: codes.Unavailable}}, codes.Unavailable, []time.Duration{0, 0, 0}, 0},
		{"pushback", tolerant, []step{{code: codes.Unavailable, pushback: "5000"}, {}}, codes.OK, []time.Duration{0, 5 * s}, 5 * s},
		{"pushback as long as allowed", tolerant, []step{{code: codes.Unavailable, pushback: "60000"}, {}}, codes.OK, []time.Duration{0, 60 * s}, 60 * s},
		{"pushback longer than allowed", tolerant, []step{{code: codes.Unavailable, pushback: "60001"}}, codes.Unavailable, []time.Duration{0}, 0},
		{"pushback longer than allowed, another is under way", tolerant, []step{{takes: 4 * s}, {code: codes.Unavailable, pushback: "2147483647"}}, codes.OK, []time.Duration{0, s}, 4 * s},
		{"pushback now", tolerant, []step{{code: codes.Unavailable, pushback: "0"}, {}}, codes.OK, []time.Duration{0, 0}, 0},
		{"pushback stop, another is under way", tolerant, []step{{takes: 4 * s}, {code: codes.Unavailable, pushback: "-1"}}, codes.OK, []time.Duration{0, s}, 4 * s},
		{"pushback stop", tolerant, []step{{code: codes.Unavailable, pushback: "-1"}}, codes.Unavailable, []time.Duration{0}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				noLeak(t)
				var running atomic.Int64
				srv := &server{check: func(ctx context.Context, n int) error {
					running.Add(1)
					defer running.Add(-1)
					if err := pause(ctx, row.steps[n-1].takes); err != nil {
						return err
					}
					if p := row.steps[n-1].pushback; p != "" {
						return pushback(ctx, row.steps[n-1].code, p)
					}
					return status.Error(row.steps[n-1].code, "by script")
				}}
				conn := inMemory(t, srv, grpcretry.DialOptions(grpcretry.Options{
					Policy: quiet(), Methods: map[string]grpcretry.Method{"/grpc.health.v1.Health/Check": {Hedge: &row.hedge}},
				})...)
				begin := time.Now()
				out, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: "down"})
				if status.Code(err) != row.code || time.Since(begin) != row.ends {
					t.Errorf("error %v after %v, want %v after %v", err, time.Since(begin), row.code, row.ends)
				}
				if err == nil && out.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
					t.Errorf("reply %v", out)
				}
				synctest.Wait() // the attempts that lost have begun and ended
				var at []time.Duration
				for _, then := range srv.at {
					at = append(at, then.Sub(begin))
				}
				if !slices.Equal(at, row.at) {
					t.Errorf("attempts at %v, want %v", at, row.at)
				}
				if running.Load() != 0 {
					t.Errorf("%d attempts continue after the call", running.Load())
				}
			})
		})
	}
}

// A pushback that the policy ignores, or that does not end before the deadline, delays no hedge.
func TestHedgesAndPushback(t *testing.T) {
	for _, ignore := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			srv := &server{check: func(ctx context.Context, _ int) error { return pushback(ctx, codes.Unavailable, "50000") }}
			p := quiet()
			p.IgnoreRetryAfter = ignore
			conn := inMemory(t, srv, grpcretry.DialOptions(grpcretry.Options{Policy: p, Methods: map[string]grpcretry.Method{
				"": {Hedge: &grpcretry.Hedge{MaxAttempts: 3, Delay: time.Second, NonFatal: []codes.Code{codes.Unavailable}}},
			}})...)
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			begin := time.Now()
			err := check(ctx, conn)
			want := 1
			if ignore {
				want = 3
			}
			if status.Code(err) != codes.Unavailable || time.Since(begin) != 0 || srv.count() != want {
				t.Errorf("ignored %t: %d attempts, %v after %v; want %d, Unavailable at once", ignore, srv.count(), err, time.Since(begin), want)
			}
		})
	}
}

// Each attempt after the first costs a token, and none begins while the breaker is not closed.
func TestHedgesHaveABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{check: func(ctx context.Context, _ int) error { return pause(ctx, time.Minute) }}
		p := quiet()
		p.Breaker = circuit.New("hedges", circuit.Config{Budget: 1})
		conn := inMemory(t, srv, grpcretry.DialOptions(grpcretry.Options{
			Policy: p, Methods: map[string]grpcretry.Method{"": {Hedge: &grpcretry.Hedge{MaxAttempts: 5}}},
		})...)
		if err := check(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		if srv.count() != 2 {
			t.Errorf("%d attempts with one token, want 2", srv.count())
		}
	})
}

func TestHedgesEndWithTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noLeak(t)
		srv := &server{check: hang}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		conn := inMemory(t, srv, grpcretry.DialOptions(grpcretry.Options{
			Policy: quiet(), Methods: map[string]grpcretry.Method{"": {Hedge: &grpcretry.Hedge{MaxAttempts: 3, Delay: time.Second}}},
		})...)
		if err := check(ctx, conn); status.Code(err) != codes.DeadlineExceeded || srv.count() != 3 {
			t.Errorf("error %v after %d attempts", err, srv.count())
		}
	})
}

// A hedged call is one attempt for the policy: its failure is not retried.
func TestAHedgedCallIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{check: fail(9, codes.Unavailable)}
		var events []retry.Event
		p := quiet()
		p.Observe = func(_ context.Context, e retry.Event) { events = append(events, e) }
		conn := inMemory(t, srv, grpcretry.DialOptions(grpcretry.Options{
			Policy: p, Methods: map[string]grpcretry.Method{"": {Hedge: &grpcretry.Hedge{MaxAttempts: 2, NonFatal: []codes.Code{codes.Unavailable}}}},
		})...)
		if err := check(t.Context(), conn); status.Code(err) != codes.Unavailable || srv.count() != 2 {
			t.Errorf("error %v after %d attempts", err, srv.count())
		}
		if len(events) != 1 || events[0].Kind != retry.Stopped || events[0].Attempt != 1 {
			t.Errorf("events %v", events)
		}
	})
}
