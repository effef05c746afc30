package httptestfault_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

// get sends one request and returns the response, the body as far as it was received, and the error.
func get(ctx context.Context, transport http.RoundTripper, method, url string, body io.Reader, header http.Header) (*http.Response, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, "", err
	}
	maps.Copy(r.Header, header)
	res, err := transport.RoundTrip(r)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	return res, string(content), err
}

func TestResponsesAsAPlainClientSeesThem(t *testing.T) {
	hello := []byte("hello, world")
	for _, tt := range []struct {
		name     string
		response httptestfault.Response
		method   string
		header   http.Header
		status   int
		body     string
		err      error // nil means none
		stays    bool  // the connection is used again
	}{
		{name: "zero", status: 200, stays: true},
		{name: "length", response: httptestfault.Response{Body: hello}, status: 200, body: "hello, world", stays: true},
		{name: "chunked", response: httptestfault.Response{Body: hello, Framing: httptestfault.Chunked}, status: 200, body: "hello, world", stays: true},
		{name: "slices", response: httptestfault.Response{Body: hello, Framing: httptestfault.Chunked, Slice: 5, Gap: time.Millisecond}, status: 200, body: "hello, world", stays: true},
		{name: "until close", response: httptestfault.Response{Body: hello, Framing: httptestfault.UntilClose}, status: 200, body: "hello, world"},
		{name: "until close, cut: undetectable", response: httptestfault.Response{Body: hello, Framing: httptestfault.UntilClose}.With(httptestfault.CutBody(5)), status: 200, body: "hello"},
		{name: "last", response: httptestfault.Response{Body: hello, Last: true}, status: 200, body: "hello, world"},
		{name: "status", response: httptestfault.Response{Status: 503, Body: hello}, status: 503, body: "hello, world", stays: true},
		{name: "no content", response: httptestfault.Response{Status: 204}, status: 204, stays: true},
		{name: "head", method: "HEAD", response: httptestfault.Response{Body: hello}, status: 200, stays: true},
		{name: "cut by FIN", response: httptestfault.Response{Body: hello}.With(httptestfault.CutBody(5)), status: 200, body: "hello", err: io.ErrUnexpectedEOF},
		{name: "cut by RST", response: httptestfault.Response{Body: hello, Late: 5 * time.Millisecond}.With(httptestfault.ResetBody(0)), status: 200, err: syscall.ECONNRESET},
		{name: "chunked and cut", response: httptestfault.Response{Body: hello, Framing: httptestfault.Chunked}.With(httptestfault.CutBody(5)), status: 200, body: "hello", err: io.ErrUnexpectedEOF},
		{name: "chunked, all but the last chunk", response: httptestfault.Response{Body: hello, Framing: httptestfault.Chunked}.With(httptestfault.CutBody(12)), status: 200, body: "hello, world", err: io.ErrUnexpectedEOF},
		{name: "FIN before the head", response: httptestfault.Response{Fault: httptestfault.Hangup()}, err: io.EOF},
		{name: "RST before the head", response: httptestfault.Response{Fault: httptestfault.Reset()}, err: syscall.ECONNRESET},
		{name: "half a head", response: httptestfault.Response{Raw: []byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n")}, err: io.ErrUnexpectedEOF},
		{name: "lying length", response: httptestfault.Response{Body: hello, Header: http.Header{"Content-Length": {"5"}}, Last: true}, status: 200, body: "hello"},
	} {
		twice := func(t *testing.T, server *httptestfault.Server, conns int) {
			t.Helper()
			defer server.Close()
			transport := server.Transport()
			defer transport.CloseIdleConnections()
			if tt.method == "" {
				tt.method = "PUT" // which net/http does not repeat by itself
			}
			for range 2 {
				res, body, err := get(t.Context(), transport, tt.method, server.URL, nil, tt.header)
				if !errors.Is(err, tt.err) || body != tt.body || tt.status != 0 && res.StatusCode != tt.status {
					t.Errorf("got %v, body %q, error %v; want %d, %q, %v", res, body, err, tt.status, tt.body, tt.err)
				}
			}
			if opened, _ := server.Connections(); conns != 0 && opened != conns {
				t.Errorf("%d connections for two requests, want %d", opened, conns)
			}
		}
		t.Run(tt.name, func(t *testing.T) {
			if !tt.stays {
				twice(t, httptestfault.New(httptestfault.Responses(tt.response)), 2)
				return
			}
			twice(t, httptestfault.New(httptestfault.Responses(tt.response)), 0)
			synctest.Test(t, func(t *testing.T) { // net/http keeps no connection that takes 50 ms to be ready
				twice(t, httptestfault.NewInMemory(httptestfault.Responses(tt.response)), 1)
			})
		})
	}
}

func TestRecordsRequests(t *testing.T) {
	synctest.Test(t, recordsRequests) // where each request finds the connection ready
}

func recordsRequests(t *testing.T) {
	t.Helper()
	server := httptestfault.NewInMemory(httptestfault.Responses(httptestfault.Response{}, httptestfault.Response{Status: 404}))
	defer server.Close()
	transport := server.Transport()
	defer transport.CloseIdleConnections()
	for n, want := range []int{200, 404, 404} {
		res, _, err := get(t.Context(), transport, "POST", server.URL+"/x?n=1", strings.NewReader(fmt.Sprint("body ", n)), http.Header{"X-Test": {"yes"}})
		if err != nil || res.StatusCode != want {
			t.Fatalf("request %d: %v, %v; want %d", n, res, err, want)
		}
	}
	for n, r := range server.Requests() {
		if r.Method != "POST" || r.Target != "/x?n=1" || r.Header.Get("X-Test") != "yes" || string(r.Body) != fmt.Sprint("body ", n) || r.Conn != 1 || r.Err != nil {
			t.Errorf("request %d recorded as %+v", n, r)
		}
	}
}

func TestContinue(t *testing.T) {
	for _, unread := range []bool{false, true} {
		server := httptestfault.New(httptestfault.Responses(httptestfault.Response{Status: 503, Unread: unread}))
		defer server.Close()
		transport := server.Transport()
		transport.ExpectContinueTimeout = time.Minute
		defer transport.CloseIdleConnections()
		res, _, err := get(t.Context(), transport, "PUT", server.URL, strings.NewReader("body"), http.Header{"Expect": {"100-continue"}})
		if err != nil || res.StatusCode != 503 {
			t.Fatalf("unread %t: %v, %v", unread, res, err)
		}
		want := "body"
		if unread {
			want = ""
		}
		if got := string(server.Requests()[0].Body); got != want {
			t.Errorf("unread %t: server read %q, want %q", unread, got, want)
		}
	}
}

func TestResourceHonoursRanges(t *testing.T) {
	resource := httptestfault.Resource{Body: []byte("0123456789"), ETag: `"a"`}
	server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Response { return resource.Respond(r) })
	defer server.Close()
	transport := server.Transport()
	defer transport.CloseIdleConnections()
	for _, tt := range []struct {
		header http.Header
		status int
		body   string
	}{
		{nil, 200, "0123456789"},
		{http.Header{"Range": {"bytes=4-"}}, 206, "456789"},
		{http.Header{"Range": {"bytes=4-"}, "If-Range": {`"a"`}}, 206, "456789"},
		{http.Header{"Range": {"bytes=4-"}, "If-Range": {`"b"`}}, 200, "0123456789"},
		{http.Header{"If-Match": {`"b"`}}, 412, ""},
	} {
		res, body, err := get(t.Context(), transport, "GET", server.URL, nil, tt.header)
		if err != nil || res.StatusCode != tt.status || body != tt.body {
			t.Errorf("%v: %v, %q, %v; want %d, %q", tt.header, res, body, err, tt.status, tt.body)
		}
	}
}

func TestTimesInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := httptestfault.NewInMemory(httptestfault.Responses(
			httptestfault.Response{Body: []byte("abc"), Delay: time.Hour, Late: time.Minute, Slice: 1, Gap: time.Second},
			httptestfault.Response{Body: []byte("abc")}.With(httptestfault.StallBody(1)),
		))
		defer server.Close()
		transport := server.Transport()
		defer transport.CloseIdleConnections()

		start := time.Now()
		_, body, err := get(t.Context(), transport, "GET", server.URL, nil, nil)
		if want := time.Hour + time.Minute + 2*time.Second; err != nil || body != "abc" || time.Since(start) != want {
			t.Errorf("body %q, error %v after %v; want abc after %v", body, err, time.Since(start), want)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, body, err = get(ctx, transport, "GET", server.URL, nil, nil)
		if body != "a" || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stalled: body %q, error %v; want a, deadline exceeded", body, err)
		}
	})
}

func TestCloseEndsStalledConnections(t *testing.T) {
	asked := make(chan bool)
	server := httptestfault.New(func(int, *http.Request) httptestfault.Response {
		close(asked)
		return httptestfault.Response{Fault: httptestfault.Fault{Kind: httptestfault.Hang}}
	})
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-asked
	server.Close()
	if _, err := bufio.NewReader(conn).ReadByte(); err == nil {
		t.Error("a response from a server that should stall")
	}
	if _, open := server.Connections(); open != 0 {
		t.Errorf("%d connections open after Close", open)
	}
	if other, err := new(net.ListenConfig).Listen(t.Context(), "tcp", strings.TrimPrefix(server.URL, "http://")); err == nil { // as another process may
		defer other.Close()
	}
	if _, err := server.Dial(t.Context(), "", ""); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a closed server was dialled: %v; want connection refused", err)
	}
}
