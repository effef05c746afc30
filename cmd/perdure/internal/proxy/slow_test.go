package proxy_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
	"github.com/seed-0f2c7998/perdure/retry"
)

// pipes is a listener whose clients are in the test.
type pipes struct {
	conns chan net.Conn
	ended context.Context // of the listener
	end   func()
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended.Done():
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.end(); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9000} }

// A sink is a base that reads the body of a request.
type sink struct{}

func (sink) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

// A client that needs too long for a header, or sends nothing of a body, is dropped; one that continues to send is not.
func TestSlowClientsAreDropped(t *testing.T) {
	const put = "PUT / HTTP/1.1\r\nHost: 127.0.0.1:9000\r\nContent-Length: 100\r\n\r\n"
	for _, tt := range []struct {
		name, text string
		every      time.Duration // between two bytes that follow text; 0 means none
		after      time.Duration // when the proxy responds to or drops the client
	}{
		{"no header", "", 0, 10 * time.Second},
		{"part of a header", "GET / HTTP/1.1\r\nHost:", 0, 10 * time.Second},
		{"a header byte by byte", "GET / HTTP/1.1\r\nX: ", 900 * time.Millisecond, 10 * time.Second},
		{"no body", put, 0, 2 * time.Minute},
		{"part of a body", put + "0123456789", 0, 2 * time.Minute},
		{"a body byte by byte", put, 100 * time.Second, 100 * 100 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &pipes{conns: make(chan net.Conn)}
				l.ended, l.end = context.WithCancel(t.Context())
				config := proxy.Config{Policy: &retry.Policy{MaxAttempts: 1}, Base: sink{}, Log: slog.New(slog.DiscardHandler)}
				config.Upstreams, _ = proxy.ParseUpstreams("--to", []string{"http://upstream.test"})
				ctx, stop := context.WithCancel(t.Context())
				served := make(chan error, 1)
				go func() { served <- proxy.New(config, l.Addr()).Serve(ctx, l) }()
				client, server := net.Pipe()
				defer client.Close()
				l.conns <- server
				begun := time.Now()
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					_, err := io.WriteString(client, tt.text)
					for tt.every > 0 && err == nil {
						<-time.NewTimer(tt.every).C
						_, err = io.WriteString(client, "x")
					}
				}()
				_, _ = client.Read(make([]byte, 1))
				if after := time.Since(begun); after < tt.after || after > tt.after+time.Second {
					t.Errorf("the client was served or dropped after %v, want %v", after, tt.after)
				}
				client.Close()
				<-sent
				stop()
				if err := <-served; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Requests may begin and end at any moment while the proxy ends: on connections that were opened before, when the time is over.
func TestRequestsThatBeginWhileTheProxyEnds(t *testing.T) {
	config := proxy.Config{Policy: &retry.Policy{}, Base: sink{}, Log: slog.New(slog.DiscardHandler), Grace: time.Millisecond}
	config.Upstreams, _ = proxy.ParseUpstreams("--to", []string{"http://upstream.test"})
	p := proxy.New(config, (&pipes{}).Addr())
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() {
			for ctx.Err() == nil {
				p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "http://elsewhere.test/", http.NoBody))
			}
		})
	}
	for range 300 {
		l := &pipes{conns: make(chan net.Conn)}
		l.ended, l.end = context.WithCancel(t.Context())
		ended, end := context.WithCancel(t.Context())
		end()
		if err := p.Serve(ended, l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}
	stop()
	clients.Wait()
}
