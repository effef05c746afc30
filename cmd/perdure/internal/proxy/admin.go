package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/seed-0f2c7998/perdure/metrics"
)

// counts are what /.perdure/metrics shows besides the library's own metrics.
type counts struct {
	requests, refused, aborted, canceled, resumes, repeats atomic.Int64

	attempts  atomic.Int64    // up to the head of responses
	responses [6]atomic.Int64 // by the first digit of their status
}

// count counts the response of an exchange.
func (p *Proxy) count(x *exchange, status int) {
	p.counts.attempts.Add(int64(x.attempts.Load()))
	if class := status / 100; class < len(p.counts.responses) {
		p.counts.responses[class].Add(1)
	}
	if status >= http.StatusInternalServerError || status == http.StatusTooManyRequests {
		p.repeats.fail(x.client)
	}
}

// admin serves the proxy's own pages. It reports whether r is for one of them.
func (p *Proxy) admin(w http.ResponseWriter, r *http.Request) bool {
	page, ok := strings.CutPrefix(r.URL.Path, Reserved)
	if !ok || page != "" && page[0] != '/' {
		return false
	}
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		p.write(w, r, &Failure{Status: http.StatusMethodNotAllowed, Code: "method", Message: "only GET and HEAD"})
	case page == "/healthz":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, "ok")
	case page == "/metrics":
		p.metrics(w)
	default:
		p.write(w, r, &Failure{Status: http.StatusNotFound, Code: "no_page", Message: "the pages are /.perdure/healthz and /.perdure/metrics"})
	}
	return true
}

// metrics writes the proxy's counts and the library's in the text format of Prometheus.
func (p *Proxy) metrics(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	c := &p.counts
	for _, m := range []struct {
		name, help string
		n          *atomic.Int64
	}{
		{"requests", "Requests of clients, refused ones included.", &c.requests},
		{"refused", "Requests for another host, or of a web page.", &c.refused},
		{"attempts", "Attempts up to the head of a response.", &c.attempts},
		{"aborted", "Responses cut short because their body broke and could not be resumed.", &c.aborted},
		{"canceled", "Requests whose client left before the response.", &c.canceled},
		{"resumes", "Bodies resumed on another connection.", &c.resumes},
		{"client_retries", "Requests that a client sent again after the proxy's own attempts.", &c.repeats},
	} {
		fmt.Fprintf(w, "# HELP perdure_proxy_%[1]s_total %[2]s\n# TYPE perdure_proxy_%[1]s_total counter\nperdure_proxy_%[1]s_total %[3]d\n", m.name, m.help, m.n.Load())
	}
	fmt.Fprint(w, "# HELP perdure_proxy_responses_total Responses by class of status.\n# TYPE perdure_proxy_responses_total counter\n")
	for class := 1; class < len(c.responses); class++ {
		fmt.Fprintf(w, "perdure_proxy_responses_total{class=\"%dxx\"} %d\n", class, c.responses[class].Load())
	}
	_ = p.library.Snapshot().Write(w, metrics.Text) // an error: the client has gone
}
