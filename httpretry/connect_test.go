package httpretry_test

import (
	"errors"
	"net/http"
	"net/url"
	"syscall"
	"testing"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/neterr/neterrtest"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/retry"
)

func TestClosedPortIsRefused(t *testing.T) {
	address := servertest.ClosedPort(t)
	for _, method := range []string{"GET", "POST"} {
		base := &http.Transport{}
		_, _, err := row{method: method}.do(t, "http://"+address, httpretry.NewTransport(base, httpretry.Options{Policy: quick()}))
		e, ok := errors.AsType[*retry.Error](err)
		if !ok || e.Attempts != 3 || !errors.Is(err, retry.ErrExhausted) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v; want three refused attempts", method, err)
		}
		if _, ok := errors.AsType[*url.Error](err); !ok {
			t.Errorf("%s: %v is no *url.Error", method, err)
		}
	}
}

func TestErrorsOfConnections(t *testing.T) {
	for _, c := range neterrtest.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			base, dials := c.Base(t)
			_, _, err := get(t, httpretry.NewTransport(base, httpretry.Options{Policy: quick()}), c.URL)
			_, retried := errors.AsType[*retry.Error](err)
			if want := map[bool]int64{true: 1, false: 3}[c.Permanent]; err == nil || retried == c.Permanent || dials.Load() != want {
				t.Errorf("%d connections and %v, want %d", dials.Load(), err, want)
			}
		})
	}
}

func TestRequestsThatCannotBeSent(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*http.Request)
	}{
		{"scheme", func(r *http.Request) { r.URL.Scheme = "gopher" }},
		{"no host", func(r *http.Request) { r.URL.Host = "" }},
		{"no URL", func(r *http.Request) { r.URL = nil }},
		{"no header", func(r *http.Request) { r.Header = nil }},
		{"method", func(r *http.Request) { r.Method = "GE T" }},
		{"field name", func(r *http.Request) { r.Header["X Y"] = []string{"z"} }},
		{"field value", func(r *http.Request) { r.Header["X"] = []string{"a\nb"} }},
		{"port", func(r *http.Request) { r.URL.Host = "127.0.0.1:70000" }},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://127.0.0.1:1/", nil)
		if err != nil {
			t.Fatal(err)
		}
		tt.change(r)
		res, err := httpretry.NewTransport(&http.Transport{}, httpretry.Options{Policy: quick(), AttemptHeader: "X-Attempt"}).RoundTrip(r)
		if err == nil {
			res.Body.Close()
		}
		if _, ok := errors.AsType[*retry.Error](err); err == nil || ok {
			t.Errorf("%s: %v; want the transport's own error after one attempt", tt.name, err)
		}
	}
}
