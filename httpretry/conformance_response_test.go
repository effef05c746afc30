package httpretry_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

// GaveUp and MayBeTruncated report on the last response of a chain of redirects.
func TestGaveUpAfterARedirect(t *testing.T) {
	moved := httptestfault.Response{Status: 302, Header: http.Header{"Location": {"/y"}}}
	open := httptestfault.Response{Body: []byte("fine"), Framing: httptestfault.UntilClose}
	server := httptestfault.New(httptestfault.Responses(moved, status(503), status(503), status(503), moved, open))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	transport := httpretry.NewTransport(base, httpretry.Options{Policy: quick()})
	res, _, err := row{}.do(t, server.URL, transport)
	if err != nil || !errors.Is(httpretry.GaveUp(res), retry.ErrExhausted) {
		t.Errorf("%v, %v, ended with %v", res, err, httpretry.GaveUp(res))
	}
	res, body, err := row{}.do(t, server.URL, transport)
	if err != nil || body != "fine" || !httpretry.MayBeTruncated(res) || httpretry.GaveUp(res) != nil {
		t.Errorf("%q, %v, unverifiable %t", body, err, httpretry.MayBeTruncated(res))
	}
}

// GaveUp has a reason also for a response whose body has no marked end.
func TestGaveUpMayBeTruncated(t *testing.T) {
	open := httptestfault.Response{Status: 503, Body: []byte("down"), Framing: httptestfault.UntilClose}
	server := httptestfault.New(httptestfault.Responses(open, open, open))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	res, body, err := row{}.do(t, server.URL, httpretry.NewTransport(base, httpretry.Options{Policy: quick()}))
	if err != nil || body != "down" || !errors.Is(httpretry.GaveUp(res), retry.ErrExhausted) {
		t.Errorf("%q, %v, ended with %v", body, err, httpretry.GaveUp(res))
	}
}

// A body that is closed early, or never read, leaves nothing behind.
func TestClosedEarly(t *testing.T) {
	defer checkLeaks(t)
	large := httptestfault.Resource{Body: make([]byte, 1<<20), ETag: `"1"`}
	server := httptestfault.New(altered(large))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	transport := httpretry.NewTransport(base, httpretry.Options{Policy: quick()})
	for _, n := range []int64{0, 1, 1000} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, res.Body, n); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := res.Body.Close(); err != nil {
				t.Error(err)
			}
		}
		if got, err := res.Body.Read(make([]byte, 1)); got != 0 || err == nil || errors.Is(err, io.EOF) {
			t.Errorf("a Read after Close gave %d, %v", got, err)
		}
	}
	if n := len(server.Requests()); n != 3 {
		t.Errorf("%d requests; want 3: nothing is resumed after a Close", n)
	}
}

// Complete responses that a client does not expect.
func TestOddResponses(t *testing.T) {
	raw := func(s string) httptestfault.Response { return httptestfault.Response{Raw: []byte(s)} }
	zipped := httptestfault.Resource{Body: zip(t, text), ETag: `"z1"`, Header: http.Header{"Content-Encoding": {"gzip"}}}
	brotli := httptestfault.Resource{Body: []byte(text), ETag: `"b1"`, Header: http.Header{"Content-Encoding": {"br"}}}
	last := func(then change) change {
		return func(s httptestfault.Response) httptestfault.Response { s.Last = true; return then(s) }
	}
	fin := with(httptestfault.CutBody(7))
	runRows(t, []row{
		{name: "103 first", steps: []httptestfault.Response{raw("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")}, sent: times(1, "GET"), status: 200, body: "fine"},
		{name: "HEAD with a length", method: "HEAD", script: altered(versioned()), sent: times(1, "HEAD"), status: 200},
		{name: "204 of a GET", steps: []httptestfault.Response{{Status: 204}}, sent: times(1, "GET"), status: 204},
		{name: "an unrequested coding", script: altered(brotli, fin), sent: []string{"GET", "GET bytes=7-"}, status: 200, body: text},
		{name: "gzip though identity was asked for", header: http.Header{"Accept-Encoding": {"identity"}}, script: altered(zipped, fin), sent: []string{"GET", "GET bytes=7-"}, status: 200, body: string(zipped.Body)},
		{name: "gzip on a last connection", script: altered(zipped, last(fin), last(fin)), sent: []string{"GET", "GET bytes=7-", "GET bytes=14-"}, status: 200, body: text},
		{name: "100-continue", method: "PUT", header: http.Header{"Expect": {"100-continue"}}, upload: func() io.Reader { return strings.NewReader("data") }, steps: []httptestfault.Response{{Status: 503, Unread: true}, ok}, status: 200, body: "fine"},
		{name: "Retry-After: 0, and an empty one", steps: []httptestfault.Response{{Status: 429, Header: http.Header{"Retry-After": {"0", ""}}}, ok}, sent: times(2, "GET"), status: 200, body: "fine"},
	})
}

// The Request of a response is the caller's, without our header: sent again, it returns the plain text again.
// It used to have the attempt's context and header.
func TestRequestOfAResponseIsSentAgain(t *testing.T) {
	zipped := httptestfault.Resource{Body: zip(t, text), ETag: `"z1"`, Header: http.Header{"Content-Encoding": {"gzip"}}}
	bounded := quick()
	bounded.AttemptTimeout = time.Minute
	for _, tt := range []struct {
		name    string
		options httpretry.Options
	}{
		{"plain", httpretry.Options{Policy: quick()}},
		{"AttemptTimeout", httpretry.Options{Policy: bounded}},
		{"AttemptHeader", httpretry.Options{Policy: quick(), AttemptHeader: "X-Attempt"}},
		{"Hedge", httpretry.Options{Policy: quick(), Hedge: &httpretry.Hedge{}}},
		{"all, no resume", httpretry.Options{Policy: bounded, AttemptHeader: "X-Attempt", Hedge: &httpretry.Hedge{}, NoResume: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptestfault.New(altered(zipped))
			defer server.Close()
			base := server.Transport()
			defer base.CloseIdleConnections()
			client := &http.Client{Transport: httpretry.NewTransport(base, tt.options)}
			caller, err := http.NewRequestWithContext(t.Context(), "GET", server.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			for again := caller; len(server.Requests()) < 3; {
				res, err := client.Do(again)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if string(body) != text || err != nil {
					t.Errorf("%q, %v; want the plain text", body, err)
				}
				if again = res.Request; again != caller {
					t.Errorf("the response is to %+v; want the caller's request", again)
				}
			}
		})
	}
}

// So is the Request of a response that an inner Transport has given up on.
func TestRequestOfANestedResponseThatEnded(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses(status(503)))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	inner := httpretry.NewTransport(base, httpretry.Options{Policy: quick()})
	outer := httpretry.NewTransport(inner, httpretry.Options{Policy: quick(), AttemptHeader: "X-Attempt"})
	res, _, err := row{}.do(t, server.URL, outer)
	if err != nil || !errors.Is(httpretry.GaveUp(res), retry.ErrExhausted) || len(res.Request.Header) > 0 {
		t.Errorf("%v, ended with %v, to a request with %v; want the caller's", err, httpretry.GaveUp(res), res.Request.Header)
	}
}

// A base that changes its request, as a RoundTripper must not, harms only that attempt.
func TestCarelessBase(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses(ok))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	careless := roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/secret" {
			req.Header.Set("Authorization", "secret")
		}
		return base.RoundTrip(req)
	})
	transport := httpretry.NewTransport(careless, httpretry.Options{Policy: quick()})
	for _, path := range []string{"/secret", "/public"} {
		if r := record(t, transport, "GET", server.URL+path); r.Body != "fine" {
			t.Errorf("%s: %+v", path, r)
		}
	}
	for i, want := range []string{"secret", ""} {
		if got := server.Requests()[i].Header.Get("Authorization"); got != want {
			t.Errorf("request %d came with Authorization %q; want %q", i+1, got, want)
		}
	}
}
