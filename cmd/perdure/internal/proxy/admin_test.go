package proxy_test

import (
	"net/http"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

// The proxy's own pages are apart from the upstream's paths, which is asked for none of them.
func TestOwnPages(t *testing.T) {
	s := upstream(t, httptestfault.Responses(httptestfault.Response{}))
	address := serve(t, proxy.Config{}, s.URL)
	for _, tt := range []struct {
		method, path string
		status       int
		kind, body   string // body "" means any
	}{
		{http.MethodGet, "/healthz", 200, "text/plain; charset=utf-8", "ok\n"},
		{http.MethodHead, "/healthz", 200, "text/plain; charset=utf-8", ""},
		{http.MethodGet, "/metrics", 200, "text/plain; version=0.0.4; charset=utf-8", ""},
		{http.MethodPost, "/healthz", 405, "application/json", ""},
		{http.MethodGet, "", 404, "application/json", ""},
		{http.MethodGet, "/x", 404, "application/json", ""},
	} {
		res := send(t, request(t, tt.method, "http://"+address+proxy.Reserved+tt.path, nil))
		body := make([]byte, 16)
		n, _ := res.Body.Read(body)
		res.Body.Close()
		if res.StatusCode != tt.status || res.Header.Get("Content-Type") != tt.kind || res.Header.Get("Cache-Control") != "no-store" || tt.body != "" && string(body[:n]) != tt.body {
			t.Errorf("%s %s: %s, %v, %q", tt.method, tt.path, res.Status, res.Header, body[:n])
		}
	}
	if n := len(s.Requests()); n > 0 {
		t.Errorf("the upstream got %d requests", n)
	}
}
