package neterrtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"syscall"
	"testing"
)

// Samples returns an error for each row of the network in docs/errors.md, as a client of net/http returns it.
func Samples(t *testing.T) map[string]error {
	t.Helper()
	get := func(address string, err error) error { return &url.Error{Op: "Get", URL: address, Err: err} }
	dial := func(err error) error {
		return get("http://h/", &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)})
	}
	alert := func(n tls.AlertError) error { return get("https://h/", &net.OpError{Op: "remote error", Err: n}) }
	trusted := &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
	return map[string]error{
		"connection refused": dial(syscall.ECONNREFUSED), "connection reset": dial(syscall.ECONNRESET),
		"connection aborted": dial(syscall.ECONNABORTED), "broken pipe": os.NewSyscallError("write", syscall.EPIPE),
		"no route to the host": syscall.EHOSTUNREACH, "network unreachable": syscall.ENETUNREACH,
		"network down": syscall.ENETDOWN, "host down": syscall.EHOSTDOWN, "no local port left": dial(syscall.EADDRNOTAVAIL),
		"reset, as Windows numbers it": syscall.Errno(10054), "unexpected end": io.ErrUnexpectedEOF,
		"the server hangs up (EOF within a url.Error)": get("http://h/", fmt.Errorf("x: %w", io.EOF)),
		"timeout of the network":                       get("http://h/", os.ErrDeadlineExceeded),
		"deadline of a context":                        get("http://h/", context.DeadlineExceeded),
		"temporary failure of DNS":                     get("http://h/", &net.OpError{Op: "dial", Err: &net.DNSError{IsTemporary: true}}),
		"no such host":                                 get("http://h/", &net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}),
		"certificate not trusted":                      get("https://h/", trusted),
		"certificate of another name":                  get("https://h/", x509.HostnameError{Certificate: &x509.Certificate{}}),
		"no TLS there":                                 get("https://h/", tls.RecordHeaderError{}),
		"client certificate refused":                   alert(42), "TLS record damaged on the way": alert(20),
		"not an address":              get("http://h/", &net.AddrError{}),
		"scheme that is none of HTTP": get("gopher://h/", errors.New("unsupported protocol scheme")),
		"HTTP/2 stream reset":         get("https://h/", streamReset(t)), "cancelled context": get("http://h/", context.Canceled),
		"EOF alone": io.EOF, "no such file": os.ErrNotExist, "any other error": get("http://h/", errors.New("down")),
	}
}

// streamReset returns the error of net/http for an HTTP/2 stream that the server resets.
func streamReset(t *testing.T) error {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := server.Client().Do(req)
	if err == nil {
		res.Body.Close()
		t.Fatal("no error of a reset stream")
	}
	return err
}
