package httpretry_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

// h2Part is an HTTP/2 response with the text from a byte on.
func h2Part(from int) httptestfault.Response {
	tag := http.Header{"Etag": {`"v1"`}, "Content-Length": {fmt.Sprint(len(text) - from)}}
	if from == 0 {
		return httptestfault.Response{Header: tag, Body: []byte(text)}
	}
	tag.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(text)-1, len(text)))
	return httptestfault.Response{Status: 206, Header: tag, Body: []byte(text[from:])}
}

func (s h2Steps) with(f httptestfault.Fault) h2Steps {
	s[len(s)-1].Fault = f
	return s
}

type h2Steps []httptestfault.Response

func TestHTTP2(t *testing.T) {
	unknown := h2Part(0)
	unknown.Header = http.Header{"Etag": {`"v1"`}}
	busy := httptestfault.Response{Status: 503}
	refused, goAway := httptestfault.Fault{Kind: httptestfault.RefuseStream}, httptestfault.Fault{Kind: httptestfault.GoAway}
	opaque := func() io.Reader { return io.MultiReader(strings.NewReader("data")) }
	for _, tt := range []struct {
		name     string
		method   string
		upload   func() io.Reader
		options  httpretry.Options
		steps    h2Steps
		body     string
		err      error
		requests int
	}{
		{name: "503", steps: h2Steps{busy, h2Part(0)}, body: text, requests: 2},
		{name: "stream fails", steps: append(h2Steps{h2Part(0)}.with(httptestfault.ResetBody(7)), h2Part(7)), body: text, requests: 2},
		{name: "stream fails at once", steps: append(h2Steps{h2Part(0)}.with(httptestfault.ResetBody(0)), h2Part(0)), body: text, requests: 2},
		{name: "connection ends", steps: append(h2Steps{h2Part(0)}.with(httptestfault.CutBody(7)), h2Part(7)), body: text, requests: 2},
		{name: "length unknown", steps: append(h2Steps{unknown}.with(httptestfault.ResetBody(7)), h2Part(7)), body: text, requests: 2},
		{name: "fails before the head", steps: append(h2Steps{h2Part(0)}.with(httptestfault.Reset()), h2Part(0)), body: text, requests: 2},
		{name: "ends before the head", steps: append(h2Steps{h2Part(0)}.with(httptestfault.Hangup()), h2Part(0)), body: text, requests: 2},
		{name: "refused", steps: append(h2Steps{{}}.with(refused), h2Part(0)), body: text, requests: 2},
		{name: "goes away", steps: append(h2Steps{{}}.with(goAway), h2Part(0)), body: text, requests: 2},
		{name: "goes away from the rest", steps: append(append(h2Steps{h2Part(0)}.with(httptestfault.ResetBody(7)), h2Steps{{}}.with(goAway)...), h2Part(7)), body: text, requests: 3},
		{name: "POST refused", method: "POST", upload: func() io.Reader { return strings.NewReader("data") }, steps: append(h2Steps{{}}.with(refused), h2Part(0)), body: text, requests: 2},
		{name: "POST fails", method: "POST", upload: opaque, steps: h2Steps{{}}.with(httptestfault.Reset()), err: httpretry.ErrNotIdempotent, requests: 1},
		{name: "PUT fails", method: "PUT", upload: opaque, steps: append(h2Steps{{}}.with(httptestfault.Reset()), h2Part(0)), body: text, requests: 2},
		{name: "PUT fails for ever", method: "PUT", upload: opaque, steps: h2Steps{{}}.with(httptestfault.Reset()), err: retry.ErrExhausted, requests: 3},
		{name: "no resume", options: httpretry.Options{NoResume: true}, steps: h2Steps{h2Part(0)}.with(httptestfault.CutBody(7)), body: text[:7], err: errAny, requests: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer checkLeaks(t)
			server := httptestfault.NewH2(httptestfault.Responses(tt.steps...))
			defer server.Close()
			base := server.Transport()
			defer base.CloseIdleConnections()
			tt.options.Policy, tt.options.OnResume = quick(), func(httpretry.Resumption) {}
			_, body, err := row{method: tt.method, upload: tt.upload}.do(t, server.URL, httpretry.NewTransport(base, tt.options))
			if requests := len(server.Requests()); body != tt.body || !errors.Is(err, tt.err) && (err == nil || tt.err != errAny) || //nolint:errorlint // the row's own
				requests != tt.requests {
				t.Errorf("%q, %v after %d requests; want %q, %v after %d", body, err, requests, tt.body, tt.err, tt.requests)
			}
		})
	}
}
