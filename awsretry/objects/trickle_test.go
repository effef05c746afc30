package objects_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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

// A response that the SDK reads, and that trickles, is ended after a minute or after MaxElapsed; one to an operation for
// which S3 sends spaces, while it works, after MaxElapsed or an hour.
func TestTricklingResponse(t *testing.T) {
	send := map[string]func(context.Context, *objects.Store) error{
		"list": func(ctx context.Context, s *objects.Store) (err error) {
			for _, err = range s.List(ctx, bucket, "") {
			}
			return err
		},
		"complete": func(ctx context.Context, s *objects.Store) error {
			_, err := s.Put(ctx, bucket, "k", bytes.NewReader(make([]byte, 6<<20)), objects.PutOptions{})
			return err
		},
		"copy": func(ctx context.Context, s *objects.Store) error {
			_, err := s.Copy(ctx, objects.Address{Bucket: bucket, Key: "k"}, objects.Address{Bucket: bucket, Key: "l"})
			return err
		},
	}
	for _, row := range []struct {
		request       string
		elapsed, want time.Duration
	}{
		{"list", 0, time.Minute},
		{"list", 10 * time.Second, 10 * time.Second},
		{"complete", 0, time.Hour},
		{"complete", 10 * time.Second, 10 * time.Second},
		{"copy", 0, time.Hour},
		{"copy", 10 * time.Second, 10 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			network := &http.Client{Transport: servertest.InBubble(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("ETag", `"v1"`)
				switch {
				case r.Method == http.MethodHead:
					w.Header().Set("Content-Length", "1")
				case r.URL.Query().Has("uploads"):
					_, _ = w.Write([]byte("<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"))
				case r.Method == http.MethodGet, r.Method == http.MethodPost, r.Header.Get("X-Amz-Copy-Source") != "":
					for r.Context().Err() == nil {
						_, _ = w.Write([]byte(" "))
						_ = http.NewResponseController(w).Flush()
						select {
						case <-time.After(time.Second):
						case <-r.Context().Done():
						}
					}
				}
			}))}
			store, err := objects.New(aws.Config{
				Region: region, BaseEndpoint: aws.String("http://store"), HTTPClient: network,
				Credentials: credentials.NewStaticCredentialsProvider("access", "secret", ""),
			}, objects.Options{PartSize: 5 << 20, Policy: &retry.Policy{MaxAttempts: 1, MaxElapsed: row.elapsed, Observe: func(context.Context, retry.Event) {}}})
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			err = send[row.request](t.Context(), store)
			took := time.Since(began)
			if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() || took < row.want || took > 2*row.want+time.Minute {
				t.Errorf("%s with MaxElapsed %v: %v after %v, want a timeout after %v", row.request, row.elapsed, err, took, row.want)
			}
		})
	}
}
