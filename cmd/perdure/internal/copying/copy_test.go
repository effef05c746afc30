package copying

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/wait"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

// hasty is a policy with hardly a wait.
func hasty(t *testing.T) policy.Source {
	t.Helper()
	source, _, err := new(policy.Flags).Load([]string{"PERDURE_BASE_DELAY=0.001", "PERDURE_JITTER=0"})
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// fetched runs a copy of a page to a file.
func fetched(t *testing.T, page, to string) error {
	t.Helper()
	j := &Job{
		Source: page, Destination: to,
		Session: endpoint.Session{Policy: hasty(t), Breaker: circuit.Config{Observe: func(context.Context, circuit.Transition) {}}},
	}
	_, err := j.Run(t.Context())
	return err
}

// A server that sends other ranges than it is asked for is asked for the whole.
func TestServerThatLiesAboutRanges(t *testing.T) {
	is := bytes.Repeat([]byte("0123456789"), 1_000_000)
	server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Response {
		step := httptestfault.Resource{Body: is, ETag: `"is"`}.Respond(r)
		if r.Header.Get("Range") != "" {
			step.Header.Set("Content-Range", "bytes 1-9999999/10000000")
		}
		return step
	})
	defer server.Close()
	to := filepath.Join(t.TempDir(), "x")
	if err := fetched(t, server.URL+"/x", to); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(to); !bytes.Equal(got, is) {
		t.Errorf("%d other bytes", len(got))
	}
}

// What the user has not asked to end is no interruption.
func TestCauseIsReported(t *testing.T) {
	server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Response {
		return httptestfault.Resource{Body: make([]byte, 200_000), ETag: `"is"`}.Respond(r).With(httptestfault.StallBody(100_000))
	})
	defer server.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	j := &Job{
		Source: server.URL, Destination: filepath.Join(t.TempDir(), "x"),
		Progress: func(int64, int64, int64) { cancel(enough) },
	}
	_, err := j.Run(ctx)
	if _, kept := errors.AsType[*resumableError](err); !errors.Is(err, enough) || !kept {
		t.Errorf("%v, want %v and what is kept", err, enough)
	}
}

// Progress tells the bytes of an earlier run from those of this one.
func TestProgressOfAResumedCopy(t *testing.T) {
	server := httptestfault.New(func(n int, r *http.Request) httptestfault.Response {
		step := httptestfault.Resource{Body: make([]byte, 200_000), ETag: `"is"`}.Respond(r)
		if n == 1 {
			step = step.With(httptestfault.StallBody(100_000))
		}
		return step
	})
	defer server.Close()
	to := filepath.Join(t.TempDir(), "x")
	ctx, cancel := context.WithCancel(t.Context())
	first := &Job{Source: server.URL, Destination: to, Progress: func(_, earlier, _ int64) {
		if cancel(); earlier != 0 {
			t.Errorf("the first run has %d bytes of an earlier one", earlier)
		}
	}}
	_, _ = first.Run(ctx) // it is interrupted
	var least, most, before int64
	second := &Job{Source: server.URL, Destination: to, Progress: func(done, earlier, _ int64) {
		if least == 0 {
			least = done
		}
		most, before = done, earlier
	}}
	r, err := second.Run(t.Context())
	if err != nil || r.Resumed <= 0 || before != r.Resumed || least <= before || most != 200_000 {
		t.Errorf("%+v, %v: the progress was from %d to %d, %d of them earlier", r, err, least, most, before)
	}
}

// A body that can't continue because the breaker has opened meanwhile continues when
// that lets it, and what has come is not fetched again.
func TestBrokenBodyWaitsForTheBreaker(t *testing.T) {
	body := bytes.Repeat([]byte("some"), 100_000)
	refused, sent := 0, 0
	server := httptestfault.New(func(n int, r *http.Request) httptestfault.Response {
		step := httptestfault.Resource{Body: body, ETag: `"1"`}.Respond(r)
		switch {
		case n == 1:
			sent += 150_000
			return step.With(httptestfault.ResetBody(150_000))
		case refused < 2:
			refused++
			return httptestfault.Response{Status: http.StatusServiceUnavailable}
		}
		sent += len(step.Body)
		return step
	})
	defer server.Close()
	to := filepath.Join(t.TempDir(), "file")
	j := &Job{
		Source: server.URL + "/page", Destination: to,
		Session: endpoint.Session{
			Waiter: &wait.Waiter{Max: time.Minute}, Policy: hasty(t),
			Breaker: circuit.Config{FailureThreshold: 2, RecoveryTimeout: 50 * time.Millisecond, Observe: func(context.Context, circuit.Transition) {}},
		},
	}
	if _, err := j.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d other bytes arrived (%v)", len(got), err)
	}
	if refused != 2 || sent > len(body)+150_000 {
		t.Errorf("%d requests were refused, want the two that open the breaker; %d bytes were sent for %d", refused, sent, len(body))
	}
}
