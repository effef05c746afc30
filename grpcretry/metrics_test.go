package grpcretry_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/grpcretry"
	"github.com/seed-0f2c7998/perdure/metrics"
)

// counts fails the test unless r exposes the lines, and no others of the metrics of hedges,
// calls and attempts.
func counts(t *testing.T, r *metrics.Registry, lines ...string) {
	t.Helper()
	var page strings.Builder
	if err := r.Snapshot().Write(&page, metrics.Text); err != nil {
		t.Fatal(err)
	}
	want := make(map[string]bool)
	for _, line := range lines {
		want[line] = true
	}
	for line := range strings.Lines(page.String()) {
		line = strings.TrimSpace(line)
		for _, name := range []string{"perdure_hedges_total{", "perdure_calls_total{", "perdure_attempts_total{"} {
			if strings.HasPrefix(line, name) && !want[line] && !strings.HasSuffix(line, " 0") {
				t.Errorf("also %s", line)
			}
		}
		delete(want, line)
	}
	for line := range want {
		t.Errorf("no %s in\n%s", line, &page)
	}
}

func TestCallsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var registry metrics.Registry
		p := quiet()
		p.Metrics = &registry
		srv := &server{
			check: fail(2, codes.Unavailable),
			watch: func(n int, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
				if n == 4 { // after three attempts of the unary call
					return status.Error(codes.ResourceExhausted, "by script")
				}
				return send(3, nil)(stream)
			},
		}
		conn := inMemory(t, srv, with(p)...)
		if err := check(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		if n, err := watch(t.Context(), conn); n != 3 || err != nil {
			t.Fatalf("%d messages, error %v", n, err)
		}
		srv.check = fail(99, codes.NotFound)
		if err := check(t.Context(), conn); status.Code(err) != codes.NotFound {
			t.Fatal(err)
		}
		counts(t, &registry,
			`perdure_calls_total{operation="grpc.health.v1.Health/Check",key="",outcome="success",reason=""} 1`,
			`perdure_calls_total{operation="grpc.health.v1.Health/Check",key="",outcome="failure",reason="permanent"} 1`,
			`perdure_attempts_total{operation="grpc.health.v1.Health/Check",key="",attempt="1",class="transient"} 1`,
			`perdure_attempts_total{operation="grpc.health.v1.Health/Check",key="",attempt="1",class="permanent"} 1`,
			`perdure_attempts_total{operation="grpc.health.v1.Health/Check",key="",attempt="2",class="transient"} 1`,
			`perdure_attempts_total{operation="grpc.health.v1.Health/Check",key="",attempt="3",class="success"} 1`,
			`perdure_calls_total{operation="grpc.health.v1.Health/Watch",key="",outcome="success",reason=""} 1`,
			`perdure_attempts_total{operation="grpc.health.v1.Health/Watch",key="",attempt="1",class="throttled"} 1`,
			`perdure_attempts_total{operation="grpc.health.v1.Health/Watch",key="",attempt="2",class="success"} 1`,
		)
	})
}

// A hedged call is one attempt, and its hedges count apart.
func TestHedgesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var registry metrics.Registry
		p := quiet()
		p.Name, p.Metrics = "lookup", &registry
		takes := []time.Duration{
			0,                                        // no hedge
			1500 * time.Millisecond, 9 * time.Second, // the first wins
			9 * time.Second, 0, // the second wins
			9 * time.Second, 9 * time.Second, 0, // the third wins
		}
		srv := &server{check: func(ctx context.Context, n int) error { return pause(ctx, takes[n-1]) }}
		conn := inMemory(t, srv, grpcretry.DialOptions(grpcretry.Options{
			Policy: p, Methods: map[string]grpcretry.Method{"": {Hedge: &grpcretry.Hedge{MaxAttempts: 3, Delay: time.Second}}},
		})...)
		for range 4 {
			if err := check(t.Context(), conn); err != nil {
				t.Error(err)
			}
		}
		counts(t, &registry,
			`perdure_hedges_total{operation="lookup",key="",result="sent"} 4`,
			`perdure_hedges_total{operation="lookup",key="",result="won"} 2`,
			`perdure_calls_total{operation="lookup",key="",outcome="success",reason=""} 4`,
			`perdure_attempts_total{operation="lookup",key="",attempt="1",class="success"} 4`,
		)
	})
}

// Calls that begin while the gate of a failing server is limited wait: none of them fails, and the
// server gets few of them before it has recovered.
func TestCallsWaitAtAGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var registry metrics.Registry
		var down atomic.Bool
		down.Store(true)
		srv := &server{check: func(ctx context.Context, _ int) error {
			if err := pause(ctx, 10*time.Millisecond); err != nil || !down.Load() {
				return err
			}
			return status.Error(codes.Unavailable, "by script")
		}}
		p, gate := quiet(), circuit.Service()
		p.Name, p.MaxAttempts, p.Metrics = "load", 20, &registry
		gate.Budget, gate.Observe = 0, func(context.Context, circuit.Transition) {} // each call may be repeated until the server has recovered
		conn := inMemory(t, srv, grpcretry.DialOptions(grpcretry.Options{
			Policy: p, Breakers: &gate, Key: func(string, string) string { return "lake" },
		})...)
		const callers = 40
		var all sync.WaitGroup
		for range callers { // these limit the gate
			all.Go(func() { _ = check(t.Context(), conn) })
		}
		_ = pause(t.Context(), time.Second)
		early := srv.count()
		for range callers {
			all.Go(func() {
				if err := check(t.Context(), conn); err != nil {
					t.Error(err)
				}
			})
		}
		_ = pause(t.Context(), 9*time.Second)
		if n := srv.count() - early; n > callers {
			t.Errorf("%d attempts of %d calls while the server failed", n, callers)
		}
		down.Store(false)
		all.Wait()
		var page strings.Builder
		if err := registry.Snapshot().Write(&page, metrics.Text); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(page.String(), `perdure_wait_seconds_total{operation="load",key="grpc:lake",cause="gate"}`) {
			t.Errorf("no call has waited at the gate:\n%s", &page)
		}
		t.Logf("attempts: %d before the gate was limited, %d in all", early, srv.count())
	})
}
