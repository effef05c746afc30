package httpretry_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
)

// BenchmarkGet is a GET of 1 KiB over loopback, by a plain client and by a Transport.
func BenchmarkGet(b *testing.B) {
	content := make([]byte, 1024)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(content)
	}))
	defer server.Close()
	for _, bb := range []struct {
		name    string
		options *httpretry.Options
	}{
		{"plain", nil},
		{"retry", &httpretry.Options{}},
		{"breaker", &httpretry.Options{Breakers: &circuit.Config{Budget: 10}}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			base := &http.Transport{}
			defer base.CloseIdleConnections()
			client := &http.Client{Transport: base}
			if bb.options != nil {
				client.Transport = httpretry.NewTransport(base, *bb.options)
			}
			b.ReportAllocs()
			for b.Loop() {
				fetch(b, client, server.URL)
			}
		})
	}
}

// fetch makes one GET and reads its body.
func fetch(tb testing.TB, client *http.Client, url string) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), "GET", url, nil)
	if err != nil {
		tb.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		tb.Fatal(err)
	}
}
