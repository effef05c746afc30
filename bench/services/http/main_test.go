package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

// Three of ten requests fail, and one response asks for a wait of a second.
func TestHTTP(t *testing.T) {
	requests := 0
	server := httptestfault.New(func(n int, r *http.Request) httptestfault.Response {
		requests = n
		body := fmt.Appendf(nil, `{"name": "Station %s"}`, r.URL.Path[len("/stations/"):])
		switch {
		case n == 5:
			return httptestfault.Response{Status: 429, Header: http.Header{"Retry-After": {"1"}}}
		case n%10 == 1 || n%10 == 3 || n%10 == 8:
			return httptestfault.Response{Status: 503}
		}
		return httptestfault.Response{Body: body}
	})
	defer server.Close()
	var out bytes.Buffer
	if err := run(t.Context(), server.URL, 50, &out); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 50 || lines[49] != "Station 49" {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
	if requests != 74 {
		t.Errorf("%d requests, want 74", requests)
	}
}
