package httpretry_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
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

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

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
