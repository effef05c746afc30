package httptestfault_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

func TestH2AsAPlainClientSeesIt(t *testing.T) {
	hello := []byte("hello, world")
	for _, tt := range []struct {
		name     string
		steps    []httptestfault.H2Step
		body     string
		fails    bool
		requests int
	}{
		{name: "zero", steps: []httptestfault.H2Step{{}}, requests: 1},
		{name: "body", steps: []httptestfault.H2Step{{Body: hello, Header: http.Header{"X-Test": {"yes"}}}}, body: "hello, world", requests: 1},
		{name: "cut", steps: []httptestfault.H2Step{{Body: hello, Cut: httptestfault.H2Failed, At: 5}}, body: "hello", fails: true, requests: 1},
		{name: "closed", steps: []httptestfault.H2Step{{Body: hello, Cut: httptestfault.H2Close, At: 5}}, body: "hello", fails: true, requests: 1},
		{name: "failed", steps: []httptestfault.H2Step{{Cut: httptestfault.H2Failed, At: httptestfault.BeforeHead}}, fails: true, requests: 1},
		{name: "refused, which net/http repeats", steps: []httptestfault.H2Step{{Cut: httptestfault.H2Refused}, {Body: hello}}, body: "hello, world", requests: 2},
		{name: "gone away, which net/http repeats", steps: []httptestfault.H2Step{{Cut: httptestfault.H2GoAway}, {Body: hello}}, body: "hello, world", requests: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptestfault.NewH2(func(n int) httptestfault.H2Step { return tt.steps[min(n, len(tt.steps))-1] })
			defer server.Close()
			transport := server.Transport()
			defer transport.CloseIdleConnections()
			_, body, err := get(t.Context(), transport, "GET", server.URL, nil, nil)
			if body != tt.body || (err != nil) != tt.fails {
				t.Errorf("%q, %v; want %q, failure %t", body, err, tt.body, tt.fails)
			}
			if requests, _ := server.Requests(); requests != tt.requests {
				t.Errorf("%d requests; want %d", requests, tt.requests)
			}
			if err == io.EOF { //nolint:errorlint // that would be the end of a body
				t.Error("the failure is an io.EOF")
			}
		})
	}
}
