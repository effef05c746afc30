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

// What the breaker, the gate, a limit or the budget refuses is 503 and says when to come back, in a form that programs read,
// also after an attempt. What the upstream refuses, and what may have been processed, is not.
func TestWhatIsRefused(t *testing.T) {
	reset, dead := httptestfault.Response{Fault: httptestfault.Reset()}, "http://127.0.0.1:1"
	open := circuit.Config{FailureThreshold: 2, RecoveryTimeout: time.Minute}
	budget := proxy.Config{Breakers: circuit.Config{Budget: 10}}
	for _, tt := range []struct {
		name     string
		config   proxy.Config
		method   string
		upstream string // "" is one that resets
		before   int    // requests
		status   int
		code     string
		attempts int
	}{
		{"open breaker", proxy.Config{Breakers: open}, "GET", "", 1, 503, "not_now", 0},
		{"open breaker, in the middle", proxy.Config{Breakers: open}, "GET", "", 0, 503, "not_now", 2},
		{"open breaker of a dead upstream", proxy.Config{Breakers: open}, "PUT", dead, 0, 503, "not_now", 2},
		{"isolated breaker", proxy.Config{Registry: new(circuit.Registry)}, "GET", "", 1, 503, "not_now", 0},
		{"a rate", proxy.Config{HeadTimeout: 5 * time.Second, Breakers: circuit.Config{Rate: 1. / 60}}, "GET", dead, 1, 503, "not_now", 0},
		{"a budget", budget, "GET", "", 1, 503, "not_now", 1},
		{"a budget, of a dead upstream", budget, "POST", dead, 1, 503, "not_now", 1},
		{"attempts", proxy.Config{}, "GET", "", 0, 502, "upstream_failed", 4},
		{"attempts of a dead upstream", proxy.Config{}, "POST", dead, 0, 502, "upstream_failed", 4},
		{"a budget, after a lost response", budget, "PUT", "", 1, 502, "upstream_failed", 1},
		{"an open breaker, after a lost response", proxy.Config{Breakers: open}, "DELETE", "", 0, 502, "upstream_failed", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			to := tt.upstream
			if to == "" {
				to = upstream(t, httptestfault.Responses(reset)).URL
			}
			url := "http://" + serve(t, tt.config, to)
			for range tt.before {
				send(t, request(t, tt.method, url, nil)).Body.Close()
			}
			if tt.config.Registry != nil {
				tt.config.Registry.All()[0].Isolate()
			}
			res := send(t, request(t, tt.method, url, nil))
			defer res.Body.Close()
			var failure struct {
				Status    int       `json:"status"`
				Error     string    `json:"error"`
				RetryAt   time.Time `json:"retry_at"`
				Attempts  int       `json:"attempts"`
				Ambiguous bool      `json:"ambiguous"`
			}
			if err := json.NewDecoder(res.Body).Decode(&failure); err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != tt.status || failure.Status != tt.status || failure.Error != tt.code || failure.Attempts != tt.attempts {
				t.Errorf("%s, %+v", res.Status, failure)
			}
			after, refused := res.Header.Get("Retry-After"), tt.status == 503
			if refused && (after == "" || after == "0" || failure.RetryAt.IsZero() || failure.Ambiguous) {
				t.Errorf("Retry-After: %q, %+v", after, failure)
			}
		})
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
