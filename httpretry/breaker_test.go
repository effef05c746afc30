package httpretry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

func TestBreakersByKey(t *testing.T) {
	bad := httptestfault.New(httptestfault.Responses(status(500)))
	defer bad.Close()
	good := httptestfault.New(httptestfault.Responses(ok))
	defer good.Close()
	var registry circuit.Registry
	transport := httpretry.NewTransport(&http.Transport{DisableKeepAlives: true}, httpretry.Options{
		Policy: quick(), Registry: &registry,
		Breakers: &circuit.Config{FailureThreshold: 4, Observe: func(context.Context, circuit.Transition) {}},
	})
	if code, ended, err := get(t, transport, bad.URL); code != 500 || !errors.Is(ended, retry.ErrExhausted) || err != nil {
		t.Errorf("first call: %d, %v, %v", code, ended, err)
	}
	code, ended, err := get(t, transport, bad.URL)
	if open, ok := errors.AsType[*circuit.OpenError](ended); code != 500 || !ok || open.Name != "http:"+bad.URL || err != nil {
		t.Errorf("call that trips: %d, %v, %v; want a response that ended with an OpenError", code, ended, err)
	}
	if _, _, err := get(t, transport, bad.URL); err == nil {
		t.Error("a call while the breaker is open went through")
	} else if _, ok := errors.AsType[*circuit.OpenError](err); !ok {
		t.Errorf("call while open: %v; want an OpenError", err)
	}
	if n := len(bad.Requests()); n != 4 {
		t.Errorf("%d requests at the broken server, want 4", n)
	}
	if code, _, err := get(t, transport, good.URL); code != 200 || err != nil {
		t.Errorf("another server: %d, %v", code, err)
	}
	if all := registry.All(); len(all) != 2 {
		t.Errorf("%d breakers; want one for each server", len(all))
	}
}

// A request that is not repeated is a failure for the breaker; a mistake of the caller is not.
func TestBreakerLearnsOfWhatIsNotRepeated(t *testing.T) {
	reset := httptestfault.Response{Fault: httptestfault.Reset()}
	opaque := func() io.Reader { return io.MultiReader(strings.NewReader("data")) }
	for _, tt := range []struct {
		name string
		row  row
		step httptestfault.Response
		want circuit.State
	}{
		{"POST 503", row{method: "POST"}, status(503), circuit.Open},
		{"POST reset", row{method: "POST"}, reset, circuit.Open},
		{"PUT that can't be repeated", row{method: "PUT", upload: opaque}, status(503), circuit.Open},
		{"404", row{}, status(404), circuit.Closed},
		{"bad request", row{header: http.Header{"X Y": {"z"}}}, ok, circuit.Closed},
		{"bad body", row{method: "PUT", upload: func() io.Reader { return failing{errors.New("burnt")} }}, ok, circuit.Closed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptestfault.New(httptestfault.Responses(tt.step))
			defer server.Close()
			base := server.Transport()
			defer base.CloseIdleConnections()
			policy := quick()
			policy.Breaker = circuit.New("b", circuit.Config{FailureThreshold: 3, Observe: func(context.Context, circuit.Transition) {}})
			transport := httpretry.NewTransport(base, httpretry.Options{Policy: policy, BufferLimit: -1, SpoolLimit: -1})
			for range 3 {
				if _, _, err := tt.row.do(t, server.URL, transport); errors.Is(err, retry.ErrExhausted) {
					t.Errorf("repeated: %v", err)
				}
			}
			if got := policy.Breaker.State(); got != tt.want {
				t.Errorf("breaker is %v; want %v", got, tt.want)
			}
		})
	}
}

func TestOwnKeyAndSharedRegistry(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses(ok))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	var registry circuit.Registry
	first := httpretry.NewTransport(base, httpretry.Options{Registry: &registry, Breakers: &circuit.Config{}, Key: func(*http.Request) string { return "all" }})
	other := httpretry.NewTransport(base, httpretry.Options{Registry: &registry, Breakers: &circuit.Config{FailureThreshold: 9}, Key: func(*http.Request) string { return "all" }})
	for range 2 {
		if code, _, err := get(t, first, server.URL); code != 200 || err != nil {
			t.Errorf("%d, %v", code, err)
		}
	}
	if all := registry.All(); len(all) != 1 || all[0].Name() != "http:all" {
		t.Errorf("breakers %v; want one, http:all", all)
	}
	if _, _, err := get(t, other, server.URL); !strings.Contains(fmt.Sprint(err), "http:all") {
		t.Errorf("the same key with another Config: %v; want an error that names it", err)
	}
}

func TestKey(t *testing.T) {
	for url, want := range map[string]string{
		"http://example.org/a":        "http://example.org:80",
		"https://u:p@example.org/a?b": "https://example.org:443",
		"https://example.org:8443":    "https://example.org:8443",
		"http://[::1]/":               "http://[::1]:80",
		"http://Example.ORG/":         "http://example.org:80",
	} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := httpretry.Key(r); got != want {
			t.Errorf("key of %s is %s, want %s", url, got, want)
		}
	}
}

// A Retry-After for one tenant of twenty does not delay the others, and a Retry-After
// of a day for one path ends only that request.
func TestThrottledRequestDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttled := make(map[string]string) // Retry-After by path
		throttled["/tenant/0"], throttled["/export"] = "3", "86400"
		server := httptestfault.NewInMemory(func(_ int, r *http.Request) httptestfault.Response {
			if wait := throttled[r.URL.Path]; wait != "" {
				step := status(429)
				step.Header = http.Header{"Retry-After": {wait}}
				return step
			}
			return ok
		})
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		transport := httpretry.NewTransport(base, httpretry.Options{Policy: quick(), Breakers: &circuit.Config{}})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var calls sync.WaitGroup
		var fine, failed atomic.Int32
		for tenant := range 20 {
			calls.Go(func() {
				for ctx.Err() == nil {
					req, _ := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/tenant/%d", server.URL, tenant), nil)
					res, err := transport.RoundTrip(req)
					if err == nil {
						_, _ = io.Copy(io.Discard, res.Body)
						res.Body.Close()
					}
					switch {
					case tenant == 0:
					case err == nil && res.StatusCode == 200:
						fine.Add(1)
					case ctx.Err() == nil:
						failed.Add(1)
					}
					<-time.After(20 * time.Millisecond)
				}
			})
		}
		for range 10 {
			if code, _, err := get(t, transport, server.URL+"/export"); code != 429 || err != nil {
				t.Errorf("/export: %d, %v", code, err)
			}
		}
		calls.Wait()
		if failed.Load() > 0 || fine.Load() < 9000 {
			t.Errorf("%d requests of the others failed, %d did not", failed.Load(), fine.Load())
		}
	})
}

// An endless sequence of new keys leaves no unneeded state behind.
func TestBreakersOfManyKeys(t *testing.T) {
	var registry circuit.Registry
	transport := httpretry.NewTransport(http.NewFileTransportFS(fstest.MapFS{"f": {Data: []byte("fine")}}), httpretry.Options{
		Registry: &registry, Breakers: &circuit.Config{},
	})
	for i := range 10_000 {
		if code, _, err := get(t, transport, fmt.Sprintf("http://customer%d.example.org/f", i)); code != 200 || err != nil {
			t.Fatal(code, err)
		}
	}
	runtime.GC()
	if n := len(registry.All()); n > 4000 {
		t.Errorf("%d breakers are kept after 10,000 keys", n)
	}
	runtime.KeepAlive(transport)
}
