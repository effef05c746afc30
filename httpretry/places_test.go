package httpretry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A request is in flight until its body ends or is closed. After a break it needs a place
// for the rest, and has none in between.
func TestABodyHoldsItsPlace(t *testing.T) {
	const size = 1 << 20
	var broken atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/empty":
			return
		case "/missing":
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", `"one"`)
		if r.URL.Path == "/broken" && r.Header.Get("Range") == "" {
			broken.Store(true)
			w.Header().Set("Content-Length", fmt.Sprint(size))
			_, _ = w.Write(make([]byte, size/2))
			panic(http.ErrAbortHandler)
		}
		http.ServeContent(w, r, "", time.Time{}, zeros(size))
	}))
	defer s.Close()
	b := circuit.New("x", circuit.Config{Concurrency: 1})
	p := retry.Policy{BaseDelay: time.Millisecond, Breaker: b, Observe: func(context.Context, retry.Event) {}}
	client := httpretry.Client(&p)
	free := func() bool {
		permit, err := b.Acquire()
		permit.Cancel()
		return err == nil
	}
	get := func(path string) *http.Response {
		res, err := client.Get(s.URL + path) //nolint:noctx // the server is the test's own
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return res
	}
	for _, path := range []string{"/whole", "/broken"} {
		for _, end := range []struct {
			name string
			do   func(*http.Response) error
		}{
			{"closed", func(res *http.Response) error { return res.Body.Close() }},
			{"read", func(res *http.Response) error {
				n, err := io.Copy(io.Discard, res.Body)
				if n != size {
					err = errors.Join(err, fmt.Errorf("%d bytes", n))
				}
				return errors.Join(err, res.Body.Close())
			}},
		} {
			res := get(path)
			if free() {
				t.Errorf("%s: the place is free before the body has ended", path)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, http.NoBody)
			if res, err := client.Do(req); err == nil {
				res.Body.Close()
				t.Errorf("%s: there are two in flight", path)
			}
			cancel()
			if err := end.do(res); err != nil || !free() {
				t.Errorf("%s, %s: %v, the place is free: %v", path, end.name, err, free())
			}
		}
	}
	for _, path := range []string{"/empty", "/missing"} { // there is nothing more to come
		res := get(path)
		_, _ = io.Copy(io.Discard, res.Body)
		if res.Body.Close(); !free() {
			t.Errorf("%s keeps the place", path)
		}
	}
	if !broken.Load() {
		t.Error("no body has broken")
	}
}

// A body that is neither read nor closed holds its place until the context of its request
// ends, as it holds a connection. It used to hold the place forever.
func TestABodyHoldsNoPlaceAfterItsContext(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, zeros(1<<20))
	}))
	defer s.Close()
	b := circuit.New("x", circuit.Config{Concurrency: 1})
	client := httpretry.Client(&retry.Policy{Breaker: b})
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, http.NoBody)
		res, err := client.Do(req) // waits for the place of the one before
		if err != nil {
			t.Fatal(err)
		}
		if n := b.Metrics().InFlight; n != 1 {
			t.Errorf("%d in flight while the body is open", n)
		}
		cancel()
		defer res.Body.Close()
	}
}

// zeros returns n zero bytes.
func zeros(n int64) io.ReadSeeker { return io.NewSectionReader(zeroReader{}, 0, n) }

type zeroReader struct{}

func (zeroReader) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }
