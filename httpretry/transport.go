// Package httpretry makes the requests of a net/http client outlast failures.
//
// A [Transport] is a drop-in [http.RoundTripper]:
//
//	api := retry.APICall()
//	client := httpretry.Client(&api) // or: client.Transport = httpretry.NewTransport(client.Transport, httpretry.Options{Policy: &api})
//	res, err := client.Get("https://api.example.org/stations")
//
// Each request is one operation of package retry, which decides everything: there is no loop in here. What this
// package knows is HTTP: which requests may be repeated, what a status or an error of the transport means, how long
// the server asked to wait, how a body is sent again, and how a connection is kept for the next attempt.
//
// # How it ends
//
// When attempts are given up and the last one had a response, the caller gets that response, unread, with a nil error, as
// from any client; [GaveUp] says why there was no other attempt. When the last attempt had no response, the error is
// that of [retry.Value], which the http.Client wraps in its [url.Error] as usual: a [*retry.Error] if there were
// several attempts, else the error itself.
//
// The context of the request bounds the operation: all attempts and all waits.
package httpretry

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/hedge"
	"github.com/seed-0f2c7998/perdure/internal/stall"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
	"github.com/seed-0f2c7998/perdure/internal/viaproxy"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Transport is an http.RoundTripper that retries. Make one with [NewTransport].
// It is safe for concurrent use, as its base is.
type Transport struct {
	// What the quickest request needs is together at the beginning, in one line of the processor's cache.

	base         http.RoundTripper
	gzip         atomic.Bool // the base asks for gzip by itself and takes it off: then we do, above the body that is resumed
	defaultRoute route       // of requests that share nothing by key; with our classifier and observer
	noPrep       bool        // nothing has to be prepared for a GET without a body, see RoundTrip
	oneRoute     bool        // all requests go by the default route

	options  Options
	invalid  error // why the options can't be used
	registry *circuit.Registry
	timers   stall.Pool
	plain    bool // see isPlainHTTP1

	mu     sync.RWMutex
	routes map[routeKey]*route // guarded by mu
}

// A routeKey is what requests have in common that share a breaker. It saves making Key's string for each request.
type routeKey struct{ scheme, host, key string }

// NewTransport returns a Transport whose attempts are made by base; if base is nil, by [http.DefaultTransport].
//
// If base is an [http.Transport], https requests that go through a proxy are made by a copy of it, which reports a proxy that
// refuses to connect as a [*ProxyError]. The copy is made at the first of them and has connections of its own; the Proxy function
// is called once more for each. A base that wraps an http.Transport reports it if [ReportProxyErrors] was called for that.
//
// Options that are not valid show in the error of each request.
func NewTransport(base http.RoundTripper, o Options) *Transport {
	if base == nil {
		base = http.DefaultTransport
	}
	t := &Transport{base: base, options: o, invalid: o.Validate(), registry: o.Registry, routes: make(map[routeKey]*route)}
	var policy retry.Policy
	if o.Policy != nil {
		policy = *o.Policy
	}
	if t.registry == nil {
		t.registry = new(circuit.Registry)
	}
	if plain, ok := base.(*http.Transport); ok {
		t.gzip.Store(!o.NoResume && !plain.DisableCompression)
		t.base = viaproxy.New(plain, ReportProxyErrors)
	}
	t.plain = isPlainHTTP1(base)
	policy.Name = cmp.Or(policy.Name, "http_request")
	policy.Classify = classifier(policy.Classify)
	policy.Observe, policy.Timed = observer(policy.Observe), true
	t.defaultRoute.policy = &policy
	t.oneRoute = t.invalid == nil && o.Breakers == nil && o.Hedge == nil
	t.noPrep = o.Hedge == nil && o.AttemptHeader == "" && o.Classify == nil && policy.AttemptTimeout == 0 && policy.MaxElapsed == 0 && !policy.ObserveAll
	return t
}

// Client returns a client that retries by p, over [http.DefaultTransport]; a nil p is the zero Policy. It follows redirects by
// [CheckRedirect], which any other client of a Transport should have as well.
func Client(p *retry.Policy) *http.Client {
	return &http.Client{Transport: NewTransport(nil, Options{Policy: p}), CheckRedirect: CheckRedirect}
}

// classifier returns the Classify that asks the Options', the user's own and then ours.
func classifier(user func(error) retry.Class) func(error) retry.Class {
	return func(err error) retry.Class {
		if status, ok := unwrap.As[*StatusError](err); ok && status.class != retry.ClassUnknown {
			return status.class
		}
		if user != nil {
			if c := user(err); c != retry.ClassUnknown {
				return c
			}
		}
		return classOf(err)
	}
}

// classify returns what the Options say of res.
func (t *Transport) classify(res *http.Response) retry.Class {
	if t.options.Classify == nil {
		return retry.ClassUnknown
	}
	defer hideBody(res)()
	return t.options.Classify(res)
}

// hideBody takes the body off res, for a hook that must not read what the caller is to get, until restore is called.
func hideBody(res *http.Response) (restore func()) {
	body := res.Body
	res.Body = http.NoBody
	return func() { res.Body = body }
}

// observer returns the Observe that frees the connection of an unwanted response before the wait, and then calls the user's.
func observer(user func(context.Context, retry.Event)) func(context.Context, retry.Event) {
	return func(ctx context.Context, e retry.Event) {
		if e.Kind == retry.Retrying {
			if status, ok := unwrap.As[*StatusError](e.Err); ok {
				status.discard()
			}
		}
		if user != nil {
			user(ctx, e)
			return
		}
		retry.LogTo(slog.Default())(ctx, e)
	}
}

// hint returns the wait that a response asks for.
func (t *Transport) hint(res *http.Response, received time.Time) (time.Duration, bool) {
	if ask := t.options.RetryAfter; ask != nil {
		restore := hideBody(res)
		d, ok := ask(res)
		restore()
		if ok {
			return d, true
		}
	}
	if d, ok := RetryAfter(res.Header, received); ok {
		return d, true
	}
	if res.StatusCode != http.StatusTooManyRequests && res.StatusCode != http.StatusServiceUnavailable {
		return 0, false
	}
	return RateLimit(res.Header, received)
}

// CloseIdleConnections closes those of the base transport, if it has any.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// maxRoutes is how many are kept, for keys may go on coming. A route is soon made again: its breaker is in the registry.
const maxRoutes = 1000

// A route is what requests of one key have of their own.
type route struct {
	policy *retry.Policy // with the breaker of the key
	hedger *hedge.Hedger // nil: no hedging
}

// routeOf returns the route of req, where there may be several.
func (t *Transport) routeOf(req *http.Request) (*route, error) {
	if t.invalid != nil {
		return nil, t.invalid
	}
	if req.URL == nil {
		return &t.defaultRoute, nil
	}
	s := routeKey{scheme: req.URL.Scheme, host: req.URL.Host}
	if t.options.Key != nil {
		s = routeKey{key: t.options.Key(req)}
	}
	t.mu.RLock()
	l := t.routes[s]
	t.mu.RUnlock()
	if l != nil {
		return l, nil
	}
	if t.options.Key == nil {
		return t.addRoute(s, Key(req))
	}
	return t.addRoute(s, s.key)
}

// addRoute makes the route of a key at its first request.
func (t *Transport) addRoute(s routeKey, key string) (*route, error) {
	l := route{policy: t.defaultRoute.policy, hedger: t.options.Hedge.hedger()}
	if t.options.Breakers != nil {
		breaker, err := t.registry.Get("http:"+key, *t.options.Breakers)
		if err != nil {
			return nil, fmt.Errorf("httpretry: breaker of %s: %w", key, err)
		}
		p := *l.policy
		p.Breaker = breaker
		l.policy = &p
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.routes[s]; known != nil {
		return known, nil // another goroutine was faster
	}
	if len(t.routes) >= maxRoutes {
		clear(t.routes)
	}
	t.routes[s] = &l
	return &l, nil
}
