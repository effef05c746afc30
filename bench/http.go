package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/hashicorp/go-retryablehttp"

	"github.com/seed-0f2c7998/perdure/httpretry"
)

// size is the size of the response's body.
const size = 1024

// newServer serves a body over loopback. It is in the same process, so its work is included in the bare call.
func newServer() *httptest.Server {
	body := make([]byte, size)
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(body)
	}))
}

// httpScenarios returns the rows in which the operation is a GET, its body read to the end: from server over loopback,
// each client on its own connection, and with a transport that responds at once.
func httpScenarios(server *httptest.Server) []scenario {
	loopback := func() http.RoundTripper { return &http.Transport{} }
	instant := func() http.RoundTripper { return canned(make([]byte, size)) }
	url, hangUp := server.URL, server.CloseClientConnections
	return []scenario{
		{name: "HTTP GET of 1 KiB, retry + resume", hangUp: hangUp, cells: httpRetry(url, loopback, httpretry.Options{})},
		{name: "HTTP GET of 1 KiB, retry", hangUp: hangUp, cells: httpRetry(url, loopback, httpretry.Options{NoResume: true})},
		{name: "HTTP GET of 1 KiB, retry + resume + breaker", hangUp: hangUp, cells: httpBreaker(url, loopback)},
		{name: "HTTP GET, no network, retry + resume", cells: httpRetry(url, instant, httpretry.Options{})},
		{name: "HTTP GET, no network, retry", cells: httpRetry(url, instant, httpretry.Options{NoResume: true})},
		{name: "HTTP GET, no network, retry + resume + breaker", cells: httpBreaker(url, instant)},
	}
}

// httpRetry returns the cells with our transport set up by o. The peers retry, and pass bodies on unchanged.
func httpRetry(url string, base func() http.RoundTripper, o httpretry.Options) map[library]cell {
	failsafe := failsafehttp.NewRetryPolicyBuilder().Build() //nolint:bodyclose // a policy
	return map[library]cell{
		bareCall:  getBy(url, base),
		perdure:   getBy(url, func() http.RoundTripper { return httpretry.NewTransport(base(), o) }),
		failsafes: getBy(url, func() http.RoundTripper { return failsafehttp.NewRoundTripper(base(), failsafe) }),
		hashicorp: hashicorpGet(url, base),
		dropIn:    getBy(url, func() http.RoundTripper { return &retryablehttp.RoundTripper{Client: hashicorpClient(base())} }),
		bareAgain: getBy(url, base),
	}
}

func httpBreaker(url string, base func() http.RoundTripper) map[library]cell {
	config := breakerConfig()
	failsafe := failsafehttp.NewRetryPolicyBuilder().Build()                                       //nolint:bodyclose // a policy
	breaker := circuitbreaker.NewBuilder[*http.Response]().WithFailureThreshold(threshold).Build() //nolint:bodyclose // a policy
	return map[library]cell{
		bareCall:  getBy(url, base),
		perdure:   getBy(url, func() http.RoundTripper { return httpretry.NewTransport(base(), httpretry.Options{Breakers: &config}) }),
		failsafes: getBy(url, func() http.RoundTripper { return failsafehttp.NewRoundTripper(base(), failsafe, breaker) }),
	}
}

// canned is a transport that returns itself as each response.
type canned []byte

func (c canned) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(c)), ContentLength: int64(len(c)), Request: req,
	}, nil
}

// getBy is not inlined, so that all columns run the same code: a copy for each would be an advantage for some.
//
//go:noinline
func getBy(url string, transport func() http.RoundTripper) cell {
	return func(call) call {
		client := &http.Client{Transport: transport()}
		return func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return err
			}
			return finish(client.Do(req))
		}
	}
}

// finish reads the response to its end.
func finish(res *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); err != nil || n != size || res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s, %d bytes: %w", res.Status, n, err)
	}
	return nil
}

// hashicorpGet uses go-retryablehttp's own client and request types.
func hashicorpGet(url string, transport func() http.RoundTripper) cell {
	return func(call) call {
		client := hashicorpClient(transport())
		return func(ctx context.Context) error {
			req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return err
			}
			return finish(client.Do(req))
		}
	}
}

// hashicorpClient logs nothing: by default it writes a line for each request.
func hashicorpClient(base http.RoundTripper) *retryablehttp.Client {
	client := retryablehttp.NewClient()
	client.Logger = nil
	client.HTTPClient = &http.Client{Transport: base}
	return client
}
