// Package neterrtest has servers that no client can connect to, or not at first, for the tests of each kind of client.
package neterrtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/servertest"
)

// A Case is a server that cannot be reached, and how a client tries.
type Case struct {
	Name      string
	URL       string
	TLS       *tls.Config
	Resolver  *net.Resolver // nil means the system's
	Permanent bool          // the failure must not be retried
}

// Base returns a transport for the case, and a counter of its attempts to connect.
func (c Case) Base(t *testing.T) (*http.Transport, *atomic.Int64) {
	t.Helper()
	dials, dialer := new(atomic.Int64), &net.Dialer{Resolver: c.Resolver}
	base := &http.Transport{TLSClientConfig: c.TLS, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return dialer.DialContext(ctx, network, address)
	}}
	t.Cleanup(base.CloseIdleConnections)
	return base, dials
}

// Cases starts the servers, which the end of t stops.
func Cases(t *testing.T) []Case {
	t.Helper()
	secure, roots := serve(t, nil)
	strict, _ := serve(t, &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12})
	older, _ := serve(t, &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12})
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	trusting := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	old := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11} //nolint:gosec // the old version is the case
	named := &tls.Config{RootCAs: roots, ServerName: "example.org.invalid", MinVersion: tls.VersionTLS12}
	const name = "http://perdure.test./"
	return []Case{
		{Name: "unknown authority", URL: secure, TLS: &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}, Permanent: true},
		{Name: "another host's certificate", URL: secure, TLS: named, Permanent: true},
		{Name: "too old a version", URL: secure, TLS: old, Permanent: true},
		{Name: "no TLS there", URL: strings.Replace(plain.URL, "http:", "https:", 1), TLS: trusting, Permanent: true},
		{Name: "client certificate required, TLS 1.3", URL: strict, TLS: trusting, Permanent: true},
		{Name: "client certificate required, TLS 1.2", URL: older, TLS: trusting, Permanent: true},
		{Name: "no such name", URL: name, Resolver: resolver(t, 3), Permanent: true},
		{Name: "no such port", URL: "http://127.0.0.1:70000", Permanent: true},
		{Name: "the name server fails", URL: name, Resolver: resolver(t, 2)},
		{Name: "the connection ends in the handshake", URL: closing(t), TLS: trusting},
		{Name: "nothing listens", URL: closed(t)},
	}
}

// serve starts a server with TLS, and returns its URL and the roots to trust it by.
func serve(t *testing.T, config *tls.Config) (string, *x509.CertPool) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = config
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server.URL, roots
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// closed returns the URL of a port that is closed.
func closed(t *testing.T) string {
	t.Helper()
	return "http://" + servertest.ClosedPort(t)
}

// closing returns the URL of a server that closes each connection at its first bytes.
func closing(t *testing.T) string {
	t.Helper()
	listener := listen(t)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			_, _ = conn.Read(make([]byte, 1<<10))
			conn.Close()
		}
	}()
	return "https://" + listener.Addr().String()
}

// resolver returns a resolver whose name server always responds with that code: 2 is SERVFAIL, 3 is NXDOMAIN.
func resolver(t *testing.T, code byte) *net.Resolver {
	t.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		packet := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(packet)
			if err != nil {
				return // closed
			}
			packet[2], packet[3] = packet[2]|0x80, 0x80|code
			if _, err := conn.WriteTo(packet[:n], from); err != nil {
				return
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}
