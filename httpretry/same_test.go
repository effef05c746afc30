package httpretry_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry"
)

// sameCases are responses of a real server that a Transport must return exactly as net/http does.
var sameCases = []struct {
	name, method string
	handler      http.HandlerFunc
}{
	{name: "200", handler: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }},
	{name: "200 with a tag", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Etag", `"v1"`)
		_, _ = io.WriteString(w, text)
	}},
	{name: "200 without a body", handler: func(http.ResponseWriter, *http.Request) {}},
	{name: "200 of a POST without a body", method: "POST", handler: func(http.ResponseWriter, *http.Request) {}},
	{name: "200 in chunks", handler: func(w http.ResponseWriter, _ *http.Request) { flush(w); _, _ = io.WriteString(w, text) }},
	{name: "200 in no chunk", handler: func(w http.ResponseWriter, _ *http.Request) { flush(w) }},
	{name: "gzip", handler: func(w http.ResponseWriter, r *http.Request) { gzipped(w, r) }},
	{name: "HEAD", method: "HEAD", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1234")
	}},
	{name: "HEAD of what is coded", method: "HEAD", handler: gzipped},
	{name: "HEAD without a length", method: "HEAD", handler: func(http.ResponseWriter, *http.Request) {}},
	{name: "HEAD of a 404", method: "HEAD", handler: http.NotFound},
	{name: "204", handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }},
	{name: "204 of a DELETE", method: "DELETE", handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }},
	{name: "205", handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusResetContent) }},
	{name: "206", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", "bytes 0-19/20")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = io.WriteString(w, text)
	}},
	{name: "303", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(http.StatusSeeOther)
	}},
	{name: "304", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Etag", `"v1"`)
		w.WriteHeader(http.StatusNotModified)
	}},
	{name: "404", handler: http.NotFound},
	{name: "501 without a body", handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotImplemented) }},
	{name: "103 first", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusNoContent)
	}},
	{name: "trailer", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, text)
		w.Header().Set("X-Sum", "7")
		w.Header().Set(http.TrailerPrefix+"X-More", "8")
	}},
	{name: "trailer of nothing", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		flush(w)
		w.Header().Set("X-Sum", "7")
	}},
	{name: "last on its connection", handler: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }},
	{name: "several of one field", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		w.WriteHeader(http.StatusNoContent)
	}},
}

func flush(w http.ResponseWriter) { w.(http.Flusher).Flush() } //nolint:forcetypeassert // a real server's

// gzipped sends text, compressed for clients that accept gzip.
func gzipped(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept-Encoding")
	if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Etag", `"plain"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		_, _ = io.WriteString(w, text)
		return
	}
	w.Header().Set("Etag", `"gzip"`)
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
}

// sameOptions are options that put code between the base and the caller.
func sameOptions() map[string]httpretry.Options {
	bounded := quick()
	bounded.AttemptTimeout = time.Minute
	return map[string]httpretry.Options{
		"plain":                     {Policy: quick()},
		"AttemptTimeout":            {Policy: bounded},
		"AttemptTimeout, no resume": {Policy: bounded, NoResume: true},
		"Hedge":                     {Policy: quick(), Hedge: &httpretry.Hedge{Min: time.Hour}}, // none is sent: it would repeat a 103
		"AttemptHeader":             {Policy: quick(), AttemptHeader: "X-Attempt"},
	}
}

// A Transport returns what a plain client returns, in every field. With an AttemptTimeout, the body of a response without a
// body used to be something else than http.NoBody.
func TestSameAsNetHTTP(t *testing.T) {
	mux := http.NewServeMux()
	for i, c := range sameCases {
		mux.HandleFunc(fmt.Sprintf("/%d", i), c.handler)
	}
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		server := httptest.NewUnstartedServer(mux)
		server.EnableHTTP2 = proto == "HTTP/2.0"
		server.StartTLS()
		defer server.Close()
		base := server.Client().Transport
		for name, options := range sameOptions() {
			t.Run(proto+" "+name, func(t *testing.T) {
				transport := httpretry.NewTransport(base, options)
				for range 30 { // after which a Hedge knows what is slow
					record(t, transport, "GET", server.URL+"/0")
				}
				for i, c := range sameCases {
					url := fmt.Sprintf("%s/%d", server.URL, i)
					got, want := record(t, transport, c.method, url), record(t, base, c.method, url)
					if !reflect.DeepEqual(got, want) || want.Proto != proto {
						t.Errorf("%s:\n%+v; want what the plain client gets:\n%+v", c.name, got, want)
					}
				}
			})
		}
	}
}

// A recorded response is all that a caller can see of one.
type recorded struct {
	Status, Proto          string
	Code, Major, Minor     int
	Header, Trailer, After http.Header // Trailer before the body was read, After it was
	NoBody, Same           bool
	Length                 int64
	Coding                 []string
	Close, Plain, TLS      bool
	Body                   string
	Err                    error
	Informed               int32 // how many 1xx came first
}

func record(t *testing.T, transport http.RoundTripper, method, url string) recorded {
	t.Helper()
	var informed atomic.Int32
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(int, textproto.MIMEHeader) error { informed.Add(1); return nil },
	})
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer res.Body.Close()
	r := recorded{
		Status: res.Status, Proto: res.Proto, Code: res.StatusCode, Major: res.ProtoMajor, Minor: res.ProtoMinor,
		Header: res.Header, Trailer: res.Trailer.Clone(), NoBody: res.Body == http.NoBody, Same: res.Request == req, Length: res.ContentLength,
		Coding: res.TransferEncoding, Close: res.Close, Plain: res.Uncompressed, TLS: res.TLS != nil, Informed: informed.Load(),
	}
	body, err := io.ReadAll(res.Body)
	r.Body, r.Err, r.After = string(body), err, res.Trailer
	r.Header.Del("Date")
	return r
}

// So is the connection of an upgrade.
func TestSameUpgrade(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := w.(http.Hijacker).Hijack() //nolint:forcetypeassert // a real server's
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, _ = buffered.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = buffered.Flush()
		line, _ := buffered.ReadString('\n')
		_, _ = buffered.WriteString(line)
		_ = buffered.Flush()
	}))
	defer server.Close()
	for name, options := range sameOptions() {
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "GET", server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		res, err := httpretry.NewTransport(server.Client().Transport, options).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		conn, ok := res.Body.(io.ReadWriteCloser)
		if !ok || res.StatusCode != http.StatusSwitchingProtocols || res.ContentLength != 0 {
			t.Fatalf("%s: %+v with a %T; want a connection", name, res, res.Body)
		}
		_, _ = io.WriteString(conn, "hello\n")
		if line, err := bufio.NewReader(conn).ReadString('\n'); line != "hello\n" || err != nil {
			t.Errorf("%s: %q, %v; want an echo", name, line, err)
		}
		cancel()
		conn.Close()
	}
}

// A base that leaves out the body of a response, as tests' fakes do, does no harm.
func TestBaseWithoutABody(t *testing.T) {
	fake := roundTripper(func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return &http.Response{StatusCode: 200, Header: http.Header{}}, nil
	})
	late := quick()
	late.AttemptTimeout, late.MaxAttempts = time.Millisecond, 1
	if _, _, err := get(t, httpretry.NewTransport(fake, httpretry.Options{Policy: late}), "http://example.org"); err == nil {
		t.Error("no error of an attempt that took too long")
	}
	at := roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{}}, nil
	})
	for name, options := range sameOptions() {
		if code, _, err := get(t, httpretry.NewTransport(at, options), "http://example.org"); code != 200 || err != nil {
			t.Errorf("%s: %d, %v", name, code, err)
		}
	}
}
