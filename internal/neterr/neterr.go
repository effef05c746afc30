// Package neterr classifies the errors of connections, names and TLS: temporary ones, which the next attempt may not have,
// and permanent ones.
//
// It does not import net/http and crypto/tls, which would add megabytes to every program that retries: it recognizes their
// types by name.
package neterr

import (
	"context"
	"io"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"github.com/seed-0f2c7998/perdure/internal/unwrap"
)

// Findings are the facts about a connection in an error and the errors that it wraps.
type Findings struct {
	timeout, permanent, connection, unsendable bool
}

// Look returns the findings of err and of the errors that it wraps.
func Look(err error) Findings {
	var f Findings
	unwrap.Walk(err, func(err error) unwrap.Step {
		f.Add(err)
		return unwrap.Inward
	})
	return f
}

// IsTimeout reports whether one of the errors is a timeout.
func (f *Findings) IsTimeout() bool { return f.timeout }

// IsPermanent reports whether every attempt to connect will fail: the peers do not accept each other's TLS, or no server can
// be at the address.
func (f *Findings) IsPermanent() bool {
	return f.permanent || f.unsendable && !f.connection && !f.timeout
}

// IsConnection reports whether a connection failed or broke, and the next attempt may succeed.
func (f *Findings) IsConnection() bool { return f.connection && !f.permanent }

// IsPermanent is [Findings.IsPermanent] of the findings of err.
func IsPermanent(err error) bool {
	f := Look(err)
	return f.IsPermanent()
}

// Add adds the findings of err itself, without the errors that it wraps.
func (f *Findings) Add(err error) {
	permanent, connection := classify(err)
	f.permanent, f.connection = f.permanent || permanent, f.connection || connection
	if e, ok := err.(*url.Error); ok { //nolint:errorlint // Look unwraps
		f.unsendable = f.unsendable || !hasServer(e.URL)
	}
	t, ok := err.(interface{ Timeout() bool })
	f.timeout = f.timeout || ok && t.Timeout() || unwrap.Same(err, context.DeadlineExceeded)
}

// classify reports whether err itself is permanent, and whether it is a failed connection that may succeed the next time.
func classify(err error) (permanent, connection bool) {
	switch e := err.(type) { //nolint:errorlint // Look unwraps
	case syscall.Errno:
		return false, isTemporary(e)
	case *net.OpError:
		return classifyOp(e)
	case *net.DNSError:
		return e.IsNotFound, e.IsTemporary && !e.IsNotFound
	case *url.Error:
		return e.Op == "parse", unwrap.Is(e.Err, io.EOF) // the server hung up
	case *net.AddrError, *net.ParseError, net.InvalidAddrError, net.UnknownNetworkError, url.EscapeError, url.InvalidHostError:
		return true, false
	}
	if err == io.ErrUnexpectedEOF { //nolint:errorlint // Look unwraps
		return false, true
	}
	return classifyNamed(err)
}

// classifyOp is classify for an operation of net, or of crypto/tls, which uses its type.
func classifyOp(e *net.OpError) (permanent, connection bool) {
	switch e.Op {
	case "accept", "listen": // of a server
		return false, false
	case "remote error": // an alert, from crypto/tls
		alert := reflect.ValueOf(e.Err)
		refused := alert.Kind() == reflect.Uint8 && isRefusal(alert.Uint())
		return refused, !refused
	}
	return false, true
}

// isRefusal reports whether an alert of the peer (RFC 8446, section 6.2) refuses this client, rather than damaged data.
func isRefusal(alert uint64) bool {
	switch {
	case alert == 40, alert >= 42 && alert <= 49: // the handshake, our certificate, access
		return true
	case alert == 70, alert == 71, alert >= 109 && alert <= 120: // versions, ciphers, extensions, names
		return true
	}
	return false
}

// classifyNamed is classify for the errors of packages that are not imported here.
func classifyNamed(err error) (permanent, connection bool) {
	t := reflect.TypeOf(err)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.PkgPath() {
	case "crypto/x509":
		return true, false
	case "crypto/tls":
		return isOneOf(t.Name(), "CertificateVerificationError", "RecordHeaderError", "ECHRejectionError"), false
	case "net/http", "net/http/internal/http2", "golang.org/x/net/http2":
		return false, isOneOf(strings.TrimPrefix(t.Name(), "http2"), "StreamError", "GoAwayError", "ConnectionError")
	}
	return false, false
}

func isOneOf(name string, names ...string) bool { return slices.Contains(names, name) }

// hasServer reports whether net/http can send a request to this URL.
func hasServer(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

// isTemporary reports whether an error of the operating system may be absent at the next attempt to connect.
func isTemporary(e syscall.Errno) bool {
	return slices.Contains([]syscall.Errno{
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, syscall.ENOTCONN, syscall.ENETRESET,
		syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EHOSTUNREACH, hostDown,
		syscall.EADDRNOTAVAIL, // every local port is taken

		// The same as Windows numbers them, and refused, unreachable (network, host) and aborted once more.
		10061, 10054, 10053, 10058, 10057, 10052, 10051, 10050, 10065, 10064, 10049, 1225, 1231, 1232, 1236,
	}, e)
}
