package proxy_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

// serve serves a proxy on a free port, in front of the upstreams of to, until the test ends. It returns its address.
func serve(t *testing.T, c proxy.Config, to ...string) string {
	t.Helper()
	l, err := proxy.Listen(t.Context(), "--listen", "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, c, to...)
	return l.Addr().String()
}

// serveOn is serve on a listener.
func serveOn(t *testing.T, l net.Listener, c proxy.Config, to ...string) {
	t.Helper()
	var err error
	if c.Upstreams, err = proxy.ParseUpstreams("--to", to); err != nil {
		t.Fatal(err)
	}
	if c.Policy == nil {
		c.Policy = &retry.Policy{MaxAttempts: 4, BaseDelay: time.Millisecond, Jitter: retry.NoJitter, Observe: func(context.Context, retry.Event) {}}
	}
	if c.Breakers.FailureThreshold == 0 {
		c.Breakers.FailureThreshold = circuit.Off
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Breakers.Log == nil {
		c.Breakers.Log = c.Log
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- proxy.New(c, l.Addr()).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// upstream starts a server that fails as the script says.
func upstream(t *testing.T, script httptestfault.Script) *httptestfault.Server {
	t.Helper()
	s := httptestfault.New(script)
	t.Cleanup(s.Close)
	return s
}

// client is one that repeats nothing by itself.
func client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// get requests a URL, and returns the response with its body, and how reading that ended.
func get(t *testing.T, url string) (*http.Response, string, error) {
	t.Helper()
	res := send(t, request(t, http.MethodGet, url, nil))
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

// request returns a request of the test.
func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// send sends a request.
func send(t *testing.T, req *http.Request) *http.Response {
	t.Helper()
	res, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestARequestOutlastsFailures(t *testing.T) {
	s := upstream(t, httptestfault.Responses(
		httptestfault.Response{Fault: httptestfault.Reset()},
		httptestfault.Response{Status: 503},
		httptestfault.Response{Body: []byte("well")},
	))
	res, body, err := get(t, "http://"+serve(t, proxy.Config{}, s.URL)+"/a%2Fb?q=1;2")
	if err != nil || res.StatusCode != http.StatusOK || body != "well" || res.Header.Get(proxy.HeaderAttempts) != "3" {
		t.Fatal(res.Status, res.Header, body, err)
	}
	if target := s.Requests()[0].Target; target != "/a%2Fb?q=1;2" {
		t.Error("the upstream got", target)
	}
	_, text, _ := get(t, "http://"+res.Request.URL.Host+"/.perdure/metrics")
	for _, want := range []string{"\nperdure_proxy_attempts_total 3\n", `perdure_calls_total{operation="http_request",key="http:` + s.URL + `"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in %s", want, text)
		}
	}
}
