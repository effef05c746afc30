// Package proxy serves HTTP on this host for programs in any language, and sends each
// request to an upstream through [httpretry.Transport].
//
// The files in the order of a request: listen.go opens the socket; guard.go refuses what a
// web page or another host could send; route.go finds the upstream and maps URLs both ways;
// exchange.go counts the attempts of a request and settles a lost response; response.go
// makes sure that an incomplete response never looks complete; failure.go writes the
// proxy's own responses; admin.go has /.perdure/.
package proxy

import (
	"cmp"
	"context"
	"hash/maphash"
	"io"
	"log"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/retry"
)

// DefaultHeadTimeout is below the usual timeouts of clients, which start at 30 s.
const DefaultHeadTimeout = 25 * time.Second

// DefaultSpoolTotal is how many bytes of request bodies are kept together; spoolLimit is how many of one request. Of each
// body, 1 MiB is in memory, and the rest in a file.
const (
	DefaultSpoolTotal = 1 << 30
	spoolLimit        = 256 << 20
)

// A Config configures a Proxy.
type Config struct {
	Upstreams []Upstream        // at least one
	Hosts     []string          // values of Host that are allowed besides the address and its loopback names
	Policy    *retry.Policy     // of the requests to an Upstream without one
	Breakers  circuit.Config    // of an Upstream without one: one breaker for each server
	Registry  *circuit.Registry // nil means one of the Proxy's own
	// FullBudgets makes New fill the retry budgets that are new. It must be false if other hosts share them.
	FullBudgets bool

	// HeadTimeout limits the time to the head of a response, with all attempts and waits; 0 means no limit.
	HeadTimeout time.Duration
	// SpoolTotal is how many bytes of request bodies are kept together, so that they can be sent again; 0 means
	// DefaultSpoolTotal.
	SpoolTotal int64
	// Grace limits how long requests and upgraded connections may last after the end of Serve's context; 0 means 30 s.
	Grace time.Duration
	// Log gets warnings.
	Log *slog.Logger

	// Base sends each attempt, below the retries. If nil, it is an http.Transport.
	Base http.RoundTripper
	// Admit, if set, checks a request that the guard has let pass, and may return another one. A [Failure] as the
	// error becomes the response.
	Admit func(*http.Request) (*http.Request, error)
	// Classify, if set, returns the class of a response, see [httpretry.Options].
	Classify func(*http.Response) retry.Class
	// WriteFailure writes a response of the proxy's own. If nil, it is JSON.
	WriteFailure func(http.ResponseWriter, *http.Request, *Failure)
	// Settle, if set, replaces the proxy's rule for a response whose request may have been processed by an earlier
	// attempt. It may change res, or return a Failure.
	Settle func(res *http.Response) error
}

// A Proxy is an http.Handler. Make one with New.
type Proxy struct {
	config  Config
	sites   []*site // that of the first address first
	reverse *httputil.ReverseProxy
	counts  counts
	library metrics.Registry // of the policy, unless that has one of its own
	repeats repeats
	active  tally // requests and upgraded connections
}

// New returns a Proxy for clients that address it as first, or, for the Upstreams that have one, as their own address.
func New(c Config, first net.Addr) *Proxy {
	c.Registry = cmp.Or(c.Registry, new(circuit.Registry))
	p := &Proxy{config: c}
	p.repeats.within, p.repeats.seed = cmp.Or(c.HeadTimeout, DefaultHeadTimeout), maphash.MakeSeed()
	base := c.Base
	if base == nil {
		base = NewBase()
	}
	p.at(first)
	transport := p.transports(counter{base})
	for _, u := range c.Upstreams {
		u.transport, u.site = transport(u), p.sites[0]
		if u.At != nil {
			u.site = p.at(u.At)
		}
		u.site.upstreams = append(u.site.upstreams, &u)
	}
	if c.FullBudgets {
		p.fillBudgets()
	}
	for _, s := range p.sites {
		slices.SortStableFunc(s.upstreams, func(a, b *Upstream) int { return len(b.Prefix) - len(a.Prefix) })
	}
	p.reverse = &httputil.ReverseProxy{
		Rewrite:        p.rewrite,
		Transport:      perUpstream{},
		FlushInterval:  100 * time.Millisecond,
		ErrorLog:       log.New(io.Discard, "", 0), // an error may hold a URL; each reaches its client
		BufferPool:     &buffers{},
		ModifyResponse: p.modify,
		ErrorHandler:   p.failed,
	}
	return p
}

// at returns the site of an address. The first call for an address adds it.
func (p *Proxy) at(address net.Addr) *site {
	for _, s := range p.sites {
		if s.address.Network() == address.Network() && s.address.String() == address.String() {
			return s
		}
	}
	s := &site{address: address, guard: newGuard(address, p.config.Hosts)}
	p.sites = append(p.sites, s)
	return s
}

// transports returns a function that returns the transport of an upstream. All share connections, breakers and spool.
func (p *Proxy) transports(base http.RoundTripper) func(Upstream) http.RoundTripper {
	c := &p.config
	own := func(policy *retry.Policy) *retry.Policy {
		with := *policy
		if with.Metrics == nil {
			with.Metrics = &p.library
		}
		return &with
	}
	breakers := c.Breakers
	general := httpretry.NewTransport(base, httpretry.Options{
		Policy: own(c.Policy), Breakers: &breakers, Registry: c.Registry, OnResume: p.resumed, Classify: c.Classify,
		HeadTimeout: c.HeadTimeout, SpoolLimit: spoolLimit, SpoolTotal: cmp.Or(c.SpoolTotal, DefaultSpoolTotal),
	})
	return func(u Upstream) http.RoundTripper {
		if u.Policy == nil && u.Breakers == nil {
			return general
		}
		return general.WithPolicy(own(cmp.Or(u.Policy, c.Policy)), cmp.Or(u.Breakers, &breakers))
	}
}

// fillBudgets fills the retry budget of each upstream that no process has used: else the first requests of clients that make
// several at once would have one retry together.
func (p *Proxy) fillBudgets() {
	for _, u := range p.config.Upstreams {
		b, err := p.config.Registry.Get("http:"+server(u.URL), *cmp.Or(u.Breakers, &p.config.Breakers))
		if err != nil {
			continue // each request has this error
		}
		m := b.Metrics()
		if m.Balance == 1 && m.Since.IsZero() && m.Attempts == (circuit.Attempts{}) && m.Refused == (circuit.Refused{}) {
			breakers.Refund(b, math.MaxInt32) // up to the ceiling
		}
	}
}

// NewBase returns the http.Transport that sends attempts. It decodes nothing.
func NewBase() *http.Transport {
	base := http.DefaultTransport.(*http.Transport).Clone() //nolint:errcheck,forcetypeassert // it is one
	httpretry.ReportProxyErrors(base)
	base.DisableCompression = true
	base.MaxIdleConns, base.MaxIdleConnsPerHost = 1024, 256
	base.MaxResponseHeaderBytes = 1 << 20
	return base
}

// ServeHTTP sends a request to its upstream, or refuses it.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.active.add(1)
	defer p.active.add(-1)
	p.counts.requests.Add(1)
	s, ok := r.Context().Value(siteKey{}).(*site)
	if !ok {
		s = p.sites[0]
	}
	if f := s.guard.check(r); f != nil {
		p.counts.refused.Add(1)
		p.write(w, r, f)
		return
	}
	if p.admin(w, r) {
		return
	}
	to := s.find(r.URL.EscapedPath())
	if to == nil {
		p.write(w, r, &Failure{Status: http.StatusNotFound, Code: "no_upstream", Message: "no upstream has this path"})
		return
	}
	p.noteRepeat(r)
	x := &exchange{upstream: to, writer: http.NewResponseController(w), client: r}
	_ = x.writer.SetWriteDeadline(time.Time{}) // that of the last response on this connection
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &requestBody{ReadCloser: r.Body, exchange: x}
	}
	if p.config.Admit != nil {
		admitted, err := p.config.Admit(r)
		if err != nil {
			p.failed(w, r, err)
			return
		}
		r = admitted
	}
	defer p.aborted(x)
	p.reverse.ServeHTTP(&head{ResponseWriter: w, proxy: p, exchange: x}, r)
}

// rewrite makes the request to the upstream. Nothing of the client's request is lost but what is meant for one connection.
func (p *Proxy) rewrite(r *httputil.ProxyRequest) {
	x := exchangeOf(r.In.Context())
	x.upstream.address(r.Out, r.In.URL)
	x.target = r.Out.URL
	r.Out.Host = ""
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	r.Out.Trailer = r.In.Trailer // the server fills this map when the body has ended
	dropOwn(r.Out.Header)
	if strings.EqualFold(r.Out.Header.Get("Upgrade"), "h2c") { // it would be a tunnel for requests that the proxy does not see
		r.Out.Header.Del("Upgrade")
		r.Out.Header.Del("Connection")
	}
	dropOwn(r.Out.Trailer)
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values, ok := r.In.Header[name]; ok {
			r.Out.Header[name] = values
		}
	}
}

// resumed counts a body that is resumed after a break.
func (p *Proxy) resumed(r httpretry.Resumption) {
	p.counts.resumes.Add(1)
	p.config.Log.Info("Resuming a response body", "event", "resumed", "offset", r.Offset)
}

// buffers are reused by responses.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

// Get returns a buffer.
func (b *buffers) Get() []byte {
	if buffer, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return buffer[:]
	}
	return new([bufferSize]byte)[:]
}

// Put takes a buffer back.
func (b *buffers) Put(buffer []byte) {
	if len(buffer) == bufferSize {
		b.pool.Put((*[bufferSize]byte)(buffer))
	}
}
