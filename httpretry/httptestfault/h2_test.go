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
		name      string
		responses []httptestfault.Response
		body      string
		fails     bool
		requests  int
	}{
		{name: "zero", responses: []httptestfault.Response{{}}, requests: 1},
		{name: "body", responses: []httptestfault.Response{{Body: hello, Header: http.Header{"X-Test": {"yes"}}}}, body: "hello, world", requests: 1},
		{name: "cut", responses: []httptestfault.Response{{Body: hello, Fault: httptestfault.ResetBody(5)}}, body: "hello", fails: true, requests: 1},
		{name: "closed", responses: []httptestfault.Response{{Body: hello, Fault: httptestfault.CutBody(5)}}, body: "hello", fails: true, requests: 1},
		{name: "failed", responses: []httptestfault.Response{{Fault: httptestfault.Reset()}}, fails: true, requests: 1},
		{name: "refused, which net/http repeats", responses: []httptestfault.Response{{Fault: httptestfault.Fault{Kind: httptestfault.RefuseStream}}, {Body: hello}}, body: "hello, world", requests: 2},
		{name: "gone away, which net/http repeats", responses: []httptestfault.Response{{Fault: httptestfault.Fault{Kind: httptestfault.GoAway}}, {Body: hello}}, body: "hello, world", requests: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptestfault.NewH2(httptestfault.Responses(tt.responses...))
			defer server.Close()
			transport := server.Transport()
			defer transport.CloseIdleConnections()
			_, body, err := get(t.Context(), transport, "GET", server.URL, nil, nil)
			if body != tt.body || (err != nil) != tt.fails {
				t.Errorf("%q, %v; want %q, failure %t", body, err, tt.body, tt.fails)
			}
			if requests := len(server.Requests()); requests != tt.requests {
				t.Errorf("%d requests; want %d", requests, tt.requests)
			}
			if err == io.EOF { //nolint:errorlint // that would be the end of a body
				t.Error("the failure is an io.EOF")
			}
		})
	}
}
