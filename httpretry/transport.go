// Package httpretry retries the requests of a net/http client.
//
// A [Transport] is a drop-in [http.RoundTripper]:
//
//	api := retry.APICall()
//	client := httpretry.Client(&api) // or: client.Transport = httpretry.NewTransport(client.Transport, httpretry.Options{Policy: &api})
//	res, err := client.Get("https://api.example.org/stations")
//
// Each request is one operation of package retry, which decides on each attempt and wait; package httpretry contains no
// retry loop. Package httpretry knows HTTP: which requests may be repeated, what a status or a transport's error means,
// how long the server asked to wait, how to send a body again, how to resume the body of a response.
//
// # Results
//
// If the last attempt had a response, the caller gets that response, unread, with a nil error, as from any client; [GaveUp]
// returns why no other attempt followed. If the last attempt had no response, the error is that of [retry.Value], which
// the http.Client wraps in a [url.Error] as usual: a [*retry.Error] after several attempts, the error itself after one.
//
// The context of the request limits the operation: all attempts and all waits. If the operation ends during a wait, or
// because its context has ended, the last response has been discarded, and the error is a [*retry.Error].
//
// # Reading the code
//
// The files in the order of a request:
//
//   - transport.go: route. Find the policy and the breaker of the request. RoundTrip is the fast path, operate the full one.
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
	"github.com/seed-0f2c7998/perdure/internal/calls"
	"github.com/seed-0f2c7998/perdure/internal/meter"
	"github.com/seed-0f2c7998/perdure/internal/seam"
	"github.com/seed-0f2c7998/perdure/internal/spool"
	"github.com/seed-0f2c7998/perdure/internal/stall"
	"github.com/seed-0f2c7998/perdure/internal/viaproxy"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Transport is an http.RoundTripper that retries. Make one with [NewTransport].
// It is safe for concurrent use, as its base is.
type Transport struct {
	// The fields of the fast path come first, in one cache line.

	base         http.RoundTripper
	gzip         atomic.Bool // the base decodes gzip: then this package does, above the body that it resumes
	defaultRoute route       // the route without a breaker or hedger per key; its policy has our Classify and Observe
	noPrep       bool        // a GET without a body needs no preparation, see RoundTrip
	oneRoute     bool        // all requests take the default route

	options  Options
	invalid  error // why the options are not valid; nil if they are
	registry *circuit.Registry
	timers   stall.Pool
	spooled  *spool.Quota // of all request bodies; nil means no limit
	plain    bool         // see isPlainHTTP1

	mu     sync.RWMutex
	routes map[routeKey]*route // guarded by mu
}

// A routeKey is the key of a route: scheme and host, or the string of Options.Key. So a request does not build Key's string.
type routeKey struct{ scheme, host, key string }

// NewTransport returns a Transport that sends its requests through base. If base is nil, it uses [http.DefaultTransport].
//
// If base is an [http.Transport], a copy of base sends https requests that go through a proxy, and reports a proxy that
// refuses to connect as a [*ProxyError]. The copy is made at the first such request and has connections of its own; each
// such request calls the Proxy function once more. A base that wraps an http.Transport reports a ProxyError if
// [ReportProxyErrors] was called for that http.Transport.
//
// If the options are not valid, each request returns the error of [Options.Validate].
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
	t.noPrep = o.Hedge == nil && o.AttemptHeader == "" && o.Classify == nil && policy.AttemptTimeout == 0 && policy.MaxElapsed == 0 && !policy.ObserveAll && o.HeadTimeout == 0
	if o.SpoolTotal > 0 {
		t.spooled = spool.NewQuota(o.SpoolTotal)
	}
	return t
}

// WithPolicy returns a Transport with another Policy and other Breakers, for servers that need others. It shares the
// base and its connections, the Registry and the SpoolTotal of t, and has the other options of t.
func (t *Transport) WithPolicy(p *retry.Policy, breakers *circuit.Config) *Transport {
	o := t.options
	o.Policy, o.Breakers, o.Registry = p, breakers, t.registry
	other := NewTransport(t.base, o)
	other.gzip.Store(t.gzip.Load())
	other.plain, other.spooled = t.plain, t.spooled
	return other
}

// Client returns a client that retries by p, over [http.DefaultTransport]. If p is nil, it uses the zero Policy. The client
// has [CheckRedirect], which other clients of a Transport should set as well.
func Client(p *retry.Policy) *http.Client {
	return &http.Client{Transport: NewTransport(nil, Options{Policy: p}), CheckRedirect: CheckRedirect}
}

// CloseIdleConnections closes the idle connections of the base transport, if the base has this method.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// RoundTrip sends req until an attempt succeeds or the policy ends the attempts. It does not change req.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) { //nolint:cyclop // one function, see below
	// This is the fast path: a GET whose first attempt gets a plain 200. All other requests leave it, for operate before
	// the first attempt or for retryFrom after it. It is one function because the processor's caches are cold after the
	// blocking base.RoundTrip: there an extra call costs more than its work.

	// Route.
	r, err := &t.defaultRoute, error(nil)
	if !t.oneRoute {
		if r, err = t.routeOf(req); err != nil {
			return refuse(req, err)
		}
	}
	breaker, state, healthy := r.policy.Breaker, uint64(0), true
	if breaker != nil {
		state, healthy = seam.Of(breaker).Healthy()
	}
	if ctx := req.Context(); !healthy || !t.needsNoPrep(req) || ctx.Err() != nil || ctx.Value(endKey{}) != nil {
		return t.operate(r, req)
	}

	// Send.
	sent, s := req, (*stream)(nil)
	if h := req.Header; h != nil && len(h) == 0 && t.gzip.Load() {
		own := newGzipRequest(req, http.Header{"Accept-Encoding": gzipOnly})
		sent, s = &own.request, &own.stream
	} else if !t.options.NoResume {
		sent, s = t.withGzip(req)
	}
	start := time.Now()
	res, err := t.base.RoundTrip(sent)

	// Classify.
	if err != nil || !isPlain200(res, sent) {
		op := operation{transport: t, route: r, original: req, req: sent, stream: s, idempotent: true, attempts: 1}
		return op.retryFrom(breakers.Permit(breaker, state), start, res, err)
	}
	if breaker != nil && !seam.Of(breaker).IgnoresSuccess() {
		breakers.Succeed(req.Context(), breakers.Permit(breaker, state))
	}
	if r.policy.Metrics != nil {
		r.series().FirstTry(breaker)
	}

	// Deliver.
	res.Request = req
	if s == nil {
		return deliver(res, s, false), nil
	}
	s.transport, s.policy, s.req = t, r.policy, sent
	if res.Uncompressed || res.ContentLength <= 0 || !s.representation.read(res) || !s.representation.hasNoChecks() {
		return deliver(res, s, sent != req), nil
	}
	s.adopt(res)
	return res, nil
}

// operate is RoundTrip for any request, without the shortcuts: read it first.
func (t *Transport) operate(r *route, req *http.Request) (*http.Response, error) {
	op := operation{transport: t, route: r, req: req, idempotent: isIdempotent(req)}
	ctx, release := withCancel(req)
	defer release()
	if limit := t.options.HeadTimeout; limit > 0 {
		op.head = newHeadContext(ctx, limit)
		defer op.head.stop()
		ctx = op.head
	}
	op.prepare()
	res, err := retry.Value(ctx, r.policy, func(ctx context.Context) (*http.Response, error) {
		return op.attempt(ctx)
	})
	op.upload.Finish()
	return op.outcome(res, err)
}

// retryFrom makes the attempts after the first. The first began at start with permit, and returned res or err.
func (op *operation) retryFrom(permit circuit.Permit, start time.Time, res *http.Response, err error) (*http.Response, error) {
	res, err = op.classify(received(op.transport.base, op.req, op.original, res, err))
	ctx, release := withCancel(op.req)
	defer release()
	err = calls.Continue(ctx, op.route.policy, permit, start, err, func(ctx context.Context) (err error) {
		res, err = op.attempt(ctx) //nolint:bodyclose // the caller does
		return err
	})
	return op.outcome(res, err)
}

// needsNoPrep reports whether req can be sent as it is.
func (t *Transport) needsNoPrep(req *http.Request) bool {
	return t.noPrep && req.Method == http.MethodGet && req.Body == nil
}

// isPlain200 reports whether res is a 200 with a body and a header of accepted size, for req itself.
func isPlain200(res *http.Response, req *http.Request) bool {
	return res != nil && res.StatusCode == http.StatusOK && res.Body != nil && res.Request == req && bound.HeaderSize(res.Header) <= bound.Header
}

// refuse returns err without an attempt.
func refuse(req *http.Request, err error) (*http.Response, error) {
	if req.Body != nil {
		req.Body.Close() // a RoundTripper must close the body
	}
	return nil, err
}

// maxRoutes is the maximum number of routes; above it all are dropped. The registry still has their breakers.
const maxRoutes = 1000

// A route is what the requests of one key share.
type route struct {
	policy *retry.Policy // with the breaker of the key
	hedger *hedge.Hedger // nil means no hedging
}

// series returns what counts the requests of r; nil without Policy.Metrics.
func (r *route) series() *meter.Series { return series(r.policy) }

func series(p *retry.Policy) *meter.Series { return meter.For(p.Metrics, p, p.Name, p.Breaker) }

// routeOf returns the route of req if requests have different routes.
func (t *Transport) routeOf(req *http.Request) (*route, error) {
	if t.invalid != nil {
		return nil, t.invalid
	}
	if req.URL == nil {
		return &t.defaultRoute, nil
	}
	k := routeKey{scheme: req.URL.Scheme, host: req.URL.Host}
	if t.options.Key != nil {
		k = routeKey{key: t.options.Key(req)}
	}
	t.mu.RLock()
	r := t.routes[k]
	t.mu.RUnlock()
	if r != nil {
		return r, nil
	}
	if t.options.Key == nil {
		return t.addRoute(k, Key(req))
	}
	return t.addRoute(k, k.key)
}

// addRoute makes the route of a key at the first request.
func (t *Transport) addRoute(k routeKey, key string) (*route, error) {
	r := route{policy: t.defaultRoute.policy, hedger: t.options.Hedge.hedger()}
	if t.options.Breakers != nil {
		breaker, err := t.registry.Get("http:"+key, *t.options.Breakers)
		if err != nil {
			return nil, fmt.Errorf("httpretry: breaker of %s: %w", key, err)
		}
		p := *r.policy
		p.Breaker = breaker
		r.policy = &p
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.routes[k]; known != nil {
		return known, nil // another goroutine was faster
	}
	if len(t.routes) >= maxRoutes {
		clear(t.routes)
	}
	t.routes[k] = &r
	return &r, nil
}
