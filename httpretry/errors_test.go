package httpretry_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

// The texts of errors, without the server's address.
func TestErrorTexts(t *testing.T) {
	reset := httptestfault.Response{Fault: httptestfault.Hangup()}
	for _, tt := range []struct {
		name   string
		row    row
		script httptestfault.Script
		want   string
	}{
		{"exhausted", row{}, httptestfault.Responses(status(503)), `test: attempts exhausted after 3 attempts: GET http://server/x?token=REDACTED: 503 Service Unavailable`},
		{"an unknown status", row{policy: func(p *retry.Policy) { p.RetryOn = []string{"599"} }}, httptestfault.Responses(status(599)), `test: attempts exhausted after 3 attempts: GET http://server/x?token=REDACTED: 599`},
		{"not idempotent", row{method: "POST"}, httptestfault.Responses(status(503)), `POST http://server/x?token=REDACTED: 503 Service Unavailable (not repeated: request may have been processed and is not idempotent)`},
		{"no response", row{method: "PUT"}, httptestfault.Responses(reset), `Put "http://server/x?token=secret": test: attempts exhausted after 3 attempts: EOF`},
		{"no way to resume", row{}, altered(httptestfault.Resource{Body: []byte(text)}, with(httptestfault.CutBody(7))), `body broke after 7 bytes: unexpected EOF; not resumed: response has no usable validator (strong ETag or Last-Modified)`},
		{"gone", row{}, altered(versioned(), with(httptestfault.CutBody(7)), instead(status(404))), `body broke after 7 bytes: unexpected EOF; not resumed: GET http://server/x?token=REDACTED: 404 Not Found`},
		{"stalled", row{options: httpretry.Options{StallTimeout: 500 * time.Millisecond}}, altered(httptestfault.Resource{Body: []byte(text)}, with(httptestfault.StallBody(7))), `body broke after 7 bytes: no data for 500ms; not resumed: response has no usable validator (strong ETag or Last-Modified)`},
		{"corrupt", row{}, altered(httptestfault.Resource{Body: []byte("123456789"), Header: http.Header{"X-Amz-Checksum-Crc32": {"AAAAAA=="}}}), `the body is corrupt: its crc32 is y/Q5Jg==, but X-Amz-Checksum-Crc32 says AAAAAA==`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := httptestfault.NewInMemory(tt.script)
				defer server.Close()
				base := server.Transport()
				defer base.CloseIdleConnections()
				options := tt.row.options
				options.Policy, options.OnResume = quick(), func(httpretry.Resumption) {}
				if tt.row.policy != nil {
					tt.row.policy(options.Policy)
				}
				res, _, err := tt.row.do(t, server.URL+"/x?token=secret", httpretry.NewTransport(base, options))
				if err == nil {
					err = httpretry.GaveUp(res)
				}
				if got := strings.ReplaceAll(fmt.Sprint(err), server.URL, "http://server"); got != tt.want {
					t.Errorf("got\n%s\nwant\n%s", got, tt.want)
				}
			})
		})
	}
}

func TestNameOfTheOperation(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses(status(503)))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	policy := quick()
	policy.Name = ""
	_, ended, _ := get(t, httpretry.NewTransport(base, httpretry.Options{Policy: policy}), server.URL)
	if e, ok := errors.AsType[*retry.Error](ended); !ok || e.Operation != "http_request" {
		t.Errorf("%v; want it to tell of an http_request", ended)
	}
}

// url.Error.Timeout does not unwrap: our wrappers need a Timeout method.
func TestTimeoutsAreReported(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses(httptestfault.Response{Delay: time.Hour}))
	defer server.Close()
	base := server.Transport()
	base.ResponseHeaderTimeout = 20 * time.Millisecond
	defer base.CloseIdleConnections()
	_, _, err := row{method: "POST"}.do(t, server.URL, httpretry.NewTransport(base, httpretry.Options{Policy: quick()}))
	if e, ok := errors.AsType[*url.Error](err); !ok || !e.Timeout() || !errors.Is(err, httpretry.ErrNotIdempotent) {
		t.Errorf("%v is no timeout", err)
	}
}

// An inner Transport that has given up without a response is not retried either.
func TestNestedTransportsWithoutAResponse(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses(httptestfault.Response{Fault: httptestfault.Reset()}))
	defer server.Close()
	base := server.Transport()
	inner := httpretry.NewTransport(base, httpretry.Options{Policy: quick()})
	outer := httpretry.NewTransport(inner, httpretry.Options{Policy: quick()})
	client := &http.Client{Transport: outer}
	defer client.CloseIdleConnections()
	if _, _, err := get(t, outer, server.URL); !errors.Is(err, retry.ErrExhausted) || len(server.Requests()) != 3 {
		t.Errorf("%v after %d requests; want exhausted after 3", err, len(server.Requests()))
	}
}
