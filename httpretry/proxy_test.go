package httpretry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A proxy refuses some CONNECT requests with the given statuses, then connects.
type proxy struct {
	*httptest.Server
	refusals []int
	header   http.Header // of a refusal
	requests atomic.Int32
}

func newProxy(t *testing.T, header http.Header, refusals ...int) *proxy {
	t.Helper()
	p := &proxy{refusals: refusals, header: header}
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	return p
}

func (p *proxy) serve(w http.ResponseWriter, r *http.Request) {
	if n := int(p.requests.Add(1)); n <= len(p.refusals) {
		maps.Copy(w.Header(), p.header)
		w.WriteHeader(p.refusals[n-1])
		return
	}
	if r.Method != http.MethodConnect {
		return
	}
	server, err := new(net.Dialer).DialContext(r.Context(), "tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	client, _, err := w.(http.Hijacker).Hijack() //nolint:forcetypeassert // a real server's
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() {
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	_, _ = io.Copy(client, server)
	client.Close()
}

// base returns a transport that uses the proxy, with a password that must not be in any error.
func (p *proxy) base(t *testing.T, origin *httptest.Server) *http.Transport {
	t.Helper()
	u, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("user", "hunter2")
	base := origin.Client().Transport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
	base.Proxy = http.ProxyURL(u)
	t.Cleanup(base.CloseIdleConnections)
	return base
}

// primed returns a breaker with one failure, which a success would reset.
func primed() *circuit.Breaker {
	b := circuit.New("test", circuit.Config{FailureThreshold: 10, Observe: func(context.Context, circuit.Transition) {}})
	b.RecordFailure()
	return b
}

// The refusal of a proxy is no failure of the server behind it, and the next attempt would be refused too. It used to be
// retried, and to open the server's breaker.
func TestProxyThatRefusesToConnect(t *testing.T) {
	origin := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") }))
	origin.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that are given up
	origin.StartTLS()
	defer origin.Close()
	for _, tt := range []struct {
		refusals []int
		header   http.Header
		requests int32
		status   int // of the ProxyError; 0 means that the request succeeds
		failures int // that the breaker knows of in the end
		waited   time.Duration
	}{
		{refusals: nil, requests: 1, failures: 0},
		{refusals: []int{407, 407, 407}, requests: 1, status: 407, failures: 1},
		{refusals: []int{403, 403, 403}, requests: 1, status: 403, failures: 1},
		{refusals: []int{401, 401, 401}, requests: 1, status: 401, failures: 1},
		{refusals: []int{404, 404, 404}, requests: 1, status: 404, failures: 1},
		{refusals: []int{302, 302, 302}, requests: 1, status: 302, failures: 1},
		{refusals: []int{204, 204, 204}, requests: 1, status: 204, failures: 1},
		{refusals: []int{501, 501, 501}, requests: 1, status: 501, failures: 1},
		{refusals: []int{502, 502, 502}, requests: 3, status: 502, failures: 4},
		{refusals: []int{503, 407, 407}, requests: 2, status: 407, failures: 2},
		{refusals: []int{502, 503}, requests: 3, failures: 0},
		{refusals: []int{503, 503}, header: http.Header{"Retry-After": {"0.05"}}, requests: 3, failures: 0, waited: 100 * time.Millisecond},
		{refusals: []int{429, 504}, requests: 3, failures: 0},
	} {
		for _, method := range []string{"GET", "POST"} {
			for name, options := range sameOptions() {
				t.Run(fmt.Sprint(tt.refusals, " ", method, " ", name), func(t *testing.T) {
					p := newProxy(t, tt.header, tt.refusals...)
					base := p.base(t, origin)
					options.Policy.Breaker = primed()
					began := time.Now()
					_, body, err := row{method: method}.do(t, origin.URL, httpretry.NewTransport(base, options))
					if n := p.requests.Load(); n != tt.requests || time.Since(began) < tt.waited {
						t.Errorf("%d requests to the proxy in %v; want %d in %v at least", n, time.Since(began), tt.requests, tt.waited)
					}
					if n := options.Policy.Breaker.Metrics().Failures; n != tt.failures {
						t.Errorf("the breaker knows of %d failures; want %d", n, tt.failures)
					}
					e, ok := errors.AsType[*httpretry.ProxyError](err)
					switch {
					case tt.status == 0 && (err != nil || body != "fine"):
						t.Errorf("%q, %v; want a response", body, err)
					case tt.status != 0 && (!ok || e.Status != tt.status || e.Proxy != p.URL || "https://"+e.Target != origin.URL):
						t.Errorf("%v; want a ProxyError with %d", err, tt.status)
					case err != nil && strings.Contains(err.Error(), "hunter2"):
						t.Errorf("%v shows the password", err)
					}
				})
			}
		}
	}
}

// A wrapped transport hides its http.Transport.
type wrapped struct{ http.RoundTripper }

// The caller's http.Transport is not changed, whether it is the base or inside the base; ReportProxyErrors is for one inside.
// Without it a refusal is an ordinary failure: net/http returns only the text of the status line. A function of the caller's
// is called first.
func TestProxyErrorsOfTheCallersTransport(t *testing.T) {
	origin := httptest.NewTLSServer(http.NotFoundHandler())
	defer origin.Close()
	p := newProxy(t, nil, slices.Repeat([]int{407}, 7)...)
	own := errors.New("own")
	for _, tt := range []struct {
		name     string
		prepare  func(*http.Transport) http.RoundTripper
		requests int32
		want     error // nil: a ProxyError
	}{
		{"base", func(base *http.Transport) http.RoundTripper { return base }, 1, nil},
		{"wrapped", func(base *http.Transport) http.RoundTripper { return wrapped{base} }, 3, retry.ErrExhausted},
		{"wrapped, reports", func(base *http.Transport) http.RoundTripper {
			httpretry.ReportProxyErrors(base)
			return wrapped{base}
		}, 1, nil},
		{"the caller's function", func(base *http.Transport) http.RoundTripper {
			base.OnProxyConnectResponse = func(context.Context, *url.URL, *http.Request, *http.Response) error { return retry.Permanent(own) }
			return base
		}, 1, own},
	} {
		p.requests.Store(0)
		base := p.base(t, origin)
		prepared := tt.prepare(base)
		was := base.OnProxyConnectResponse != nil
		_, _, err := row{}.do(t, origin.URL, httpretry.NewTransport(prepared, httpretry.Options{Policy: quick()}))
		_, reported := errors.AsType[*httpretry.ProxyError](err)
		if reported != (tt.want == nil) || tt.want != nil && !errors.Is(err, tt.want) || p.requests.Load() != tt.requests {
			t.Errorf("%s: %v after %d requests; want %v after %d", tt.name, err, p.requests.Load(), tt.want, tt.requests)
		}
		if is := base.OnProxyConnectResponse != nil; is != was {
			t.Errorf("%s: the caller's transport was changed", tt.name)
		}
	}
}

// Requests without CONNECT use the connections of the base, which two Transports over it share. Requests with CONNECT use the
// connections of the copy; CloseIdleConnections closes both.
func TestConnectionsOfTheCallersTransport(t *testing.T) {
	serve := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") })
	origin := httptest.NewTLSServer(serve)
	defer origin.Close()
	plain := httptest.NewServer(serve)
	defer plain.Close()
	p := newProxy(t, nil)
	base := p.base(t, origin)
	var dials atomic.Int32
	base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	proxies, direct := base.Proxy, true
	base.Proxy = func(req *http.Request) (*url.URL, error) {
		if direct {
			return nil, nil
		}
		return proxies(req)
	}
	first, second := httpretry.NewTransport(base, httpretry.Options{Policy: quick()}), httpretry.NewTransport(base, httpretry.Options{Policy: quick()})
	fetch := func(address string, want int32, transports ...http.RoundTripper) {
		t.Helper()
		dials.Store(0)
		for _, transport := range transports {
			if _, body, err := (row{}).do(t, address, transport); err != nil || body != "fine" {
				t.Errorf("%s: %q, %v", address, body, err)
			}
		}
		if n := dials.Load(); n != want {
			t.Errorf("%s: %d connections, want %d", address, n, want)
		}
	}
	fetch(plain.URL, 1, base, first, second, first)
	fetch(origin.URL, 1, base, first, second, first)
	direct = false
	fetch(origin.URL, 1, first, first)
	first.CloseIdleConnections()
	fetch(origin.URL, 1, first, first)
}

// A 407 to a request for an http URL comes from the proxy, too.
func TestProxyThatRefusesARequest(t *testing.T) {
	p := newProxy(t, nil, 407)
	base := p.base(t, p.Server)
	policy := quick()
	policy.Breaker = primed()
	res, _, err := row{}.do(t, "http://example.invalid", httpretry.NewTransport(base, httpretry.Options{Policy: policy}))
	if err != nil || res.StatusCode != 407 || httpretry.GaveUp(res) != nil || policy.Breaker.Metrics().Failures != 1 {
		t.Errorf("%v, %v with %+v; want the 407, and the breaker untouched", res, err, policy.Breaker.Metrics())
	}
}

// A client without a base of the caller's reports the proxy of the environment.
func TestProxyOfTheEnvironment(t *testing.T) {
	const child = "PERDURE_TEST_PROXY_CHILD"
	if os.Getenv(child) != "" { // net/http reads the environment once in a process
		_, err := httpretry.Client(quick()).Get("https://example.invalid") //nolint:noctx // it fails
		e, ok := errors.AsType[*httpretry.ProxyError](err)
		if _, again := errors.AsType[*retry.Error](err); !ok || e.Status != 407 || again {
			t.Errorf("%v; want a ProxyError after one attempt", err)
		}
		return
	}
	p := newProxy(t, nil, 407, 407, 407, 407)
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		run := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxyOfTheEnvironment$") //nolint:gosec // this test
		run.Env = append(os.Environ(), child+"=1", "NO_PROXY=", "no_proxy=", "HTTPS_PROXY=", "https_proxy=", name+"="+p.URL)
		if out, err := run.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if n := p.requests.Load(); n != 2 {
		t.Errorf("%d requests to the proxy; want one of each child", n)
	}
}
