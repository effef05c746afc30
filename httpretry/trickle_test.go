package httpretry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/retry"
)

// beat is the time between two bytes: less than a second, so that no byte arrives exactly at a limit.
const beat = 999 * time.Millisecond

// trickling sends a byte a second, from the requested offset on.
func trickling(header http.Header, size int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		first := 0
		maps.Copy(w.Header(), header)
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &first); err == nil {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, size-1, size))
			w.Header().Set("Content-Length", fmt.Sprint(size-first))
			w.WriteHeader(http.StatusPartialContent)
		}
		for range size - first {
			_, _ = w.Write([]byte("x"))
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(beat):
			case <-r.Context().Done():
				return
			}
		}
	}
}

func TestTricklingBodies(t *testing.T) {
	const size = 100_000
	known := http.Header{"Content-Length": {fmt.Sprint(size)}}
	tagged := http.Header{"Content-Length": {fmt.Sprint(size)}, "Etag": {`"v1"`}}
	for _, tt := range []struct {
		name    string
		header  http.Header
		rate    int64
		elapsed time.Duration
		atLeast time.Duration
		atMost  time.Duration
		want    error
	}{
		{"the rate, not to be resumed", nil, 1024, 0, time.Minute, time.Minute, httpretry.ErrNoValidator},
		{"the rate, resumed as often as there are attempts", tagged, 1024, 0, 3 * time.Minute, 3*time.Minute + time.Second, retry.ErrExhausted},
		{"both", tagged, 1024, 90 * time.Second, 2 * time.Minute, 2*time.Minute + time.Second, retry.ErrDeadline},
		{"a short time, with the rate", nil, 1024, 5 * time.Second, 5 * time.Second, 6 * time.Second, retry.ErrDeadline},
		{"time, length known", known, 0, 15 * time.Minute, 15 * time.Minute, 16 * time.Minute, retry.ErrDeadline},
		{"time, can be resumed", tagged, 0, 30 * time.Second, 30 * time.Second, 31 * time.Second, retry.ErrDeadline},
		{"time, but events", nil, 0, 30 * time.Second, size * beat, size*beat + time.Minute, nil},
		{"a rate that it has", nil, 1, 30 * time.Second, size * beat, size*beat + time.Minute, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				policy := &retry.Policy{MaxAttempts: 3, MaxElapsed: tt.elapsed, Observe: func(context.Context, retry.Event) {}}
				header := tt.header
				transport := httpretry.NewTransport(servertest.InBubble(t, trickling(header, size)), httpretry.Options{
					Policy: policy, MinRate: tt.rate, OnResume: func(httpretry.Resumption) {},
				})
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://server/x", nil)
				began := time.Now()
				res, err := transport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				n, err := io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if took := time.Since(began); !errors.Is(err, tt.want) || took < tt.atLeast || took > tt.atMost {
					t.Errorf("%d bytes and %v after %v, want %v after %v to %v", n, err, took, tt.want, tt.atLeast, tt.atMost)
				}
				if timeout, ok := errors.AsType[net.Error](err); tt.want != nil && (!ok || !timeout.Timeout()) {
					t.Errorf("%v is no timeout", err)
				}
			})
		})
	}
}

// A fast body is not ended after MaxElapsed because its reader is slow.
func TestSlowReaderOfAFastBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := servertest.InBubble(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) }))
		policy := &retry.Policy{MaxElapsed: time.Second}
		transport := httpretry.NewTransport(base, httpretry.Options{Policy: policy, MinRate: 1 << 20})
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://server/x", nil)
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		n, got := 0, 0
		for err == nil {
			<-time.After(time.Minute)
			n, err = res.Body.Read(make([]byte, 64<<10))
			got += n
		}
		if got != 1<<20 || err != io.EOF { //nolint:errorlint // exactly
			t.Errorf("%d bytes, %v, want all and the end", got, err)
		}
	})
}
