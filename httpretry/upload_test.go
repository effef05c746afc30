package httpretry_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A held reader blocks until it is released.
type held struct {
	begun   chan struct{} // closed when it is read for the first time
	once    sync.Once
	release chan struct{}
	rest    io.Reader
}

func (h *held) Read(p []byte) (int, error) {
	h.once.Do(func() { close(h.begun) })
	<-h.release
	return h.rest.Read(p)
}

// A server may respond while the body is still being read. The next attempt waits for that read, whose bytes belong to the
// body: here they are more than the limit.
func TestResponseWhileTheBodyIsRead(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit int64
		fails bool
	}{
		{"kept", 1000, false},
		{"more than may be kept", 10, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer checkLeaks(t)
			unread := status(503)
			unread.Unread = true
			server := httptestfault.New(httptestfault.Responses(unread, ok))
			defer server.Close()
			base := server.Transport()
			defer base.CloseIdleConnections()
			body := &held{
				begun: make(chan struct{}), release: make(chan struct{}), rest: strings.NewReader(strings.Repeat("x", 100)),
			}
			source := &closing{body, make(chan struct{})}
			policy := quick()
			policy.Observe = func(_ context.Context, e retry.Event) {
				if e.Kind == retry.Retrying {
					<-body.begun // the server may have been faster than the first read
					close(body.release)
				}
			}
			transport := httpretry.NewTransport(base, httpretry.Options{Policy: policy, BufferLimit: tt.limit, SpoolLimit: -1})
			res, got, err := row{method: "PUT", upload: func() io.Reader { return source }}.do(t, server.URL, transport)
			<-source.closed
			if !tt.fails {
				if err != nil || got != "fine" || len(server.Requests()[1].Body) != 100 {
					t.Errorf("%v, %q, %v; want the whole body in the second request", res, got, err)
				}
				return
			}
			failure, ok := errors.AsType[*httpretry.StatusError](err)
			if !errors.Is(err, httpretry.ErrBody) || !ok || failure.Status != 503 {
				t.Errorf("%v, %v; want ErrBody, and the 503 before it", res, err)
			}
		})
	}
}

func TestGetBodyThatFails(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses(status(503)))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	source := &closing{strings.NewReader("data"), make(chan struct{})}
	req, err := http.NewRequestWithContext(t.Context(), "PUT", server.URL, source)
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("the file was deleted")
	req.GetBody = func() (io.ReadCloser, error) { return nil, gone }
	res, err := httpretry.NewTransport(base, httpretry.Options{Policy: quick()}).RoundTrip(req)
	if err == nil {
		res.Body.Close()
	}
	<-source.closed
	if !errors.Is(err, gone) || !errors.Is(err, httpretry.ErrBody) || len(server.Requests()) != 1 {
		t.Errorf("%v after %d requests; want the error of GetBody after one", err, len(server.Requests()))
	}
}

// A caller that ends the operation while the response is classified gets its own reason, not an unreadable response.
func TestCanceledAtTheResponse(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses(status(503)))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	ctx, cancel := context.WithCancel(t.Context())
	transport := httpretry.NewTransport(base, httpretry.Options{Policy: quick(), RetryAfter: func(*http.Response) (time.Duration, bool) {
		cancel()
		return 0, false
	}})
	_, _, err := row{ctx: func(context.Context) context.Context { return ctx }}.do(t, server.URL, transport)
	if !errors.Is(err, context.Canceled) || len(server.Requests()) != 1 {
		t.Errorf("%v after %d requests; want canceled after one", err, len(server.Requests()))
	}
}

// A caller that gives up while a read of its body hangs gets its error at once, and its body closed.
func TestCanceledWhileTheBodyIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unread := status(503)
		unread.Unread = true
		server := httptestfault.NewInMemory(httptestfault.Responses(unread, ok))
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		body := &held{begun: make(chan struct{}), release: make(chan struct{}), rest: strings.NewReader("data")}
		source := &closing{body, make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		policy := quick()
		policy.Observe = func(_ context.Context, e retry.Event) {
			if e.Kind == retry.Retrying {
				time.AfterFunc(time.Minute, cancel) // the second attempt waits for the read then
			}
		}
		r := row{method: "PUT", ctx: func(context.Context) context.Context { return ctx }, upload: func() io.Reader { return source }}
		start := time.Now()
		if _, _, err := r.do(t, server.URL, httpretry.NewTransport(base, httpretry.Options{Policy: policy})); !errors.Is(err, context.Canceled) {
			t.Errorf("%v; want canceled", err)
		}
		if waited := time.Since(start); waited < time.Minute {
			t.Errorf("ended after %v, before the caller gave up", waited)
		}
		<-source.closed
		close(body.release)
	})
}

// A closing body records that it was closed.
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
	open := circuit.New("open", circuit.Config{Observe: func(context.Context, circuit.Transition) {}})
	open.Isolate()
	isolated := quick()
	isolated.Breaker = open
	for _, tt := range []struct {
		name   string
		policy *retry.Policy
		steps  []httptestfault.Response
	}{
		{"success", quick(), []httptestfault.Response{ok}},
		{"success after retries", quick(), []httptestfault.Response{status(503), ok}},
		{"exhausted", quick(), []httptestfault.Response{status(503)}},
		{"reset", quick(), []httptestfault.Response{{Fault: httptestfault.Reset()}}},
		{"bad policy", bad, nil},
		{"breaker open", isolated, nil},
	} {
		server := httptestfault.New(httptestfault.Responses(tt.steps...))
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
