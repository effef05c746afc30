package proxy_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
)

// Only the proxy says what it has done: fields of these names from the upstream do not reach the client, nor the client's the
// upstream, in a header, a trailer or an informational response.
func TestOnlyTheProxySaysWhatItHasDone(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for _, got := range []http.Header{r.Header, r.Trailer} {
			for name := range got {
				if strings.HasPrefix(name, "Perdure") {
					t.Errorf("the upstream got %s", name)
				}
			}
		}
		if r.Trailer.Get("Check") != "7" && r.Method == http.MethodPut {
			t.Errorf("the upstream got the trailer %v", r.Trailer)
		}
		h := w.Header()
		lie := func() { h["Perdure-Ambiguous"], h["Perdure-Lie"] = []string{"true", "lie"}, []string{"lie"} }
		lie()
		h.Set("Link", "<http://"+r.Host+"/v1/style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		h.Set("Trailer", "Perdure-Settled, Sum")
		_, _ = io.WriteString(w, "body")
		_ = http.NewResponseController(w).Flush()
		h.Set("Perdure-Settled", "lie")
		h.Set("Sum", "42")
		h.Set(http.TrailerPrefix+"Perdure-Late", "lie")
		h.Set(http.TrailerPrefix+"Late", "8")
	}))
	defer s.Close()
	address := serve(t, proxy.Config{}, "/p="+s.URL+"/v1")
	for _, request := range []string{
		"GET /p/ HTTP/1.1\r\n\r\n",
		"HEAD /p/ HTTP/1.1\r\n\r\n",
		"PUT /p/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: Perdure-Settled, Check\r\n\r\n4\r\nbody\r\n0\r\nPerdure-Settled: x\r\nPerdure-Late: x\r\nCheck: 7\r\n\r\n",
	} {
		first, rest, _ := strings.Cut(request, "\r\n")
		text, _ := raw(t, "tcp", address, first+"\r\nHost: "+address+"\r\nConnection: close\r\nTE: trailers\r\nPerdure-Attempts: 7\r\nPerdure-Ambiguous: false\r\n"+rest)
		if strings.Contains(text, "lie") || strings.Count(text, "Perdure-") != strings.Count(text, "Perdure-Attempts: 1\r\n") || !strings.Contains(text, "Perdure-Attempts: 1\r\n") {
			t.Errorf("%s: %q", first, text)
		}
		for _, want := range []string{"HTTP/1.1 103 Early Hints\r\nLink: </p/style.css>; rel=preload\r\n", "Sum: 42\r\n", "Late: 8\r\n"} {
			if !strings.Contains(text, want) && (first[:4] != "HEAD" || want[0] == 'H') {
				t.Errorf("%s: %q is missing in %q", first, want, text)
			}
		}
	}
}
