// Package neterr knows what errors of connections, of names and of TLS mean: which may be gone at the next attempt,
// and which will be the same.
//
// It does not import net/http and crypto/tls, which would make every program that retries larger by megabytes: their
// types are known by their names.
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

// Findings are what the errors in an error say of a connection.
type Findings struct {
	timeout, permanent, connection, unsendable bool
}

// Look returns what err and the errors in it say.
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

// IsPermanent reports whether no connection will come about, however often it is tried: the two sides do not accept
// each other's TLS, or no server can be at the address.
func (f *Findings) IsPermanent() bool {
	return f.permanent || f.unsendable && !f.connection && !f.timeout
}

// IsConnection reports whether a connection could not be made or broke, and may well be there the next time.
func (f *Findings) IsConnection() bool { return f.connection && !f.permanent }

// IsPermanent is [Findings.IsPermanent] of what err says.
func IsPermanent(err error) bool {
	f := Look(err)
	return f.IsPermanent()
}

// Add adds what err itself says, without the errors in it.
func (f *Findings) Add(err error) {
	permanent, connection := judge(err)
	f.permanent, f.connection = f.permanent || permanent, f.connection || connection
	if e, ok := err.(*url.Error); ok { //nolint:errorlint // Look unwraps
		f.unsendable = f.unsendable || !hasServer(e.URL)
	}
	t, ok := err.(interface{ Timeout() bool })
	f.timeout = f.timeout || ok && t.Timeout() || unwrap.Same(err, context.DeadlineExceeded)
}

// judge reports whether err itself will be the same at the next attempt, and whether a connection failed.
func judge(err error) (permanent, connection bool) {
	switch e := err.(type) { //nolint:errorlint // Look unwraps
	case syscall.Errno:
		return false, isPassing(e)
	case *net.OpError:
		return judgeOp(e)
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
	return judgeNamed(err)
}

// judgeOp is judge for what the net package, or crypto/tls in its way, says of an operation.
func judgeOp(e *net.OpError) (permanent, connection bool) {
	switch e.Op {
	case "accept", "listen": // of a server, and "accept" of one that was shut down
		return false, false
	case "remote error": // what crypto/tls calls an alert
		alert := reflect.ValueOf(e.Err)
		refused := alert.Kind() == reflect.Uint8 && isRefusal(alert.Uint())
		return refused, !refused
	}
	return false, true
}

// isRefusal reports whether an alert of the other side (RFC 8446, section 6.2) is its response to what we are, rather
// than to what the network has made of it.
func isRefusal(alert uint64) bool {
	switch {
	case alert == 40, alert >= 42 && alert <= 49: // the handshake, our certificate, access
		return true
	case alert == 70, alert == 71, alert >= 109 && alert <= 120: // versions, ciphers, extensions, names
		return true
	}
	return false
}

// judgeNamed is judge for the errors of packages that are not imported here.
func judgeNamed(err error) (permanent, connection bool) {
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

// hasServer reports whether a request of net/http to this URL can be sent at all.
func hasServer(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

// isPassing reports whether an error of the system may be gone at the next attempt to connect.
func isPassing(e syscall.Errno) bool {
	return slices.Contains([]syscall.Errno{
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, syscall.ENOTCONN, syscall.ENETRESET,
		syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EHOSTUNREACH, hostDown,
		syscall.EADDRNOTAVAIL, // every local port is taken

		// The same as Windows numbers them, and refused, unreachable (network, host) and aborted once more.
		10061, 10054, 10053, 10058, 10057, 10052, 10051, 10050, 10065, 10064, 10049, 1225, 1231, 1232, 1236,
	}, e)
}
