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

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/wait"
	"github.com/seed-0f2c7998/perdure/httpretry"
	_ "github.com/seed-0f2c7998/perdure/httpretry/download" // registers newHTTP
	"github.com/seed-0f2c7998/perdure/internal/getters"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

var newHTTP = getters.TakeHTTP() //nolint:gochecknoglobals // a function

// A web is an http or https URL.
type web struct {
	single

	text   string
	url    *url.URL
	getter getters.HTTP // nil before Connect
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
	breaker, registry := s.guards(as)
	base := http.DefaultTransport.(*http.Transport).Clone() //nolint:errcheck,forcetypeassert // it is one
	httpretry.ReportProxyErrors(base)
	base.ResponseHeaderTimeout = 2 * time.Minute
	base.MaxResponseHeaderBytes = 1 << 20
	base.MaxIdleConnsPerHost = max(s.Parallel, DefaultParallel)
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	client := &http.Client{Jar: jar, CheckRedirect: httpretry.CheckRedirect, Transport: wait.Transport{RoundTripper: httpretry.NewTransport(counted{base.RoundTrip, &s.attempts}, httpretry.Options{
		Policy: p, Breakers: breaker, Registry: registry, StallTimeout: 30 * time.Second, MinRate: s.MinRate, OnResume: s.resumed,
	}), Waiter: s.Waiter, Breakers: registry.All}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.text, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "perdure")
	w.getter = newHTTP(req, client)
	return nil
}

func (w *web) Stat(context.Context) (Info, error) { return Info{}, errNone }

func (w *web) Open(ctx context.Context) (*Input, error) { return open(ctx, w.getter, w.attributes) }

// attributes returns the attributes in the last response.
func (w *web) attributes() Attributes {
	h := w.getter.Header()
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
