package s3_test

import (
	"context"
	"errors"
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

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy/s3"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// A client cannot drop a header that it has signed, or that the owner of a presigned URL has, by naming it in Connection.
func TestConnectionDropsNoSignedHeader(t *testing.T) {
	for name, value := range map[string]string{
		"If-None-Match": "*", "Content-Type": "text/plain", "Cache-Control": "no-store", "X-Amz-Acl": "private", "X-Amz-Meta-A": "b",
		"X-Amz-Server-Side-Encryption": "AES256", "X-Amz-Expected-Bucket-Owner": "111122223333",
	} {
		for _, presign := range []int{0, 60} {
			store := s3test.Start(t, s3test.Options{Buckets: []string{bucket}})
			s := sent{payload: "UNSIGNED-PAYLOAD", body: "x", presign: presign}
			s.before = func(r *http.Request) { r.Header.Set(name, value) }
			s.change = func(r *http.Request) {
				r.Header.Set(name, value) // which the signer may have moved to the query
				r.Header.Set("Connection", "keep-alive, "+name)
			}
			_, text := send(t, http.DefaultClient, s.request(t, serve(t, store, key, "127.0.0.1:0")))
			if presign == 0 && len(store.Requests()) == 0 {
				t.Errorf("%s: refused: %s", name, text)
			}
			for _, r := range store.Requests() {
				if got := r.Header.Get(name); got != value {
					t.Errorf("%s, presigned for %d s: the store got %q, want %q: %s", name, presign, got, value, text)
				}
			}
		}
	}
}

// Only the methods of S3 are signed: a server that knows TRACE sends back the signed header.
func TestOtherMethodsAreRefused(t *testing.T) {
	for _, method := range []string{http.MethodTrace, http.MethodOptions, http.MethodPatch, "PROPFIND", "get", "QUERY"} {
		store := s3test.Start(t, s3test.Options{Buckets: []string{bucket}})
		s := sent{payload: "UNSIGNED-PAYLOAD", before: func(r *http.Request) { r.Method = method }}
		res, text := send(t, http.DefaultClient, s.request(t, serve(t, store, key, "127.0.0.1:0")))
		if res.StatusCode != http.StatusMethodNotAllowed || !strings.Contains(text, "<Code>MethodNotAllowed</Code>") || len(store.Requests()) > 0 {
			t.Errorf("%s: status %d, the store got %d requests: %s", method, res.StatusCode, len(store.Requests()), text)
		}
	}
}

// What a presigned URL has in place of a header must be one.
func TestPresignedHeadersAreChecked(t *testing.T) {
	for _, query := range []string{"X-Amz-Meta-A=b%0d%0aX-Amz-Acl:%20public-read", "X-Amz-Meta-A=%00", "X-Amz-Meta%20A=b", "X-Amz-Meta-%C3%BC=b", "X-Amz-Meta-A:=b", "X-Amz-Meta-A=%7F"} {
		store := s3test.Start(t, s3test.Options{Buckets: []string{bucket}})
		s := sent{presign: 60, body: "x", before: func(r *http.Request) { r.URL.RawQuery = query }}
		res, text := send(t, http.DefaultClient, s.request(t, serve(t, store, key, "127.0.0.1:0")))
		if res.StatusCode != http.StatusBadRequest || !strings.Contains(text, "<Code>InvalidRequest</Code>") || res.Header.Get(proxy.HeaderAttempts) != "0" {
			t.Errorf("%s: status %d after %s attempts: %s", query, res.StatusCode, res.Header.Get(proxy.HeaderAttempts), text)
		}
	}
}

// The transfer coding of a client, and what follows its body, end at the proxy.
func TestTransferCodingEndsAtTheProxy(t *testing.T) {
	got := make(chan *http.Request, 1)
	store := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got <- r
	}))
	t.Cleanup(store.Close)
	endpoint := serve(t, &s3test.Server{URL: store.URL, AccessKey: "id", SecretKey: "secret"}, key, "127.0.0.1:0")
	s := sent{payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", decoded: 6, chunks: signedChunks([]string{"abcdef"}, "", nil)}
	s.change = func(r *http.Request) {
		r.ContentLength, r.TransferEncoding, r.Trailer = -1, []string{"chunked"}, http.Header{"X-Amz-Acl": {"public-read"}}
	}
	res, text := send(t, http.DefaultClient, s.request(t, endpoint))
	if res.StatusCode != http.StatusOK {
		t.Fatal(res.Status, text)
	}
	if r := <-got; r.ContentLength <= 0 || len(r.TransferEncoding) > 0 || len(r.Trailer) > 0 {
		t.Errorf("the store got %d bytes, coding %q, trailer %v", r.ContentLength, r.TransferEncoding, r.Trailer)
	}
}

// oneConn is a listener with one connection.
type oneConn chan net.Conn

func (l oneConn) Accept() (net.Conn, error) {
	if c, ok := <-l; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (l oneConn) Close() error { return nil }
func (oneConn) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// A client that sends nothing of a body that the proxy reads to its end first is dropped, too.
func TestStalledBodiesAreDropped(t *testing.T) {
	const length = " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
	for _, head := range []string{
		"POST /bikes?delete" + length, "POST /bikes/k?uploadId=u" + length, "PUT /bikes/k" + length,
		"PUT /bikes/k" + length + "X-Amz-Content-Sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\nX-Amz-Decoded-Content-Length: 0\r\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			l, policy := make(oneConn, 1), &retry.Policy{MaxAttempts: 1, Observe: func(context.Context, retry.Event) {}}
			base := roundTrip(func(r *http.Request) (*http.Response, error) {
				_, err := io.Copy(io.Discard, r.Body)
				return nil, errors.Join(err, errors.New("no store"))
			})
			c := proxy.Config{Policy: policy, Log: slog.New(slog.DiscardHandler), Base: base}
			c.Upstreams, _ = proxy.ParseUpstreams("--to", []string{"http://s3.test"})
			s3.Apply(&c, s3.Config{Region: "us-east-1", Policy: policy, Credentials: credentials.NewStaticCredentialsProvider("id", "secret", "")})
			ctx, stop := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() { served <- proxy.New(c, l.Addr()).Serve(ctx, l) }()
			client, server := net.Pipe()
			l <- server
			begun := time.Now()
			if _, err := io.WriteString(client, head+"\r\n0"); err != nil {
				t.Error(err)
			}
			_ = client.SetReadDeadline(begun.Add(time.Hour))
			_, _ = client.Read(make([]byte, 1))
			if after := time.Since(begun); after > 3*time.Minute {
				t.Errorf("%q: dropped after %v", head, after)
			}
			client.Close()
			stop()
			close(l)
			<-served
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Bodies that are refused are no failures of the store: they are sent once, and neither open its breaker nor spend its budget.
func TestRefusedBodiesAreNoFailuresOfTheStore(t *testing.T) {
	loose := sent{payload: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", trailer: crcTrailer, decoded: 1 << 20}
	short, wrong := loose, loose
	short.body = "100000\r\n" + strings.Repeat("a", 1000)
	wrong.body = "100000\r\n" + strings.Repeat("a", 1<<20) + "\r\n0\r\nx-amz-checksum-crc32:" + crcOf("b") + "\r\n\r\n"
	for name, s := range map[string]sent{
		"another body": {payload: hexOf("x"), body: strings.Repeat("y", 1<<20)}, "a short stream": short, "a wrong checksum": wrong,
		"a tampered chunk": {payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", decoded: 6, chunks: signedChunks([]string{"uvw", "xyz"}, "", strings.ToUpper)},
	} {
		store := s3test.Start(t, s3test.Options{Buckets: []string{bucket}})
		endpoint := serve(t, store, key, "127.0.0.1:0", func(c *proxy.Config) {
			c.Breakers.FailureThreshold, c.Breakers.RecoveryTimeout = 2, time.Hour
		})
		for range 4 {
			res, text := send(t, http.DefaultClient, s.request(t, endpoint))
			if res.StatusCode >= 500 || res.Header.Get(proxy.HeaderAttempts) != "1" {
				t.Errorf("%s: status %d after %s attempts: %s", name, res.StatusCode, res.Header.Get(proxy.HeaderAttempts), text)
			}
		}
		if _, err := get(t, client(t, endpoint, key), "k"); code(err) != "NoSuchKey" {
			t.Errorf("%s: then %v", name, err)
		}
	}
}
