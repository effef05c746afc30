// Package httpretry retries the requests of a net/http client.
//
// A [Transport] is a drop-in [http.RoundTripper]:
//
//	api := retry.APICall()
//	client := httpretry.Client(&api) // or: client.Transport = httpretry.NewTransport(client.Transport, httpretry.Options{Policy: &api})
//	res, err := client.Get("https://api.example.org/stations")
//
// Each request is one operation of package retry, which decides on each attempt and wait; this package contains no retry
// loop. It knows HTTP: which requests may be repeated, what a status or a transport's error means, how long the server
// asked to wait, how to send a body again, how to resume the body of a response.
//
// # Results
//
// If the last attempt had a response, the caller gets that response, unread, with a nil error, as from any client; [GaveUp]
// returns why no other attempt followed. If the last attempt had no response, the error is that of [retry.Value], which
// the http.Client wraps in a [url.Error] as usual: a [*retry.Error] after several attempts, the error itself after one.
//
// The context of the request limits the operation: all attempts and all waits.
//
// # Reading the code
//
// The files in the order of a request:
//
//   - transport.go: route. Find the policy and the breaker of the request; then RoundTrip, which most requests never leave.
//   - attempt.go: send. Prepare the request, make each attempt; connection.go knows whether a request has left.
//   - classify.go: classify. What a response or an error means; retryafter.go reads the wait that a server asked for.
//   - outcome.go: deliver. What the caller gets at the end; errors.go has the errors.
//   - body.go: the body of a delivered response; resume.go requests its rest after a break, and representation.go decides
//     whether a response has that rest.
package httpretry

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/hedge"
	"github.com/seed-0f2c7998/perdure/internal/bound"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/seam"
	"github.com/seed-0f2c7998/perdure/internal/stall"
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

// CloseIdleConnections closes those of the base transport, if it has any.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// RoundTrip makes as many attempts as it takes, or as the policy allows. It does not change req.
//
// Most requests are a GET that is answered at once. For those, what retries take is made when the first attempt has
// failed; and the way there is one stretch of code, which leaves to others all that is out of the ordinary: the kernel
// has had the processor meanwhile, so that a function that is called costs several times what it does.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) { //nolint:cyclop // as said above
	l, err := &t.defaultRoute, error(nil)
	if !t.oneRoute {
		if l, err = t.routeOf(req); err != nil {
			return refuse(req, err)
		}
	}
	b, word, healthy := l.policy.Breaker, uint64(0), true
	if b != nil {
		word, healthy = seam.Of(b).Quick()
	}
	if ctx := req.Context(); !healthy || !t.needsNoPrep(req) || ctx.Err() != nil || ctx.Value(endKey{}) != nil {
		return t.operate(l, req)
	}
	sent, s := req, (*stream)(nil)
	if h := req.Header; h != nil && len(h) == 0 && t.gzip.Load() {
		own := newGzipRequest(req, http.Header{"Accept-Encoding": gzipOnly})
		sent, s = &own.request, &own.stream
	} else if !t.options.NoResume {
		sent, s = t.withGzip(req)
	}
	start := time.Now()
	res, err := t.base.RoundTrip(sent)
	if err != nil || !isPlain200(res, sent) {
		e := operation{transport: t, route: l, original: req, req: sent, stream: s, idempotent: true, attempts: 1}
		return e.retryFrom(breakers.Permit(b, word), start, res, err)
	}
	if b != nil && !seam.Of(b).Unmoved() {
		breakers.Succeed(req.Context(), breakers.Permit(b, word))
	}
	res.Request = req
	if s == nil {
		return deliver(res, s, false), nil
	}
	s.transport, s.policy, s.req = t, l.policy, sent
	if res.Uncompressed || res.ContentLength <= 0 || !s.representation.read(res) || !s.representation.hasNoChecks() {
		return deliver(res, s, sent != req), nil
	}
	s.adopt(res)
	return res, nil
}

// needsNoPrep reports whether req needs no preparation.
func (t *Transport) needsNoPrep(req *http.Request) bool {
	return t.noPrep && req.Method == http.MethodGet && req.Body == nil
}

// isPlain200 reports whether res is what most responses to req are.
func isPlain200(res *http.Response, req *http.Request) bool {
	return res != nil && res.StatusCode == http.StatusOK && res.Body != nil && res.Request == req && bound.HeaderSize(res.Header) <= bound.Header
}

// refuse returns err without any attempt.
func refuse(req *http.Request, err error) (*http.Response, error) {
	if req.Body != nil {
		req.Body.Close() // as a RoundTripper must
	}
	return nil, err
}

// operate is RoundTrip for any request, by its route.
func (t *Transport) operate(l *route, req *http.Request) (*http.Response, error) {
	e := operation{transport: t, route: l, req: req, idempotent: isIdempotent(req)}
	e.prepare()
	ctx, release := withCancel(req)
	defer release()
	res, err := retry.Value(ctx, l.policy, func(ctx context.Context) (*http.Response, error) {
		return e.attempt(ctx)
	})
	e.upload.Finish()
	return e.outcome(res, err)
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
