package proxy_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

// A response that was lost must not become a refusal: the next attempt meets what the one before has done.
func TestALostResponse(t *testing.T) {
	lost := httptestfault.Response{Fault: httptestfault.Reset()} // the server has read the request
	status := func(code int) httptestfault.Response {
		return httptestfault.Response{Status: code, Body: []byte("upstream")}
	}
	for _, tt := range []struct {
		name, method string
		header       http.Header
		steps        []httptestfault.Response
		status, sent int
		ambiguous    bool
	}{
		{"created by an attempt that is lost", "PUT", http.Header{"If-None-Match": {"*"}}, []httptestfault.Response{lost, status(412)}, 504, 2, true},
		{"created behind a gateway that fails", "PUT", http.Header{"If-None-Match": {"*"}}, []httptestfault.Response{status(502), status(412)}, 504, 2, true},
		{"a conflict with itself", "PUT", nil, []httptestfault.Response{lost, status(409)}, 504, 2, true},
		{"replaced by an attempt that is lost", "PUT", http.Header{"If-Match": {`"a"`}}, []httptestfault.Response{lost, status(412)}, 504, 2, true},
		{"exists", "PUT", http.Header{"If-None-Match": {"*"}}, []httptestfault.Response{status(412)}, 412, 1, false},
		{"exists, after an attempt that was not processed", "PUT", http.Header{"If-None-Match": {"*"}}, []httptestfault.Response{status(429), status(412)}, 412, 2, false},
		{"put at last", "PUT", http.Header{"If-None-Match": {"*"}}, []httptestfault.Response{lost, status(201)}, 201, 2, false},
		{"deleted by an attempt that is lost", "DELETE", nil, []httptestfault.Response{lost, status(404)}, 204, 2, false},
		{"gone by an attempt that is lost", "DELETE", nil, []httptestfault.Response{lost, status(410)}, 204, 2, false},
		{"nothing to delete", "DELETE", nil, []httptestfault.Response{status(404)}, 404, 1, false},
		{"deleted if it matches", "DELETE", http.Header{"If-Match": {`"a"`}}, []httptestfault.Response{lost, status(412)}, 504, 2, true},
		{"nothing to get", "GET", nil, []httptestfault.Response{lost, status(404)}, 404, 2, false},
		{"a POST with a key", "POST", http.Header{"Idempotency-Key": {`"1"`}}, []httptestfault.Response{lost, status(200)}, 200, 2, false},
		{"a POST without a key", "POST", nil, []httptestfault.Response{lost, status(200)}, 502, 1, true},
		{"a POST without a key, refused", "POST", nil, []httptestfault.Response{status(503)}, 503, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := upstream(t, httptestfault.Responses(tt.steps...))
			req := request(t, tt.method, "http://"+serve(t, proxy.Config{}, s.URL)+"/x", strings.NewReader("body"))
			maps.Copy(req.Header, tt.header)
			res := send(t, req)
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if res.StatusCode != tt.status || len(s.Requests()) != tt.sent || err != nil {
				t.Errorf("%s after %d requests, %q, %v; want %d after %d", res.Status, len(s.Requests()), body, err, tt.status, tt.sent)
			}
			if (res.Header.Get(proxy.HeaderAmbiguous) == "true") != tt.ambiguous {
				t.Error(res.Header)
			}
			for _, r := range s.Requests() {
				if string(r.Body) != "body" {
					t.Errorf("an attempt sent %q", r.Body)
				}
			}
		})
	}
}

// While the breaker is open, a client learns when to come back, in a form that programs read.
func TestAnOpenBreaker(t *testing.T) {
	s := upstream(t, httptestfault.Responses(httptestfault.Response{Fault: httptestfault.Reset()}))
	url := "http://" + serve(t, proxy.Config{Breakers: circuit.Config{FailureThreshold: 2, RecoveryTimeout: time.Minute}}, s.URL)
	get(t, url)
	res, body, err := get(t, url)
	var failure struct {
		Status   int       `json:"status"`
		Error    string    `json:"error"`
		RetryAt  time.Time `json:"retry_at"`
		Attempts int       `json:"attempts"`
	}
	if err := json.Unmarshal([]byte(body), &failure); err != nil {
		t.Fatal(err, body)
	}
	after := res.Header.Get("Retry-After")
	if err != nil || res.StatusCode != 503 || after == "" || after == "0" || failure.Status != 503 || failure.Error != "not_now" || failure.RetryAt.IsZero() || failure.Attempts != 0 {
		t.Error(res.Status, res.Header, body, err)
	}
}

// The bound on the time to the head covers Retry-After: the client gets the response instead of a wait.
func TestRetryAfterBeyondTheBound(t *testing.T) {
	s := upstream(t, httptestfault.Responses(httptestfault.Response{Status: 503, Header: http.Header{"Retry-After": {"30"}}}))
	res, _, err := get(t, "http://"+serve(t, proxy.Config{HeadTimeout: 10 * time.Second}, s.URL))
	if err != nil || res.StatusCode != 503 || res.Header.Get("Retry-After") != "30" || len(s.Requests()) != 1 {
		t.Error(res.Status, res.Header, err)
	}
}

// A client that repeats requests after the proxy has is counted.
func TestAClientThatRepeatsByItself(t *testing.T) {
	s := upstream(t, httptestfault.Responses(httptestfault.Response{Status: 503}))
	url := "http://" + serve(t, proxy.Config{}, s.URL)
	for range 3 { // as urllib3 does
		get(t, url+"/a")
	}
	get(t, url+"/b")
	second := request(t, http.MethodGet, url+"/c", nil)
	second.Header.Set("Amz-Sdk-Request", "attempt=2; max=5")
	send(t, second).Body.Close()
	if _, text, _ := get(t, url+"/.perdure/metrics"); !strings.Contains(text, "\nperdure_proxy_client_retries_total 3\n") {
		t.Error(text)
	}
}
