// Package viaproxy has the refusals of proxies reported by transports of the caller's, which it does not change.
package viaproxy

import (
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/seed-0f2c7998/perdure/internal/class"
)

// A Transport sends requests by an http.Transport, and those for https that go through an HTTP proxy by a copy of it, made
// at the first of them. The copy has connections of its own. It is safe for concurrent use.
type Transport struct {
	base   *http.Transport
	report func(*http.Transport)
	once   sync.Once
	copied atomic.Pointer[http.Transport] // by copy; nil before
}

var ofDefault struct { //nolint:gochecknoglobals // one for the process, as http.DefaultTransport is, for its connections
	sync.Mutex
	*Transport
}

// New returns a Transport over base. It calls report with the copy, before that is used. All those over
// [http.DefaultTransport] are one.
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

// connects reports whether base asks a proxy to connect to the server of req.
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

// CloseIdleConnections closes those of both.
func (t *Transport) CloseIdleConnections() {
	t.base.CloseIdleConnections()
	if copied := t.copied.Load(); copied != nil {
		copied.CloseIdleConnections()
	}
}

// Class returns what a proxy's refusal to connect means: a status that may pass is as that of a server, which could not be
// reached. Any other says nothing of the server.
func Class(status int) class.Class {
	if c := class.OfStatus(status); c.Retried() {
		return c
	}
	return class.Ignored
}
