// Package neterr knows which errors of the network, of TLS and of names will be the same at the next attempt.
package neterr

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"reflect"
)

// IsPermanent reports whether err says that no connection will come about, however often it is tried: the two sides do
// not accept each other's TLS, or no server can be at the address. Any other error of a connection may pass.
func IsPermanent(err error) bool { return isUntrusted(err) || isNoAddress(err) }

// isUntrusted reports whether the two sides will not come to speak TLS with each other.
func isUntrusted(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" { // what crypto/tls calls an alert
		alert := reflect.ValueOf(op.Err)
		return alert.Kind() == reflect.Uint8 && isRefusal(alert.Uint())
	}
	return errors.Is(err, http.ErrSchemeMismatch) ||
		is[*tls.CertificateVerificationError](err) || is[tls.RecordHeaderError](err) ||
		is[*tls.ECHRejectionError](err) || is[x509.UnknownAuthorityError](err) || is[x509.HostnameError](err) ||
		is[x509.CertificateInvalidError](err) || is[x509.SystemRootsError](err)
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

// isNoAddress reports whether no server can be at that address: no such name, no such port.
func isNoAddress(err error) bool {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.IsNotFound
	}
	return is[*net.AddrError](err) || is[*net.ParseError](err) || is[net.InvalidAddrError](err) ||
		is[net.UnknownNetworkError](err) || is[url.EscapeError](err) || is[url.InvalidHostError](err)
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
