//go:build integration && unix

// Package services holds five programs of a service, each with its telemetry on. These tests start each as a process,
// before servers with faults.
package services

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/seed-0f2c7998/perdure/examples/internal/pgtest"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// Three of ten requests fail, and one response asks for a wait of a second.
func TestHTTP(t *testing.T) {
	var requests atomic.Int64
	server := httptestfault.New(func(n int, r *http.Request) httptestfault.Response {
		requests.Store(int64(n))
		body := fmt.Appendf(nil, `{"name": "Station %s"}`, r.URL.Path[len("/stations/"):])
		switch {
		case n == 5:
			return httptestfault.Response{Status: 429, Header: http.Header{"Retry-After": {"1"}}}
		case n%10 == 1 || n%10 == 3 || n%10 == 8:
			return httptestfault.Response{Status: 503}
		}
		return httptestfault.Response{Body: body}
	})
	defer server.Close()
	p := start(t, nil, "http", "-api", server.URL)
	p.await("done")
	operation := `operation="fetch_station"`
	if n := p.metric("perdure_calls_total", operation, `outcome="success"`); n != 50 {
		t.Errorf("%v calls succeeded, want 50", n)
	}
	if n := p.metric("perdure_attempts_total", operation); int64(n) != requests.Load() {
		t.Errorf("%v attempts, the server got %d", n, requests.Load())
	}
	if n := p.metric("perdure_retry_after_total", operation, `result="obeyed"`); n != 1 {
		t.Errorf("%v waits obeyed, want 1", n)
	}
	if n := p.metric("perdure_breaker_state", `state="closed"`, "http:"); n != 1 {
		t.Error("the breaker is not closed")
	}
	p.stop()
	if lines := strings.Split(strings.TrimSpace(p.stdout.String()), "\n"); len(lines) != 50 || lines[49] != "Station 49" {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
	p.checkSpans(requests.Load() - 50)
}

// A program that is told to stop while it works neither waits for its next attempt nor makes it.
func TestStopAtWork(t *testing.T) {
	var requests atomic.Int64
	first := make(chan struct{})
	server := httptestfault.New(func(int, *http.Request) httptestfault.Response {
		if requests.Add(1) == 1 {
			close(first)
		}
		return httptestfault.Response{Status: 503, Header: http.Header{"Retry-After": {"20"}}}
	})
	defer server.Close()
	p := start(t, nil, "http", "-api", server.URL)
	<-first
	p.stop()
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// Three of ten calls fail with UNAVAILABLE, one of them with a pushback.
func TestGRPC(t *testing.T) {
	var calls atomic.Int64
	server := grpc.NewServer(grpc.UnaryInterceptor(func(
		ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
	) (any, error) {
		switch n := calls.Add(1); n % 10 {
		case 1:
			if err := grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", "5")); err != nil {
				return nil, err
			}
			fallthrough
		case 3, 8:
			return nil, status.Error(codes.Unavailable, "scripted")
		}
		return handler(ctx, req)
	}))
	healthpb.RegisterHealthServer(server, health.NewServer())
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	p := start(t, nil, "grpc", "-target", listener.Addr().String())
	p.await("done")
	operation := `operation="grpc.health.v1.Health/Check"`
	if n := p.metric("perdure_calls_total", operation, `outcome="success"`); n != 50 {
		t.Errorf("%v calls succeeded, want 50", n)
	}
	if n := p.metric("perdure_attempts_total", operation); int64(n) != calls.Load() {
		t.Errorf("%v attempts, the server got %d", n, calls.Load())
	}
	if n := p.metric("perdure_retry_after_total", operation, `result="obeyed"`); n == 0 {
		t.Error("no pushback was obeyed")
	}
	p.stop()
	if n := strings.Count(p.stdout.String(), "SERVING\n"); n != 50 {
		t.Errorf("%d results, want 50", n)
	}
	p.checkSpans(calls.Load() - 50)
}

// Each transfer is done once, though transactions conflict, and the server ends three connections within a transaction.
func TestPGX(t *testing.T) {
	const transfers = 8 * 20
	database := pgtest.Start(t)
	db, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(context.Background()) }()
	if _, err := db.Exec(t.Context(), `CREATE TABLE account (id int PRIMARY KEY, balance int);
		INSERT INTO account SELECT id, 1000 FROM generate_series(0, 3) id;
		CREATE TABLE ledger (id serial, source int, target int, amount int);
		CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.id IN (60, 90, 120) THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER cut BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION cut()`); err != nil {
		t.Fatal(err)
	}
	p := start(t, nil, "pgx", "-database", database)
	p.await("done")
	var sum, rows int
	err = db.QueryRow(t.Context(), "SELECT (SELECT sum(balance) FROM account), (SELECT count(*) FROM ledger)").Scan(&sum, &rows)
	if err != nil || sum != 4000 || rows != transfers {
		t.Errorf("the accounts hold %d after %d transfers, want 4000 after %d: %v", sum, rows, transfers, err)
	}
	operation := `operation="transfer"`
	if n := p.metric("perdure_calls_total", operation, `outcome="success"`); n != transfers {
		t.Errorf("%v calls succeeded, want %d", n, transfers)
	}
	if n := p.metric("perdure_attempts_total", operation, `class="transient"`); n != 3 {
		t.Errorf("%v attempts lost their connection, want 3", n)
	}
	if n := p.metric("perdure_breaker_state", `key="bank"`); n != 1 {
		t.Errorf("the breaker has %v states", n)
	}
	p.stop()
	p.checkSpans(3)
}

// Three of ten requests fail: the store asks to slow down, has an internal error, or cannot be reached by its gateway.
func TestAWS(t *testing.T) {
	const objects = 25
	server := s3test.Start(t, s3test.Options{Buckets: []string{"bikes"}})
	var requests atomic.Int64
	server.SetScript(func(s3test.Request) s3test.Fault {
		switch requests.Add(1) % 10 {
		case 1:
			return s3test.SlowDown()
		case 4:
			return s3test.InternalError()
		case 8:
			return s3test.Failure(502, "BadGateway")
		}
		return s3test.Fault{}
	})
	p := start(t, []string{
		"AWS_REGION=us-east-1", "AWS_ENDPOINT_URL=" + server.URL,
		"AWS_ACCESS_KEY_ID=" + server.AccessKey, "AWS_SECRET_ACCESS_KEY=" + server.SecretKey,
	}, "aws", "-bucket", "bikes")
	p.await("done")
	attempts := 0.0
	for _, operation := range []string{`operation="PutObject"`, `operation="GetObject"`} {
		if n := p.metric("perdure_calls_total", operation, `outcome="success"`); n != objects {
			t.Errorf("%s: %v calls succeeded, want %d", operation, n, objects)
		}
		attempts += p.metric("perdure_attempts_total", operation)
	}
	n := int64(len(server.Requests()))
	if int64(attempts) != n || n < 2*objects*5/4 {
		t.Errorf("%v attempts, the server got %d requests, want as many, and a quarter more than %d", attempts, n, 2*objects)
	}
	if n := p.metric("perdure_breaker_state", `key="s3"`); n != 1 {
		t.Errorf("the breaker has %v states", n)
	}
	p.stop()
	p.checkSpans(n - 2*objects)
}

// Each worker gets a price, and the service never gets more than 100 calls, and their hedges, at once.
func TestWorkers(t *testing.T) {
	const workers, listPrice = 1000, 99
	for _, row := range []struct {
		name string
		fail func(n int64) bool
		down bool
	}{
		{"three of ten requests fail", func(n int64) bool { return n%10 == 1 || n%10 == 4 || n%10 == 7 }, false},
		{"the service is down", func(int64) bool { return true }, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			var requests, inFlight, most atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				defer inFlight.Add(-1)
				for now := inFlight.Add(1); ; {
					if old := most.Load(); now <= old || most.CompareAndSwap(old, now) {
						break
					}
				}
				if row.fail(requests.Add(1)) {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				_, _ = fmt.Fprint(w, `{"price": 100}`)
			}))
			defer server.Close()
			p := start(t, nil, "workers", "-api", server.URL)
			p.await("done")
			operation := `operation="price"`
			p.metric("perdure_calls_total", operation)
			p.metric("perdure_breaker_state", `key="prices"`)
			p.metric("perdure_wait_seconds_total", operation)
			p.stop()
			var sum, replaced int64
			if _, err := fmt.Sscanf(p.stdout.String(), "sum %d, %d list prices", &sum, &replaced); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d requests, %d list prices", requests.Load(), replaced)
			if want := 100*(workers-replaced) + listPrice*replaced; sum != want {
				t.Errorf("the prices are %d, want %d", sum, want)
			}
			if row.down != (replaced == workers) {
				t.Errorf("%d list prices", replaced)
			}
			if row.down && requests.Load() > workers/2 {
				t.Errorf("%d requests to a service that is down", requests.Load())
			}
			if most.Load() > 160 {
				t.Errorf("%d requests at once, want at most 100 and 60 hedges", most.Load())
			}
			p.checkSpans(1)
		})
	}
}
