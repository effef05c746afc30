package httpretry_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

// What a plain client returns must not be lost on the way through a Transport. Each of these was.

// In HTTP/2 the end of a stream comes after its last byte, and the trailer with it.
func TestTrailerAfterAKnownLength(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, text)
		w.Header().Set("X-Sum", "7")
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	transport := httpretry.NewTransport(server.Client().Transport, httpretry.Options{Policy: quick()})
	for range 50 {
		res, body, err := row{}.do(t, server.URL, transport)
		if err != nil || res.ProtoMajor != 2 || body != text || res.Trailer.Get("X-Sum") != "7" {
			t.Fatalf("%v, %q, %v with trailer %v; want X-Sum: 7", res, body, err, res.Trailer)
		}
	}
}

// The Content-Encoding of a response without a body describes the body that was not sent.
func TestCodingOfAResponseWithoutABody(t *testing.T) {
	step := httptestfault.Response{Status: 304, Header: http.Header{"Content-Encoding": {"gzip"}, "Etag": {`"1"`}}}
	server := httptestfault.New(httptestfault.Responses(step))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	plain, _, err := row{}.do(t, server.URL, base)
	if err != nil {
		t.Fatal(err)
	}
	res, body, err := row{}.do(t, server.URL, httpretry.NewTransport(base, httpretry.Options{Policy: quick()}))
	if err != nil || body != "" || res.Header.Get("Content-Encoding") != "gzip" || res.ContentLength != plain.ContentLength || res.Uncompressed {
		t.Errorf("%+v, %q, %v; want what the plain client has: %+v", res, body, err, plain)
	}
}

// The connection of a 101 response can be written to.
func TestUpgrade(t *testing.T) {
	bounded := quick()
	bounded.AttemptTimeout = time.Minute
	for name, options := range map[string]httpretry.Options{
		"AttemptTimeout": {Policy: bounded},
		"Hedge":          {Policy: quick(), Hedge: &httpretry.Hedge{}},
	} {
		t.Run(name, func(t *testing.T) {
			upgrade := httptestfault.Response{
				Raw: []byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello\n"), Fault: httptestfault.StallBody(0),
			}
			server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Response {
				if r.Header.Get("Upgrade") == "" {
					return ok
				}
				return upgrade
			})
			defer server.Close()
			base := server.Transport()
			defer base.CloseIdleConnections()
			transport := httpretry.NewTransport(base, options)
			for range 30 { // after which a Hedge knows what is slow
				wantFine(t, transport, server.URL)
			}
			req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", "echo")
			res, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			conn, ok := res.Body.(io.ReadWriteCloser)
			if !ok {
				t.Fatalf("%T can't be written to", res.Body)
			}
			if line, err := bufio.NewReader(conn).ReadString('\n'); line != "hello\n" || err != nil {
				t.Errorf("%q, %v", line, err)
			}
		})
	}
}

// A base may leave out a response's Request, as tests' fakes do: GaveUp works all the same.
func TestResponseWithoutItsRequest(t *testing.T) {
	fake := roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 503, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("busy"))}, nil
	})
	code, ended, err := get(t, httpretry.NewTransport(fake, httpretry.Options{Policy: quick()}), "http://example.org")
	if _, ok := ended.(*retry.Error); code != 503 || !ok || err != nil { //nolint:errorlint // as GaveUp promises
		t.Errorf("%d, ended with %v, %v; want 503, exhausted", code, ended, err)
	}
}

// A base that returns neither a response nor an error causes an error, not a panic.
func TestNeitherResponseNorError(t *testing.T) {
	fake := roundTripper(func(*http.Request) (*http.Response, error) { return nil, nil })
	for _, o := range []httpretry.Options{{Policy: quick()}, {Policy: quick(), Hedge: &httpretry.Hedge{}}} {
		if _, _, err := get(t, httpretry.NewTransport(fake, o), "http://example.org"); err == nil || !strings.Contains(err.Error(), "roundTripper") {
			t.Errorf("%v; want an error that names the base", err)
		}
	}
}
