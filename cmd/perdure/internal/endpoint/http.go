package endpoint

import (
	"context"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/wait"
	"github.com/seed-0f2c7998/perdure/httpretry"
	_ "github.com/seed-0f2c7998/perdure/httpretry/download" // sets getters.NewHTTP
	"github.com/seed-0f2c7998/perdure/internal/getters"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/internal/stall"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// bodyStall is how long a body may deliver nothing.
const bodyStall = 30 * time.Second

// A web is an http or https URL.
type web struct {
	single

	text   string
	url    *url.URL
	getter getters.HTTP // nil before Connect
	post   *posting     // sends a POST in place of getter; nil for a GET
	book   *book        // reads pages in place of getter; nil for one response

	session   *Session
	elapsed   time.Duration     // MaxElapsed of the policy
	transport http.RoundTripper // of the requests, which other URLs may share
	client    *http.Client
	request   *http.Request
}

func parseWeb(field, text string) (Endpoint, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return nil, setting.Bad(field, text, "a URL with a host, such as https://example.org/stations.json")
	}
	return &web{text: text, url: u}, nil
}

func (w *web) String() string { return redact.String(w.text) }
func (w *web) Where() string  { return fmt.Sprintf("%q", w.String()) } // a URL may end in punctuation
func (w *web) Base() string   { return base(path.Base(w.url.Path)) }

// Connect creates the client, with cookies for this copy only.
func (w *web) Connect(ctx context.Context, s *Session, as Role) error {
	p, err := s.policyOf("api_call", "fetch", as)
	if err != nil {
		return err
	}
	w.elapsed = p.MaxElapsed
	breaker, registry := s.guards(as)
	base := http.DefaultTransport.(*http.Transport).Clone() //nolint:errcheck,forcetypeassert // it is one
	httpretry.ReportProxyErrors(base)
	base.ResponseHeaderTimeout = 2 * time.Minute
	base.MaxResponseHeaderBytes = 1 << 20
	base.MaxIdleConnsPerHost = max(s.Parallel, DefaultParallel)
	w.transport = wait.Transport{RoundTripper: httpretry.NewTransport(s.request().Base(counted{base.RoundTrip, s}), httpretry.Options{
		Policy: p, Breakers: breaker, Registry: registry, StallTimeout: bodyStall, MinRate: s.MinRate, OnResume: s.resumed,
	}), Waiter: s.Waiter, Breakers: registry.All}
	return w.prepare(ctx, s)
}

// prepare creates the getter, with cookies of its own.
func (w *web) prepare(ctx context.Context, s *Session) error {
	more := s.request()
	w.session = s
	client := &http.Client{Jar: &cookies{jars: make(map[string]*cookiejar.Jar)}, CheckRedirect: more.CheckRedirect, Transport: more.Transport(w.transport)}
	req, err := more.New(ctx, w.text)
	if err != nil {
		return exit.UsageError(err)
	}
	s.web = true
	if req.Method == http.MethodPost {
		w.post = &posting{request: req, client: client, mayRepeat: more.MayRepeat(), limits: stall.Limits{Timeout: bodyStall, MinRate: s.MinRate}.Within(w.elapsed)}
		return nil
	}
	if s.Pages != nil {
		w.book = &book{session: s, more: more, client: client, first: req}
		return nil
	}
	w.client, w.request = client, req
	w.getter = explained{getters.NewHTTP(req, client), more.Identity()}
	return nil
}

func (w *web) Stat(context.Context) (Info, error) { return Info{}, errNone }

func (w *web) Open(ctx context.Context) (*Input, error) {
	in, err := w.open(ctx)
	return w.session.paceInput(ctx, in, err)
}

func (w *web) open(ctx context.Context) (*Input, error) {
	if w.post != nil {
		return w.post.open(ctx)
	}
	if w.book != nil {
		return w.book.open(ctx), nil
	}
	return open(ctx, w.getter, func() Attributes { return attributes(w.getter.Header()) })
}

// attributes returns the attributes in the header of a response.
func attributes(h http.Header) Attributes {
	a := Attributes{
		ContentType: h.Get("Content-Type"), ContentEncoding: strings.Join(h.Values("Content-Encoding"), ", "),
		ContentLanguage: strings.Join(h.Values("Content-Language"), ", "), ContentDisposition: h.Get("Content-Disposition"),
		CacheControl: strings.Join(h.Values("Cache-Control"), ", "),
	}
	if strings.EqualFold(a.ContentEncoding, "identity") {
		a.ContentEncoding = ""
	}
	return a
}

func (w *web) Getter() (transfer.Getter, string) {
	if w.getter == nil {
		return nil, ""
	}
	return w.getter, w.getter.Source()
}

func (w *web) Create(context.Context, *Copy) (Target, error) { return nil, errNone }
