package objects_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A connection that delivers a byte a second does not stall, but is too slow, also if only MaxElapsed limits it.
func TestTricklingObject(t *testing.T) {
	const size = 100_000
	for _, row := range []struct {
		rate    int64
		elapsed time.Duration // of the policy
	}{{0, 0}, {1024, 0}, {0, time.Minute}, {1024, 10 * time.Second}} {
		rate := row.rate
		synctest.Test(t, func(t *testing.T) {
			network := &http.Client{Transport: servertest.InBubble(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				first := 0
				w.Header().Set("ETag", `"v1"`)
				if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &first); err == nil {
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, size-1, size))
				}
				w.Header().Set("Content-Length", fmt.Sprint(size-first))
				if first > 0 {
					w.WriteHeader(http.StatusPartialContent)
				}
				for range size - first {
					_, _ = w.Write([]byte("x"))
					_ = http.NewResponseController(w).Flush()
					select {
					case <-time.After(999 * time.Millisecond):
					case <-r.Context().Done():
						return
					}
				}
			}))}
			store, err := objects.New(aws.Config{
				Region: region, BaseEndpoint: aws.String("http://store"), HTTPClient: network,
				Credentials: credentials.NewStaticCredentialsProvider("access", "secret", ""),
			}, objects.Options{Policy: &retry.Policy{MaxAttempts: 3, MaxElapsed: row.elapsed, Observe: func(context.Context, retry.Event) {}}, MinRate: rate})
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			_, err = store.Get(t.Context(), bucket, "k", io.Discard, objects.GetOptions{})
			took := time.Since(began)
			switch {
			case row.elapsed > 0:
				if !errors.Is(err, objects.ErrStalled) || took < row.elapsed || took > 4*row.elapsed {
					t.Errorf("at %d bytes/s: %v after %v, want ErrStalled soon after %v", rate, err, took, row.elapsed)
				}
			case rate == 0:
				if err != nil || took < 24*time.Hour {
					t.Errorf("without a rate: %v after %v, want all", err, took)
				}
			case !errors.Is(err, objects.ErrStalled) || !errors.Is(err, retry.ErrExhausted) || took < 3*time.Minute || took > 4*time.Minute:
				t.Errorf("at %d bytes/s: %v after %v, want ErrStalled after three minutes", rate, err, took)
			}
		})
	}
}
