// Package viaproxy makes an http.Transport report the refusals of proxies, without changing the caller's http.Transport.
package viaproxy

import (
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/seed-0f2c7998/perdure/internal/class"
)

// A Transport sends requests through an http.Transport, and https requests that go through an HTTP proxy through a copy of
// it. The copy is made at the first such request and has connections of its own. A Transport is safe for concurrent use.
type Transport struct {
	base   *http.Transport
	report func(*http.Transport)
	once   sync.Once
	copied atomic.Pointer[http.Transport] // nil before the first call of copy
}

var ofDefault struct { //nolint:gochecknoglobals // one for the process, as http.DefaultTransport is, for its connections
	sync.Mutex
	*Transport
}

// New returns a Transport over base. The Transport calls report with the copy before using the copy. All Transports over
// [http.DefaultTransport] are the same.
func New(base *http.Transport, report func(*http.Transport)) *Transport {
	if base != http.DefaultTransport {
		return &Transport{base: base, report: report}
	}
	ofDefault.Lock()
	defer ofDefault.Unlock()
	if ofDefault.Transport == nil || ofDefault.base != base { // a program may replace the default
		ofDefault.Transport = &Transport{base: base, report: report}
	}
	return ofDefault.Transport
}

// RoundTrip sends req.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.base.Proxy != nil && req.URL != nil && req.URL.Scheme == "https" && t.connects(req) {
		return t.copy().RoundTrip(req)
	}
	return t.base.RoundTrip(req)
}

// connects reports whether base connects to the server of req through a proxy.
func (t *Transport) connects(req *http.Request) bool {
	proxy, err := t.base.Proxy(req)
	return err == nil && proxy != nil && (proxy.Scheme == "http" || proxy.Scheme == "https")
}

func (t *Transport) copy() *http.Transport {
	t.once.Do(func() {
		copied := t.base.Clone()
		t.report(copied)
		t.copied.Store(copied)
	})
	return t.copied.Load()
}

// CloseIdleConnections closes the idle connections of base and of the copy.
func (t *Transport) CloseIdleConnections() {
	t.base.CloseIdleConnections()
	if copied := t.copied.Load(); copied != nil {
		copied.CloseIdleConnections()
	}
}

// Class returns the class of a proxy's refusal to connect: that of the status if a server's response with it is retried,
// because the server cannot be reached; Ignored otherwise, because the server did not fail.
func Class(status int) class.Class {
	if c := class.OfStatus(status); c.Retried() {
		return c
	}
	return class.Ignored
}
