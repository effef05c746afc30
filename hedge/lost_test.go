package hedge_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/hedge"
	"github.com/seed-0f2c7998/perdure/retry"
)

// net/http makes a connection idle before the attempt has its response. If that attempt loses in between, another call that
// has got the connection fails with the cause of the one that has lost: it is a failure to retry, and no end of that call.
func TestALostAttemptEndsNoOtherCall(t *testing.T) {
	var others atomic.Int32
	arrived := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/first":
			w.WriteHeader(http.StatusServiceUnavailable)
		case others.Add(1) == 1:
			close(arrived)
			<-r.Context().Done()
		}
	}))
	defer server.Close()
	get := func(ctx context.Context, path string) (int, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path, http.NoBody)
		if err != nil {
			return 0, err
		}
		res, err := server.Client().Do(req)
		if err != nil {
			return 0, err
		}
		defer res.Body.Close()
		_, err = io.Copy(io.Discard, res.Body)
		return res.StatusCode, err
	}
	failed, ended, wins := make(chan error, 1), make(chan error, 1), make(chan struct{})
	other := func() {
		p := &retry.Policy{MaxAttempts: 2, BaseDelay: time.Millisecond, Observe: func(_ context.Context, e retry.Event) {
			if e.Kind != retry.Succeeded {
				failed <- e.Err
			}
		}}
		_, err := retry.Value(t.Context(), p, func(ctx context.Context) (int, error) { return get(ctx, "/other") })
		ended <- err
	}
	idle := &httptrace.ClientTrace{PutIdleConn: func(error) {
		go other()
		<-arrived
		close(wins)
		if err := <-failed; !errors.Is(err, hedge.ErrLost) {
			t.Errorf("the other call fails with %v: the test shows nothing", err)
		}
	}}
	var attempts atomic.Int32
	got, err := hedge.Value(t.Context(), &hedge.Hedge[int]{After: time.Nanosecond}, func(ctx context.Context) (int, error) {
		if attempts.Add(1) == 1 {
			return get(httptrace.WithClientTrace(ctx, idle), "/first")
		}
		<-wins
		return 2, nil
	})
	if got != 2 || err != nil {
		t.Errorf("%d, %v; want the value of the hedge", got, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the other call ends with %v", err)
	}
}
