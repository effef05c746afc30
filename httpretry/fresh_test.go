package httpretry_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/idle"
)

// onceBodies are bodies of requests that must be sent only once.
func onceBodies() map[string]func() io.Reader {
	long := strings.Repeat("0123456789", 10_000)
	return map[string]func() io.Reader{
		"none":          func() io.Reader { return nil },
		"bytes":         func() io.Reader { return bytes.NewReader([]byte("hello")) },
		"seeker":        func() io.Reader { return struct{ io.ReadSeeker }{strings.NewReader("hello")} },
		"read once":     func() io.Reader { return io.MultiReader(strings.NewReader("hello")) },
		"read once, up": func() io.Reader { return io.MultiReader(strings.NewReader(long)) },
	}
}

// A hangingUp server responds to each connection's first request, then closes the connection, as idle.
type hangingUp struct {
	net.Listener
	served atomic.Int32
	closed chan struct{} // gets a value when a connection was closed
}

func (h *hangingUp) serve() {
	for {
		conn, err := h.Accept()
		if err != nil {
			return
		}
		go func() {
			r := bufio.NewReader(conn)
			if req, err := http.ReadRequest(r); err == nil {
				_, _ = io.Copy(io.Discard, req.Body)
				h.served.Add(1)
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")
			}
			conn.Close()
			h.closed <- struct{}{}
		}()
	}
}

// post makes one request with a body of its own and reads the response.
func post(t *testing.T, transport http.RoundTripper, method, url string, body func() io.Reader) error {
	t.Helper()
	_, text, err := row{method: method, upload: body}.do(t, url, transport)
	if err == nil && text != "fine" {
		return fmt.Errorf("the response is %q", text)
	}
	return err
}

// A request that must not be repeated is not sent on a connection that the server has closed, whether or not net/http has
// noticed: it was sometimes lost, as with a plain client.
func TestOnceOnAClosedConnection(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no way to look at a socket without reading from it")
	}
	certified := httptest.NewTLSServer(http.NotFoundHandler())
	defer certified.Close()
	for _, scheme := range []string{"http", "https"} {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		url := scheme + "://" + listener.Addr().String()
		if scheme == "https" {
			listener = tls.NewListener(listener, &tls.Config{Certificates: certified.TLS.Certificates, MinVersion: tls.VersionTLS12})
		}
		defer listener.Close()
		server := &hangingUp{Listener: listener, closed: make(chan struct{}, 1)}
		go server.serve()
		base := certified.Client().Transport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
		defer base.CloseIdleConnections()
		var last net.Conn
		base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			last = conn
			return conn, err
		}
		for name, options := range sameOptions() {
			transport := httpretry.NewTransport(base, options)
			for kind, body := range onceBodies() {
				for _, method := range []string{"POST", "PATCH"} {
					for i := range 10 {
						server.served.Store(0)
						if err := post(t, transport, method, url, body); err != nil || server.served.Load() != 1 {
							t.Fatalf("%s, %s, %s %s, request %d: %v, and the server has served %d", scheme, name, method, kind, i, err, server.served.Load())
						}
						for <-server.closed; !idle.Ended(last); { // the end is on its way
							runtime.Gosched()
						}
					}
				}
			}
		}
	}
}

// pause waits, in a bubble.
func pause(d time.Duration) { <-time.After(d) }

// A pipes listener and dialer is a network within a bubble.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
	dials atomic.Int32
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) DialContext(context.Context, string, string) (net.Conn, error) {
	p.dials.Add(1)
	client, server := net.Pipe()
	p.conns <- server
	return client, nil
}

// A server may close an idle connection just as a request arrives. A request that must be sent only once takes a new
// connection after a second of idle time; busy clients keep theirs.
func TestOnceOnAnIdleConnection(t *testing.T) {
	for _, tt := range []struct {
		name   string
		gap    time.Duration
		method string
		key    string
		body   string // of onceBodies
		plain  bool   // without a Transport
		conns  int32
		failed int
	}{
		{name: "a plain client", gap: 3 * time.Second, method: "POST", body: "bytes", plain: true, conns: 3, failed: 3},
		{name: "POST", gap: 3 * time.Second, method: "POST", body: "bytes", conns: 6},
		{name: "POST, one reader", gap: 3 * time.Second, method: "POST", body: "read once, up", conns: 6},
		{name: "PUT, one reader", gap: 3 * time.Second, method: "PUT", body: "read once, up", conns: 6},
		{name: "POST with a key", gap: 3 * time.Second, method: "POST", key: "7", body: "bytes", conns: 6},
		{name: "busy POST", gap: 0, method: "POST", body: "bytes", conns: 1},
		{name: "POST twice a second", gap: time.Second / 2, method: "POST", body: "read once, up", conns: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := newPipes()
				defer network.Close() //nolint:errcheck // it has none
				go serveUntilIdle(network, 2*time.Second)
				base := &http.Transport{DialContext: network.DialContext}
				defer base.CloseIdleConnections()
				transport := http.RoundTripper(base)
				if !tt.plain {
					transport = httpretry.NewTransport(base, httpretry.Options{Policy: quick(), BufferLimit: 100, SpoolLimit: -1})
				}
				failed := 0
				for range 6 {
					r := row{method: tt.method, upload: onceBodies()[tt.body], header: http.Header{}}
					if tt.key != "" {
						r.header.Set("Idempotency-Key", tt.key)
					}
					if _, _, err := r.do(t, "http://example.org", transport); err != nil {
						failed++
					}
					pause(tt.gap)
				}
				if failed != tt.failed || network.dials.Load() != tt.conns {
					t.Errorf("%d of 6 failed over %d connections; want %d over %d", failed, network.dials.Load(), tt.failed, tt.conns)
				}
			})
		})
	}
}

// serveUntilIdle responds to requests, but drops a connection at the first request after too long an idle time.
func serveUntilIdle(l net.Listener, most time.Duration) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			r := bufio.NewReader(conn)
			for last := time.Now(); ; last = time.Now() {
				req, err := http.ReadRequest(r)
				if err != nil || time.Since(last) > most {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"); err != nil {
					return
				}
			}
		}()
	}
}

// An HTTP/2 connection is never closed for one request: others may use it.
func TestOnceOnAnIdleHTTP2Connection(t *testing.T) {
	certified := httptest.NewTLSServer(http.NotFoundHandler())
	defer certified.Close()
	client := certified.Client().Transport.(*http.Transport) //nolint:forcetypeassert // it is one
	for _, coded := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			network := newPipes()
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") })}
			base := &http.Transport{DialContext: network.DialContext, Protocols: new(http.Protocols)}
			url := "http://example.com"
			if coded {
				url = "https://example.com"
				base.TLSClientConfig = client.TLSClientConfig.Clone()
				base.Protocols.SetHTTP2(true)
				server.TLSConfig = &tls.Config{Certificates: certified.TLS.Certificates, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}
				go func() { _ = server.ServeTLS(network, "", "") }()
			} else {
				base.Protocols.SetUnencryptedHTTP2(true)
				server.Protocols = base.Protocols
				go func() { _ = server.Serve(network) }()
			}
			transport := httpretry.NewTransport(base, httpretry.Options{Policy: quick()})
			for range 3 {
				if err := post(t, transport, "POST", url, onceBodies()["bytes"]); err != nil {
					t.Error(err)
				}
				pause(3 * time.Second)
			}
			if n := network.dials.Load(); n != 1 {
				t.Errorf("%d connections; want one", n)
			}
			base.CloseIdleConnections()
			if err := server.Shutdown(t.Context()); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
}
