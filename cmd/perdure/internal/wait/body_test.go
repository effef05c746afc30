package wait_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/wait"
	"github.com/seed-0f2c7998/perdure/retry"
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A request that waited is sent with its whole body: it used to be sent with what was left of the body, nothing.
func TestTheBodyOfARequestThatWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		client := http.Client{Transport: wait.Transport{
			Waiter: &wait.Waiter{Max: time.Hour}, Breakers: func() []*circuit.Breaker { return nil },
			RoundTripper: roundTrip(func(req *http.Request) (*http.Response, error) {
				body, err := io.ReadAll(req.Body)
				if got = append(got, string(body)); len(got) < 3 || err != nil {
					return nil, errors.Join(err, &retry.Error{Stop: retry.ErrRetryLater, RetryAt: time.Now().Add(time.Minute)})
				}
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}, nil
			}),
		}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://h/", strings.NewReader("a=b"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if text := strings.Join(got, " "); text != "a=b a=b a=b" {
			t.Errorf("the bodies are %q, want a=b each time", text)
		}
	})
}
