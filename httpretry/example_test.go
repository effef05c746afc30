package httpretry_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

// plainText logs without the time, so that the examples' output is the same each day.
func plainText() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key != slog.LevelKey && a.Key != slog.MessageKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// A server that is busy for a moment: the caller does not notice.
func ExampleClient() {
	busy := httptestfault.Response{Status: http.StatusServiceUnavailable}
	server := httptestfault.New(httptestfault.Responses(busy, busy, httptestfault.Response{Body: []byte("42 bikes")}))
	defer server.Close()

	api := retry.APICall()
	api.Name = "list_stations"
	api.BaseDelay, api.Jitter = time.Millisecond, retry.NoJitter
	api.Observe = retry.LogTo(plainText())
	client := httpretry.Client(&api)

	res, err := client.Get(server.URL + "/stations")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	fmt.Println(string(body), err)
	// Output:
	// level=INFO msg="Retrying list_stations in 0.0010 seconds (attempt 1/3)"
	// level=INFO msg="Retrying list_stations in 0.0020 seconds (attempt 2/3)"
	// level=INFO msg="list_stations succeeded on attempt 3"
	// 42 bikes <nil>
}

// Each server has a breaker of its own, and those of all clients are in one registry.
func ExampleNewTransport() {
	server := httptestfault.New(httptestfault.Responses(httptestfault.Response{Body: []byte("fine")}))
	defer server.Close()

	service := retry.Service()
	var breakers circuit.Registry
	client := &http.Client{Transport: httpretry.NewTransport(nil, httpretry.Options{
		Policy:   &service,
		Breakers: &circuit.Config{FailureThreshold: 5, Budget: 10},
		Registry: &breakers,
	})}

	res, err := client.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	for _, b := range breakers.All() {
		fmt.Println(strings.Replace(b.Name(), server.URL, "http://host:port", 1), b.State())
	}
	// Output: http:http://host:port closed
}

// When attempts run out, the caller gets the last response, as from any client, and GaveUp returns why it is the last.
func ExampleGaveUp() {
	server := httptestfault.New(httptestfault.Responses(httptestfault.Response{Status: 503, Body: []byte("closed for lunch")}))
	defer server.Close()

	policy := retry.Policy{Name: "order", MaxAttempts: 2, BaseDelay: time.Millisecond, Jitter: retry.NoJitter, Observe: func(context.Context, retry.Event) {}}
	res, err := httpretry.Client(&policy).Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	fmt.Println(res.Status, string(body))
	fmt.Println(strings.Replace(httpretry.GaveUp(res).Error(), server.URL, "http://host:port", 1))
	// Output:
	// 503 Service Unavailable closed for lunch
	// order: attempts exhausted after 2 attempts: GET http://host:port: 503 Service Unavailable
}

// A POST is repeated if its caller promises that it is idempotent.
func ExampleIdempotent() {
	server := httptestfault.New(httptestfault.Responses(httptestfault.Response{Status: 503}, httptestfault.Response{Body: []byte("counted")}))
	defer server.Close()

	policy := retry.Policy{BaseDelay: time.Millisecond, Jitter: retry.NoJitter, Observe: func(context.Context, retry.Event) {}}
	ctx := httpretry.Idempotent(context.Background())
	req, err := http.NewRequestWithContext(ctx, "POST", server.URL+"/count", strings.NewReader("station=7"))
	if err != nil {
		fmt.Println(err)
		return
	}
	res, err := httpretry.Client(&policy).Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	fmt.Println(string(body), err)
	// Output: counted <nil>
}

// This service throttles with a 403, and says so with a Retry-After.
func ExampleOptions_classify() {
	busy := httptestfault.Response{Status: 403, Header: http.Header{"Retry-After": {"0.01"}}}
	server := httptestfault.New(httptestfault.Responses(busy, httptestfault.Response{Body: []byte("42")}))
	defer server.Close()

	policy := retry.Policy{BaseDelay: time.Millisecond, Jitter: retry.NoJitter, Observe: func(context.Context, retry.Event) {}}
	client := &http.Client{Transport: httpretry.NewTransport(nil, httpretry.Options{
		Policy: &policy,
		Classify: func(res *http.Response) retry.Class {
			if res.StatusCode == http.StatusForbidden && res.Header.Get("Retry-After") != "" {
				return retry.ClassThrottled
			}
			return retry.ClassUnknown
		},
	})}
	res, err := client.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	fmt.Println(string(body), err)
	// Output: 42 <nil>
}

func ExampleRetryAfter() {
	h := http.Header{
		"Date":        {"Mon, 23 Nov 2026 11:00:00 GMT"},
		"Retry-After": {"5, Mon, 23 Nov 2026 11:00:30 GMT"},
	}
	fmt.Println(httpretry.RetryAfter(h, time.Now()))
	// Output: 30s true
}

func ExampleRateLimit() {
	h := http.Header{}
	h.Set("RateLimit", `"minute";r=0;t=30, "day";r=417;t=50000`)
	fmt.Println(httpretry.RateLimit(h, time.Now()))
	// Output: 30s true
}

// A body that is cut twice is one body for its reader.
func Example_resume() {
	page := httptestfault.Resource{Body: []byte("it was the best of times, it was the worst of times"), ETag: `"v1"`}
	server := httptestfault.New(func(n int, r *http.Request) httptestfault.Response {
		step := page.Respond(r)
		if n <= 2 {
			step = step.With(httptestfault.CutBody(20))
		}
		return step
	})
	defer server.Close()

	client := &http.Client{Transport: httpretry.NewTransport(nil, httpretry.Options{
		OnResume: func(r httpretry.Resumption) { fmt.Printf("byte %d of %d: %v\n", r.Offset, r.Total, r.Break) },
	})}
	res, err := client.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	fmt.Println(string(body), err)
	// Output:
	// byte 20 of 51: unexpected EOF
	// byte 40 of 51: unexpected EOF
	// it was the best of times, it was the worst of times <nil>
}
