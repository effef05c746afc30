package s3_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy/s3"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A slow is a store, as the proxy's base, whose first body sends a byte each 5 s and breaks after an hour.
type slow struct {
	signed []time.Duration // how old each signature was
	wait   func()          // before each byte
}

func (s *slow) RoundTrip(req *http.Request) (*http.Response, error) {
	at, _ := time.Parse("20060102T150405Z", req.Header.Get("X-Amz-Date"))
	s.signed = append(s.signed, time.Since(at))
	res := &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Etag": {`"a"`}}, Request: req, ContentLength: 1000}
	res.Body = io.NopCloser(&trickle{wait: s.wait})
	if req.Header.Get("Range") != "" {
		res.StatusCode, res.ContentLength = http.StatusPartialContent, 280
		res.Header.Set("Content-Range", "bytes 720-999/1000")
		res.Body = io.NopCloser(strings.NewReader(strings.Repeat("x", 280)))
	}
	return res, nil
}

type trickle struct {
	n    int
	wait func()
}

func (b *trickle) Read(p []byte) (int, error) {
	if b.n++; b.n > 720 {
		return 0, io.ErrUnexpectedEOF
	}
	b.wait()
	p[0] = 'x'
	return 1, nil
}

// A body that is resumed after an hour is requested with a signature of that time.
func TestAResumeAfterAnHourIsSignedThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, policy := &slow{wait: func() { time.Sleep(5 * time.Second) }}, &retry.Policy{Observe: func(context.Context, retry.Event) {}} //nolint:forbidigo // of the bubble
		c := proxy.Config{Policy: policy, Log: slog.New(slog.DiscardHandler), Base: base, Breakers: circuit.Config{FailureThreshold: circuit.Off}}
		var err error
		if c.Upstreams, err = proxy.ParseUpstreams("--to", []string{"http://s3.test"}); err != nil {
			t.Fatal(err)
		}
		s3.Apply(&c, s3.Config{Region: "us-east-1", Policy: policy, Credentials: credentials.NewStaticCredentialsProvider("id", "secret", "")})
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/bikes/k", http.NoBody)
		proxy.New(c, &net.UnixAddr{}).ServeHTTP(w, r)
		if got := w.Body.String(); got != strings.Repeat("x", 1000) {
			t.Errorf("%d: %d bytes, want 1000", w.Code, len(got))
		}
		if len(base.signed) != 2 || base.signed[1] > time.Second {
			t.Errorf("the signatures are %v old, want two of their time", base.signed)
		}
	})
}
