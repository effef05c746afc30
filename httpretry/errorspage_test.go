package httpretry_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/errorspage"
	"github.com/seed-0f2c7998/perdure/internal/neterr/neterrtest"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A counting transport counts its requests.
type counting struct {
	http.RoundTripper

	requests int
}

func (c *counting) RoundTrip(req *http.Request) (*http.Response, error) {
	c.requests++
	return c.RoundTripper.RoundTrip(req)
}

// see makes a request through base, and returns the number of attempts and the breaker's counts.
func (r row) see(t *testing.T, url string, base http.RoundTripper, change func(*http.Request)) errorspage.Trial {
	t.Helper()
	options := r.options
	options.Policy = quick()
	options.Policy.Breaker = errorspage.Breaker()
	counted := &counting{RoundTripper: base}
	transport := httpretry.NewTransport(counted, options)
	req, err := http.NewRequestWithContext(t.Context(), r.method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.upload != nil {
		req.Body = io.NopCloser(r.upload())
		req.ContentLength = -1
	}
	if change != nil {
		change(req)
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err == nil {
		res.Body.Close()
	}
	return errorspage.Seen(counted.requests, options.Policy.Breaker)
}

// against returns the trial of the row against a server that sends this status each time.
func (r row) against(code int) func(*testing.T) errorspage.Trial {
	return func(t *testing.T) errorspage.Trial {
		t.Helper()
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(code)
		}))
		defer server.Close()
		return r.see(t, server.URL, server.Client().Transport, nil)
	}
}

// refuses returns the trial of a request through a proxy that refuses to connect.
func refuses(code int) func(*testing.T) errorspage.Trial {
	return func(t *testing.T) errorspage.Trial {
		t.Helper()
		origin := httptest.NewTLSServer(http.NotFoundHandler())
		defer origin.Close()
		base := newProxy(t, nil, slices.Repeat([]int{code}, 9)...).base(t, origin)
		httpretry.ReportProxyErrors(base)
		return row{}.see(t, origin.URL, base, nil)
	}
}

// connects returns the trial of a case of neterrtest.
func connects(name string) func(*testing.T) errorspage.Trial {
	return func(t *testing.T) errorspage.Trial {
		t.Helper()
		cases := neterrtest.Cases(t)
		c := cases[slices.IndexFunc(cases, func(c neterrtest.Case) bool { return c.Name == name })]
		base, _ := c.Base(t)
		return row{}.see(t, c.URL, base, nil)
	}
}

// Each row of docs/errors.md for httpretry describes what the client does.
func TestPageOfHTTP(t *testing.T) {
	says := func(c retry.Class) httpretry.Options {
		return httpretry.Options{Classify: func(*http.Response) retry.Class { return c }}
	}
	endless := httpretry.Options{BufferLimit: -1, SpoolLimit: -1}
	errorspage.Compare(t, "| in `httpretry` | class |", map[string]func(*testing.T) errorspage.Trial{
		"407": row{}.against(407),
		"a proxy refuses to connect with a status that is not retried": refuses(403),
		"no such host":            connects("no such name"),
		"certificate not trusted": connects("unknown authority"),
		"HTTP where TLS should be (`http.ErrSchemeMismatch`)": connects("no TLS there"),
		"response header above 1 MiB (`LimitError`)": func(t *testing.T) errorspage.Trial {
			t.Helper()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
			}))
			defer server.Close()
			base := server.Client().Transport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
			defer base.CloseIdleConnections()
			base.MaxResponseHeaderBytes = 4 << 20
			return row{}.see(t, server.URL, base, nil)
		},
		"the server closed an idle connection": func(t *testing.T) errorspage.Trial {
			t.Helper()
			idle := neterrtest.NewIdleCloser(t)
			return row{method: http.MethodPut}.see(t, idle.URL, idle, nil)
		},
		"any other error of a transport": func(t *testing.T) errorspage.Trial {
			t.Helper()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
					_, _ = io.WriteString(conn, "no HTTP\r\n\r\n")
					conn.Close()
				}
			}))
			defer server.Close()
			return row{method: http.MethodPut}.see(t, server.URL, server.Client().Transport, nil)
		},
		"200 that `Options.Classify` calls transient": row{options: says(retry.ClassTransient)}.against(200),
		"503 that `Options.Classify` calls permanent": row{options: says(retry.ClassPermanent)}.against(503),
		"malformed request": func(t *testing.T) errorspage.Trial {
			t.Helper()
			return row{}.see(t, "http://127.0.0.1:1", &http.Transport{}, func(req *http.Request) { req.Header["X Y"] = []string{"z"} })
		},
		"an upload's reader fails": row{method: http.MethodPut, upload: func() io.Reader { return iotest.ErrReader(errors.New("disk")) }}.against(200),
		"an upload can't be sent again": row{method: http.MethodPut, options: endless, upload: func() io.Reader {
			return iotest.OneByteReader(strings.NewReader("text"))
		}}.against(503),
		"a request that is not idempotent may have been processed": row{method: http.MethodPost}.against(503),
	})
}

// A response is an error of its status, and so is the refusal of a proxy whose status is retried.
func TestPageOfStatusesOfHTTP(t *testing.T) {
	for _, status := range errorspage.Statuses(t, 300) {
		if status.Code != http.StatusProxyAuthRequired {
			errorspage.Check(t, http.StatusText(status.Code), status.Class, row{}.against(status.Code)(t))
		}
		if status.Class == "permanent" {
			status.Class = "ignored"
		}
		errorspage.Check(t, "a proxy's "+http.StatusText(status.Code), status.Class, refuses(status.Code)(t))
	}
}

// An errorTransport has one error for each request.
type errorTransport struct{ err error }

func (e errorTransport) RoundTrip(*http.Request) (*http.Response, error) { return nil, e.err }

// The list of network errors holds for httpretry too, but that an unknown error is transient.
func TestPageOfTheNetworkOfHTTP(t *testing.T) {
	samples := neterrtest.Samples(t)
	for _, line := range errorspage.Rows(t, "| error | class |") {
		if line[1] == "unknown" || line[1] == "ignored" { // another request's end
			line[1] = "transient"
		}
		err := samples[line[0]]
		if wrapped, ok := err.(*url.Error); ok { //nolint:errorlint // which is the client's, around a transport's
			err = wrapped.Err
		}
		if line[0] == "scheme that is none of HTTP" {
			continue // which is a malformed request here
		}
		errorspage.Check(t, line[0], line[1], row{}.see(t, "http://127.0.0.1:1", errorTransport{err}, nil))
	}
}
