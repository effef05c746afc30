package httpretry_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

// get makes one GET and reads the answer; it returns the status and how it ended.
func get(t *testing.T, transport http.RoundTripper, url string) (int, error, error) {
	t.Helper()
	res, _, err := row{}.do(t, url, transport)
	if res == nil {
		return 0, nil, err
	}
	return res.StatusCode, httpretry.Ended(res), err
}

// wantFine makes one GET that must succeed.
func wantFine(t *testing.T, transport http.RoundTripper, url string) {
	t.Helper()
	if code, _, err := get(t, transport, url); code != 200 || err != nil {
		t.Errorf("%d, %v; want 200", code, err)
	}
}

func TestFailedAttemptsKeepTheirConnection(t *testing.T) {
	defer checkLeaks(t)
	server := httptestfault.New(func(n int, _ *http.Request) httptestfault.Step {
		if n%3 == 0 {
			return ok
		}
		return httptestfault.Step{Status: 503, Body: make([]byte, 10_000), Framing: httptestfault.Framing(n % 2)}
	})
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	transport := httpretry.NewTransport(base, httpretry.Options{Policy: quick()})
	for range 50 {
		wantFine(t, transport, server.URL)
	}
	if opened, _ := server.Connections(); opened != 1 || len(server.Requests()) != 150 {
		t.Errorf("50 calls of 3 attempts made %d requests on %d connections; want 150 on 1", len(server.Requests()), opened)
	}
}

// A connection that has to wait for its retry shall not be kept from others: used to be drained after the wait.
func TestConnectionIsFreeDuringTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := httptestfault.NewInMemory(httptestfault.Steps(status(503), ok))
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		policy := quick()
		policy.BaseDelay, policy.MaxDelay = time.Minute, time.Minute
		transport := httpretry.NewTransport(base, httpretry.Options{Policy: policy})
		var calls sync.WaitGroup
		calls.Go(func() { wantFine(t, transport, server.URL) })
		synctest.Wait() // the first call waits for its second attempt
		wantFine(t, transport, server.URL)
		calls.Wait()
		if opened, _ := server.Connections(); opened != 1 {
			t.Errorf("%d connections; want 1", opened)
		}
	})
}

func TestNeverEarlierThanAsked(t *testing.T) {
	const asked = 60 * time.Millisecond
	for _, code := range []int{429, 503} {
		step := status(code)
		step.Header = http.Header{"Retry-After": {"0.06"}}
		server := httptestfault.New(httptestfault.Steps(step, step, ok))
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		if got, _, err := get(t, httpretry.NewTransport(base, httpretry.Options{Policy: quick()}), server.URL); got != 200 || err != nil {
			t.Errorf("%d, then: %d, %v", code, got, err)
		}
		requests := server.Requests()
		for n := 1; n < len(requests); n++ {
			if gap := requests[n].At.Sub(requests[n-1].At); gap < asked {
				t.Errorf("%d: request %d came %v after the one before, %v were asked", code, n+1, gap, asked)
			}
		}
	}
}

func TestNeverEarlierThanAskedInABubble(t *testing.T) {
	for _, value := range []string{"45", "45.5", "Sat, 01 Jan 2000 00:00:45 GMT", "10, 45", "Saturday, 01-Jan-00 00:00:45 GMT"} {
		synctest.Test(t, func(t *testing.T) {
			step := status(503)
			step.Header = http.Header{"Retry-After": {value}}
			server := httptestfault.NewInMemory(httptestfault.Steps(step, ok))
			defer server.Close()
			base := server.Transport()
			defer base.CloseIdleConnections()
			policy := quick()
			policy.Jitter = 0 // a spread over what was asked
			if got, _, err := get(t, httpretry.NewTransport(base, httpretry.Options{Policy: policy}), server.URL); got != 200 || err != nil {
				t.Errorf("Retry-After %s, then: %d, %v", value, got, err)
			}
			requests := server.Requests()
			if gap := requests[1].At.Sub(requests[0].At); gap < 45*time.Second || gap > 61*time.Second {
				t.Errorf("Retry-After %s: came back after %v", value, gap)
			}
		})
	}
}

func TestPOSTThatNeverLeftIsRepeated(t *testing.T) {
	server := httptestfault.New(httptestfault.Steps(ok))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	dials := 0
	base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if dials++; dials < 3 {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		return server.Dial(ctx, network, address)
	}
	r := row{method: "POST", upload: func() io.Reader { return io.MultiReader(strings.NewReader("data")) }}
	res, body, err := r.do(t, server.URL, httpretry.NewTransport(base, httpretry.Options{Policy: quick()}))
	if err != nil || res.StatusCode != 200 || body != "fine" || len(server.Requests()) != 1 || string(server.Requests()[0].Body) != "data" {
		t.Errorf("%v, %q, %v; the server saw %v", res, body, err, server.Requests())
	}
}

// A base that tells nothing of its connections may have sent the request.
func TestPOSTByATransportThatTellsNothing(t *testing.T) {
	server := httptestfault.New(httptestfault.Steps(httptestfault.Step{}.CutAt(httptestfault.BeforeHead, httptestfault.RST)))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	silent := roundTripper(func(req *http.Request) (*http.Response, error) {
		return base.RoundTrip(req.WithContext(t.Context()))
	})
	_, _, err := row{method: "POST"}.do(t, server.URL, httpretry.NewTransport(silent, httpretry.Options{Policy: quick()}))
	if !errors.Is(err, httpretry.ErrNotIdempotent) || len(server.Requests()) != 1 {
		t.Errorf("%v after %d requests; want ErrNotIdempotent after 1", err, len(server.Requests()))
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A cancellation that is not the caller's is a broken connection. net/http returns one when it has given a connection to
// this request, and the request that had it before, and had an empty answer, is cancelled: hedges did that to others.
func TestCancellationOfAnotherRequest(t *testing.T) {
	server := httptestfault.New(httptestfault.Steps(ok))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	attempts := 0
	unlucky := roundTripper(func(req *http.Request) (*http.Response, error) {
		if attempts++; attempts < 3 {
			return nil, context.Canceled
		}
		return base.RoundTrip(req)
	})
	wantFine(t, httpretry.NewTransport(unlucky, httpretry.Options{Policy: quick()}), server.URL)
}

// A base may return an answer without a body, as tests' fakes do.
func TestAnswerWithoutABody(t *testing.T) {
	attempts := 0
	fake := roundTripper(func(req *http.Request) (*http.Response, error) {
		attempts++
		code := 503
		if attempts > 1 {
			code = 200
		}
		return &http.Response{StatusCode: code, Header: http.Header{}, Request: req}, nil
	})
	wantFine(t, httpretry.NewTransport(fake, httpretry.Options{Policy: quick()}), "http://example.org")
	if attempts != 2 {
		t.Errorf("%d attempts; want 2", attempts)
	}
}

// The request of an answer that was given up may be sent again: what is told of the one is not true of the other.
func TestRequestOfAnEndedAnswerIsSentAgain(t *testing.T) {
	server := httptestfault.New(httptestfault.Steps(status(503), status(503), status(503), ok))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	client := &http.Client{Transport: httpretry.NewTransport(base, httpretry.Options{Policy: quick()})}
	first, _, err := row{}.do(t, server.URL, client.Transport)
	if err != nil || !errors.Is(httpretry.Ended(first), retry.ErrExhausted) {
		t.Fatalf("%v, ended with %v", err, httpretry.Ended(first))
	}
	again := first.Request
	again.RequestURI = ""
	second, err := client.Do(again)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Body.Close()
	if second.StatusCode != 200 || httpretry.Ended(second) != nil {
		t.Errorf("%d, ended with %v; want 200", second.StatusCode, httpretry.Ended(second))
	}
}

func TestClosedPortIsRefused(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	for _, method := range []string{"GET", "POST"} {
		base := &http.Transport{}
		_, _, err := row{method: method}.do(t, "http://"+address, httpretry.NewTransport(base, httpretry.Options{Policy: quick()}))
		e, ok := errors.AsType[*retry.Error](err)
		if !ok || e.Attempts != 3 || !errors.Is(err, retry.ErrExhausted) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v; want three refused attempts", method, err)
		}
		if _, ok := errors.AsType[*url.Error](err); !ok {
			t.Errorf("%s: %v is no *url.Error", method, err)
		}
	}
}

// nameServer answers every question with NXDOMAIN, or with SERVFAIL, and counts the questions.
func nameServer(t *testing.T, code byte, asked func()) *net.Resolver {
	t.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		packet := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(packet)
			if err != nil {
				return // closed
			}
			asked()
			packet[2], packet[3] = packet[2]|0x80, 0x80|code
			if _, err := conn.WriteTo(packet[:n], from); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		name     string
		code     byte
		attempts int
	}{
		{"NXDOMAIN", 3, 1},
		{"SERVFAIL", 2, 3},
	} {
		attempts := 0
		resolver := nameServer(t, tt.code, func() {})
		dialer := net.Dialer{Resolver: resolver}
		base := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			attempts++
			return dialer.DialContext(ctx, network, address)
		}}
		_, _, err := get(t, httpretry.NewTransport(base, httpretry.Options{Policy: quick()}), "http://perdure.test./")
		if dns, ok := errors.AsType[*net.DNSError](err); !ok || attempts != tt.attempts || dns.IsNotFound != (tt.attempts == 1) {
			t.Errorf("%s: %d attempts, want %d: %v", tt.name, attempts, tt.attempts, err)
		}
	}
}

// A dials counts the connections that a transport tries to make.
type dials struct {
	mu sync.Mutex
	n  int
}

func (d *dials) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d.mu.Lock()
	d.n++
	d.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, network, address)
}

func TestTLS(t *testing.T) {
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	plain := httptestfault.New(httptestfault.Steps(ok))
	defer plain.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(secure.Certificate())
	for _, tt := range []struct {
		name   string
		url    string
		config *tls.Config
		dials  int
	}{
		{"unknown authority", secure.URL, &tls.Config{RootCAs: x509.NewCertPool()}, 1},
		{"another host", secure.URL, &tls.Config{RootCAs: trusted, ServerName: "example.org.invalid"}, 1},
		{"too old a version", secure.URL, &tls.Config{RootCAs: trusted, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS11}, 1},
		{"no TLS there", strings.Replace(plain.URL, "http:", "https:", 1), &tls.Config{}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var counted dials
			base := &http.Transport{TLSClientConfig: tt.config, DialContext: counted.dial}
			defer base.CloseIdleConnections()
			_, _, err := get(t, httpretry.NewTransport(base, httpretry.Options{Policy: quick()}), tt.url)
			if _, ok := errors.AsType[*retry.Error](err); err == nil || ok || counted.n != tt.dials {
				t.Errorf("%d connections; want %d and the error itself, got %v", counted.n, tt.dials, err)
			}
		})
	}
}

func TestRequestsThatNobodyCanSend(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*http.Request)
	}{
		{"scheme", func(r *http.Request) { r.URL.Scheme = "gopher" }},
		{"no host", func(r *http.Request) { r.URL.Host = "" }},
		{"no URL", func(r *http.Request) { r.URL = nil }},
		{"no header", func(r *http.Request) { r.Header = nil }},
		{"method", func(r *http.Request) { r.Method = "GE T" }},
		{"field name", func(r *http.Request) { r.Header["X Y"] = []string{"z"} }},
		{"field value", func(r *http.Request) { r.Header["X"] = []string{"a\nb"} }},
		{"port", func(r *http.Request) { r.URL.Host = "127.0.0.1:70000" }},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://127.0.0.1:1/", nil)
		if err != nil {
			t.Fatal(err)
		}
		tt.change(r)
		res, err := httpretry.NewTransport(&http.Transport{}, httpretry.Options{Policy: quick(), AttemptHeader: "X-Attempt"}).RoundTrip(r)
		if err == nil {
			res.Body.Close()
		}
		if _, ok := errors.AsType[*retry.Error](err); err == nil || ok {
			t.Errorf("%s: %v; want the transport's own error after one attempt", tt.name, err)
		}
	}
}

// A closing body remembers that it was closed.
type closing struct {
	io.Reader
	closed chan struct{}
}

func (c *closing) Close() error {
	select {
	case <-c.closed:
		return errors.New("closed twice")
	default:
		close(c.closed)
		return nil
	}
}

func TestUploadIsClosed(t *testing.T) {
	bad := &retry.Policy{MaxAttempts: -7}
	open := circuit.New("open", circuit.Config{Observe: func(circuit.Transition) {}})
	open.Isolate()
	isolated := quick()
	isolated.Breaker = open
	for _, tt := range []struct {
		name   string
		policy *retry.Policy
		steps  []httptestfault.Step
	}{
		{"success", quick(), []httptestfault.Step{ok}},
		{"success after retries", quick(), []httptestfault.Step{status(503), ok}},
		{"exhausted", quick(), []httptestfault.Step{status(503)}},
		{"reset", quick(), []httptestfault.Step{httptestfault.Step{}.CutAt(httptestfault.BeforeHead, httptestfault.RST)}},
		{"bad policy", bad, nil},
		{"breaker open", isolated, nil},
	} {
		server := httptestfault.New(httptestfault.Steps(tt.steps...))
		base := server.Transport()
		body := &closing{strings.NewReader("data"), make(chan struct{})}
		if res, _, err := (row{method: "PUT", upload: func() io.Reader { return body }}).do(t, server.URL, httpretry.NewTransport(base, httpretry.Options{Policy: tt.policy})); tt.steps == nil && err == nil {
			t.Errorf("%s: %v; want an error", tt.name, res)
		}
		<-body.closed
		base.CloseIdleConnections()
		server.Close()
	}
}

func TestBreakersByKey(t *testing.T) {
	bad := httptestfault.New(httptestfault.Steps(status(500)))
	defer bad.Close()
	good := httptestfault.New(httptestfault.Steps(ok))
	defer good.Close()
	var registry circuit.Registry
	transport := httpretry.NewTransport(&http.Transport{DisableKeepAlives: true}, httpretry.Options{
		Policy: quick(), Registry: &registry,
		Breakers: &circuit.Config{FailureThreshold: 4, Observe: func(circuit.Transition) {}},
	})
	if code, ended, err := get(t, transport, bad.URL); code != 500 || !errors.Is(ended, retry.ErrExhausted) || err != nil {
		t.Errorf("first call: %d, %v, %v", code, ended, err)
	}
	code, ended, err := get(t, transport, bad.URL)
	if open, ok := errors.AsType[*circuit.OpenError](ended); code != 500 || !ok || open.Name != "http:"+bad.URL || err != nil {
		t.Errorf("call that trips: %d, %v, %v; want an answer that ended with an OpenError", code, ended, err)
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

// What is not repeated is a failure all the same; what the caller did wrong is none.
func TestBreakerLearnsOfWhatIsNotRepeated(t *testing.T) {
	reset := httptestfault.Step{}.CutAt(httptestfault.BeforeHead, httptestfault.RST)
	opaque := func() io.Reader { return io.MultiReader(strings.NewReader("data")) }
	for _, tt := range []struct {
		name string
		row  row
		step httptestfault.Step
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
			server := httptestfault.New(httptestfault.Steps(tt.step))
			defer server.Close()
			base := server.Transport()
			defer base.CloseIdleConnections()
			policy := quick()
			policy.Breaker = circuit.New("b", circuit.Config{FailureThreshold: 3, Observe: func(circuit.Transition) {}})
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
	server := httptestfault.New(httptestfault.Steps(ok))
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

// Siblings of a request that was told to come back later do not ask again before that.
func TestNotBeforeHoldsSiblings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step := status(429)
		step.Header = http.Header{"Retry-After": {"40"}}
		server := httptestfault.NewInMemory(httptestfault.Steps(step, ok))
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		transport := httpretry.NewTransport(base, httpretry.Options{Policy: quick(), Breakers: &circuit.Config{}})
		start := time.Now()
		var calls sync.WaitGroup
		calls.Go(func() { wantFine(t, transport, server.URL) })
		synctest.Wait()
		for range 5 {
			calls.Go(func() { wantFine(t, transport, server.URL) })
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		hurried := row{ctx: func(context.Context) context.Context { return ctx }}
		_, _, err := hurried.do(t, server.URL, transport)
		if e, ok := errors.AsType[*retry.Error](err); !ok || !errors.Is(err, retry.ErrRetryLater) || e.Attempts != 0 || e.RetryAt.Before(start.Add(40*time.Second)) {
			t.Errorf("a sibling in a hurry: %v; want ErrRetryLater without an attempt", err)
		}
		calls.Wait()
		requests := server.Requests()
		if len(requests) != 7 {
			t.Errorf("%d requests; want 7", len(requests))
		}
		for n, r := range requests[1:] {
			if r.At.Sub(start) < 40*time.Second {
				t.Errorf("request %d came after %v; 40s were asked", n+2, r.At.Sub(start))
			}
		}
	})
}

func TestCancelledWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := httptestfault.NewInMemory(httptestfault.Steps(status(503)))
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		policy := quick()
		policy.BaseDelay, policy.MaxDelay = time.Hour, time.Hour
		why := errors.New("the user has gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(why) })
		start := time.Now()
		_, _, err := row{ctx: func(context.Context) context.Context { return ctx }}.do(t, server.URL, httpretry.NewTransport(base, httpretry.Options{Policy: policy}))
		if !errors.Is(err, why) || time.Since(start) != time.Minute {
			t.Errorf("%v after %v; want %v after 1m", err, time.Since(start), why)
		}
		if status, ok := errors.AsType[*httpretry.StatusError](err); !ok || status.HTTPStatusCode() != 503 {
			t.Errorf("%v does not tell of the 503", err)
		}
	})
}

// The Timeout of a client is the deadline of the operation: no attempt is begun that it would cut off.
func TestTimeoutOfTheClient(t *testing.T) {
	server := httptestfault.New(httptestfault.Steps(status(503)))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	policy := quick()
	policy.MaxAttempts = retry.Unlimited
	client := &http.Client{Transport: httpretry.NewTransport(base, httpretry.Options{Policy: policy}), Timeout: 100 * time.Millisecond}
	req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if ended := httpretry.Ended(res); res.StatusCode != 503 || !errors.Is(ended, retry.ErrDeadline) {
		t.Errorf("%s, ended with %v; want the 503, and that the deadline was too near", res.Status, ended)
	}
}

func TestNestedTransportsDoNotMultiply(t *testing.T) {
	server := httptestfault.New(httptestfault.Steps(status(503)))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	inner := httpretry.NewTransport(base, httpretry.Options{Policy: quick()})
	outer := httpretry.NewTransport(inner, httpretry.Options{Policy: quick()})
	code, ended, err := get(t, outer, server.URL)
	if code != 503 || !errors.Is(ended, retry.ErrExhausted) || err != nil || len(server.Requests()) != 3 {
		t.Errorf("%d, %v, %v after %d requests; want 503, exhausted, after 3", code, ended, err, len(server.Requests()))
	}
}

func TestStatusErrorTellsNoSecrets(t *testing.T) {
	server := httptestfault.New(httptestfault.Steps(status(503)))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	address := strings.Replace(server.URL, "http://", "http://user:hunter2@", 1) + "/x?X-Amz-Signature=hunter2&page=7"
	_, ended, _ := get(t, httpretry.NewTransport(base, httpretry.Options{Policy: quick()}), address)
	text := fmt.Sprint(ended)
	if strings.Contains(text, "hunter2") || !strings.Contains(text, "page=7") || !strings.Contains(text, "503 Service Unavailable") {
		t.Errorf("the error reads %s", text)
	}
}
