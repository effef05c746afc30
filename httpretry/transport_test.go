package httpretry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

// get sends a GET and reads the response; it returns the status and the result of GaveUp.
func get(t *testing.T, transport http.RoundTripper, url string) (int, error, error) {
	t.Helper()
	res, _, err := row{}.do(t, url, transport)
	if res == nil {
		return 0, nil, err
	}
	return res.StatusCode, httpretry.GaveUp(res), err
}

// wantFine makes one GET that must succeed.
func wantFine(t *testing.T, transport http.RoundTripper, url string) {
	t.Helper()
	if code, _, err := get(t, transport, url); code != 200 || err != nil {
		t.Errorf("%d, %v; want 200", code, err)
	}
}

func TestFailedAttemptsKeepTheirConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a busy machine may need longer than the 50 ms for which a body is drained
		server := httptestfault.NewInMemory(func(n int, _ *http.Request) httptestfault.Response {
			if n%3 == 0 {
				return ok
			}
			return httptestfault.Response{Status: 503, Body: make([]byte, 10_000), Framing: httptestfault.Framing(n % 2)}
		})
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		transport := httpretry.NewTransport(base, httpretry.Options{Policy: quick()})
		for range 50 {
			wantFine(t, transport, server.URL)
		}
		if opened, _ := server.Connections(); opened != 1 || len(server.Requests()) != 150 {
			t.Errorf("50 calls of 3 attempts made %d requests on %d connections; want 150 on 1", len(server.Requests()), opened)
		}
	})
}

// The connection of a failed response is free for others during the wait: it used to be drained after the wait.
func TestConnectionIsFreeDuringTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := httptestfault.NewInMemory(httptestfault.Responses(status(503), ok))
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		policy := quick()
		policy.BaseDelay, policy.MaxDelay = time.Minute, time.Minute
		transport := httpretry.NewTransport(base, httpretry.Options{Policy: policy})
		var calls sync.WaitGroup
		calls.Go(func() { wantFine(t, transport, server.URL) })
		synctest.Wait() // the first call waits for its second attempt
		wantFine(t, transport, server.URL)
		calls.Wait()
		if opened, _ := server.Connections(); opened != 1 {
			t.Errorf("%d connections; want 1", opened)
		}
	})
}

func TestNeverEarlierThanAsked(t *testing.T) {
	const asked = 60 * time.Millisecond
	for _, code := range []int{429, 503} {
		step := status(code)
		step.Header = http.Header{"Retry-After": {"0.06"}}
		server := httptestfault.New(httptestfault.Responses(step, step, ok))
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		if got, _, err := get(t, httpretry.NewTransport(base, httpretry.Options{Policy: quick()}), server.URL); got != 200 || err != nil {
			t.Errorf("%d, then: %d, %v", code, got, err)
		}
		requests := server.Requests()
		for n := 1; n < len(requests); n++ {
			if gap := requests[n].At.Sub(requests[n-1].At); gap < asked {
				t.Errorf("%d: request %d came %v after the one before, %v were asked", code, n+1, gap, asked)
			}
		}
	}
}

func TestNeverEarlierThanAskedInABubble(t *testing.T) {
	for _, value := range []string{"45", "45.5", "Sat, 01 Jan 2000 00:00:45 GMT", "10, 45", "Saturday, 01-Jan-00 00:00:45 GMT"} {
		synctest.Test(t, func(t *testing.T) {
			step := status(503)
			step.Header = http.Header{"Retry-After": {value}}
			server := httptestfault.NewInMemory(httptestfault.Responses(step, ok))
			defer server.Close()
			base := server.Transport()
			defer base.CloseIdleConnections()
			policy := quick()
			policy.Jitter = 0 // a spread over what was asked
			if got, _, err := get(t, httpretry.NewTransport(base, httpretry.Options{Policy: policy}), server.URL); got != 200 || err != nil {
				t.Errorf("Retry-After %s, then: %d, %v", value, got, err)
			}
			requests := server.Requests()
			if gap := requests[1].At.Sub(requests[0].At); gap < 45*time.Second || gap > 61*time.Second {
				t.Errorf("Retry-After %s: came back after %v", value, gap)
			}
		})
	}
}

func TestPOSTThatNeverLeftIsRepeated(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses(ok))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	dials := 0
	base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if dials++; dials < 3 {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		return server.Dial(ctx, network, address)
	}
	r := row{method: "POST", upload: func() io.Reader { return io.MultiReader(strings.NewReader("data")) }}
	res, body, err := r.do(t, server.URL, httpretry.NewTransport(base, httpretry.Options{Policy: quick()}))
	if err != nil || res.StatusCode != 200 || body != "fine" || len(server.Requests()) != 1 || string(server.Requests()[0].Body) != "data" {
		t.Errorf("%v, %q, %v; the server saw %v", res, body, err, server.Requests())
	}
}

// A base without httptrace may have sent the request.
func TestPOSTByATransportWithoutTrace(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses(httptestfault.Response{Fault: httptestfault.Reset()}))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	silent := roundTripper(func(req *http.Request) (*http.Response, error) {
		return base.RoundTrip(req.WithContext(t.Context()))
	})
	_, _, err := row{method: "POST"}.do(t, server.URL, httpretry.NewTransport(silent, httpretry.Options{Policy: quick()}))
	if !errors.Is(err, httpretry.ErrNotIdempotent) || len(server.Requests()) != 1 {
		t.Errorf("%v after %d requests; want ErrNotIdempotent after 1", err, len(server.Requests()))
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A cancellation that is not the caller's is a broken connection. net/http returns one when it has given a connection to
// this request, and the request that had it before, and had an empty response, is canceled: hedges did that to others.
func TestCancellationOfAnotherRequest(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses(ok))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	attempts := 0
	unlucky := roundTripper(func(req *http.Request) (*http.Response, error) {
		if attempts++; attempts < 3 {
			return nil, context.Canceled
		}
		return base.RoundTrip(req)
	})
	wantFine(t, httpretry.NewTransport(unlucky, httpretry.Options{Policy: quick()}), server.URL)
}

// A base may return a response without a body, as tests' fakes do.
func TestResponseWithoutABody(t *testing.T) {
	attempts := 0
	fake := roundTripper(func(req *http.Request) (*http.Response, error) {
		attempts++
		code := 503
		if attempts > 1 {
			code = 200
		}
		return &http.Response{StatusCode: code, Header: http.Header{}, Request: req}, nil
	})
	wantFine(t, httpretry.NewTransport(fake, httpretry.Options{Policy: quick()}), "http://example.org")
	if attempts != 2 {
		t.Errorf("%d attempts; want 2", attempts)
	}
}

// The request of a response that was given up may be sent again: the new response is not marked as given up.
func TestRequestOfAnEndedResponseIsSentAgain(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses(status(503), status(503), status(503), ok))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	client := &http.Client{Transport: httpretry.NewTransport(base, httpretry.Options{Policy: quick()})}
	first, _, err := row{}.do(t, server.URL, client.Transport)
	if err != nil || !errors.Is(httpretry.GaveUp(first), retry.ErrExhausted) {
		t.Fatalf("%v, ended with %v", err, httpretry.GaveUp(first))
	}
	again := first.Request
	again.RequestURI = ""
	second, err := client.Do(again)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Body.Close()
	if second.StatusCode != 200 || httpretry.GaveUp(second) != nil {
		t.Errorf("%d, ended with %v; want 200", second.StatusCode, httpretry.GaveUp(second))
	}
}

func TestCancelledWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := httptestfault.NewInMemory(httptestfault.Responses(status(503)))
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		policy := quick()
		policy.BaseDelay, policy.MaxDelay = time.Hour, time.Hour
		why := errors.New("the user has gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(why) })
		start := time.Now()
		_, _, err := row{ctx: func(context.Context) context.Context { return ctx }}.do(t, server.URL, httpretry.NewTransport(base, httpretry.Options{Policy: policy}))
		if !errors.Is(err, why) || time.Since(start) != time.Minute {
			t.Errorf("%v after %v; want %v after 1m", err, time.Since(start), why)
		}
		if status, ok := errors.AsType[*httpretry.StatusError](err); !ok || status.HTTPStatusCode() != 503 {
			t.Errorf("%v does not tell of the 503", err)
		}
	})
}

// The Timeout of a client is the deadline of the operation: no attempt begins that the deadline would end.
func TestTimeoutOfTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := httptestfault.NewInMemory(httptestfault.Responses(status(503)))
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		policy := quick()
		policy.MaxAttempts = retry.Unlimited
		client := &http.Client{Transport: httpretry.NewTransport(base, httpretry.Options{Policy: policy}), Timeout: 100 * time.Millisecond}
		req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if ended := httpretry.GaveUp(res); res.StatusCode != 503 || !errors.Is(ended, retry.ErrDeadline) {
			t.Errorf("%s, ended with %v; want the 503, and that the deadline was too near", res.Status, ended)
		}
	})
}

func TestNestedTransportsDoNotMultiply(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses(status(503)))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	inner := httpretry.NewTransport(base, httpretry.Options{Policy: quick()})
	outer := httpretry.NewTransport(inner, httpretry.Options{Policy: quick()})
	code, ended, err := get(t, outer, server.URL)
	if code != 503 || !errors.Is(ended, retry.ErrExhausted) || err != nil || len(server.Requests()) != 3 {
		t.Errorf("%d, %v, %v after %d requests; want 503, exhausted, after 3", code, ended, err, len(server.Requests()))
	}
}

func TestStatusErrorHasNoSecrets(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses(status(503)))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	address := strings.Replace(server.URL, "http://", "http://user:hunter2@", 1) + "/x?X-Amz-Signature=hunter2&page=7"
	_, ended, _ := get(t, httpretry.NewTransport(base, httpretry.Options{Policy: quick()}), address)
	text := fmt.Sprint(ended)
	if strings.Contains(text, "hunter2") || !strings.Contains(text, "page=7") || !strings.Contains(text, "503 Service Unavailable") {
		t.Errorf("the error reads %s", text)
	}
}
