package awsretry_test

import (
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sso"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A hostile server counts its requests.
type hostile struct {
	*httptest.Server
	requests atomic.Int64
}

func startHostile(t *testing.T, serve http.HandlerFunc) *hostile {
	t.Helper()
	h := new(hostile)
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.requests.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		serve(w, r)
	}))
	t.Cleanup(h.Close)
	return h
}

// counted returns a client of the SDK that adds the bytes that it reads to n. A server would count what it writes, of
// which the kernel holds up to 37 MB.
func counted(n *atomic.Int64) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTransportOptions(func(transport *http.Transport) {
		dial := transport.DialContext
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			return countingConn{conn, n}, err
		}
	})
}

type countingConn struct {
	net.Conn
	n *atomic.Int64
}

func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// endless writes text again and again until the client has gone.
func endless(w io.Writer, text string) {
	block := []byte(strings.Repeat(text, 1+(64<<10)/len(text)))
	for {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

func TestHostileResponsesAreLimited(t *testing.T) {
	const mib = 1 << 20
	list := func(ctx context.Context, c *s3.Client) error {
		_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(bucket)})
		return err
	}
	get := func(ctx context.Context, c *s3.Client) error {
		out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("k")})
		if err == nil {
			out.Body.Close()
		}
		return err
	}
	status := func(code int, header ...string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
		}
	}
	for name, tt := range map[string]struct {
		head     func(http.ResponseWriter)
		body     string // again and again; "": none
		call     func(context.Context, *s3.Client) error
		requests int64
		read     int64 // of each response, but for what a connection's buffer holds
		limit    int64 // of the LimitError; 0 means another error
	}{
		"error of a listing":         {status(403), "<Error><Code>", list, 1, mib, mib},
		"error that is retried":      {status(503), "x", list, 5, mib, mib},
		"error of an object":         {status(404), "<Error><Message>x", get, 1, mib, mib},
		"page of long names":         {status(200), "<ListBucketResult>" + strings.Repeat("k", 1000), list, 1, 64 * mib, 64 * mib},
		"page of many tags":          {status(200), "<ListBucketResult>", list, 1, 18 * mib, 1 << 20},
		"page of blanks":             {status(200), " ", list, 1, mib, 0},
		"header":                     {status(200, "X-Long", strings.Repeat("x", 2*mib)), "", list, 1, 2 * mib, mib},
		"header of an error":         {status(503, "X-Long", strings.Repeat("x", 2*mib)), "", list, 5, 2 * mib, mib},
		"header, longer still":       {status(200, "X-Long", strings.Repeat("x", 12*mib)), "", list, 5, 10 * mib, 0},
		"length of 2^62":             {status(200, "Content-Length", "4611686018427387904"), "", list, 5, 0, 0},
		"length of 2^46":             {status(200, "Content-Length", "70368744177664"), "", list, 5, 0, 0},
		"error with length of 2^62":  {status(403, "Content-Length", "4611686018427387904"), "", list, 1, 0, 0},
		"object with length of 2^62": {status(200, "Content-Length", "4611686018427387904", "Etag", `"x"`), "", get, 1, 0, 1 << 50},
		"range of 2^62":              {status(206, "Content-Range", "bytes 0-0/4611686018427387904", "Etag", `"x"`), "", get, 1, 0, 1 << 50},
	} {
		t.Run(name, func(t *testing.T) {
			server := startHostile(t, func(w http.ResponseWriter, _ *http.Request) {
				tt.head(w)
				if tt.body != "" {
					endless(w, tt.body)
				}
			})
			p := quick()
			var read atomic.Int64
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := tt.call(t.Context(), client(server.URL, &p, counted(&read)))
			runtime.ReadMemStats(&after)
			e, ok := errors.AsType[*httpretry.LimitError](err)
			if ok != (tt.limit > 0) || ok && e.Limit != tt.limit || err == nil {
				t.Errorf("%.300v, want a LimitError of %d (0: another error)", err, tt.limit)
			}
			if n := server.requests.Load(); n != tt.requests || read.Load() > n*(tt.read+64<<10) {
				t.Errorf("%d requests, want %d; %d bytes were read, want %d of each", n, tt.requests, read.Load(), tt.read)
			}
			if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 1<<30 {
				t.Errorf("%d bytes were allocated", allocated)
			}
			if err != nil && len(err.Error()) > 8<<10 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

// The SDK reads the body of a failed response to its end before it closes it. It used to get a body above the limit
// without the limit, and read on while another goroutine closed the connection.
func TestNothingIsReadBeyondTheLimit(t *testing.T) {
	closed, end := context.WithCancel(t.Context())
	defer end()
	body := &slowToClose{Reader: strings.NewReader(strings.Repeat("x", 64<<20)), closed: closed, end: end}
	p := quick()
	doer := clientFunc(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusForbidden, Header: http.Header{}, Body: body, Request: r}, nil
	})
	_, err := client("http://store", &p, doer).ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket)})
	if _, ok := errors.AsType[*httpretry.LimitError](err); !ok || body.read > 1<<20+1 {
		t.Errorf("%v after %d bytes, want a LimitError after 1 MiB and one byte", err, body.read)
	}
}

// A slowToClose counts the bytes read from it. Its Close returns when closed ends, as it does at the end of the body.
type slowToClose struct {
	io.Reader

	closed context.Context
	end    func()
	read   int
}

func (b *slowToClose) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if b.read += n; err != nil {
		b.end()
	}
	return n, err
}

func (b *slowToClose) Close() error {
	<-b.closed.Done()
	return nil
}

// observed is quick, and logs each event, so that a failure shows the error of each attempt.
func observed(t *testing.T) retry.Policy {
	t.Helper()
	p := quick()
	p.Observe = func(_ context.Context, e retry.Event) {
		t.Logf("attempt %d: %v, %v: %.300v", e.Attempt, e.Kind, e.Class, e.Err)
	}
	return p
}

// configure returns a configuration for clients of any service at that address.
func configure(address string, p *retry.Policy) aws.Config {
	cfg := aws.Config{
		Region: "eu-central-1", BaseEndpoint: &address, Credentials: credentials.NewStaticCredentialsProvider("access", "secret", ""),
	}
	awsretry.Apply(&cfg, p)
	return cfg
}

// A gzip bomb is limited by its decompressed size, where a layer below the SDK decompresses.
func TestGzipBombIsLimited(t *testing.T) {
	server := startHostile(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "gzip" {
			t.Errorf("Accept-Encoding: %q", r.Header.Get("Accept-Encoding"))
		}
		w.Header().Set("Content-Encoding", "gzip")
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
		endless(z, "x")
	})
	p := observed(t)
	_, err := sts.NewFromConfig(configure(server.URL, &p)).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if e, ok := errors.AsType[*httpretry.LimitError](err); !ok || e.Limit != 64<<20 || server.requests.Load() != 1 {
		t.Errorf("%.300v after %d requests, want a LimitError after one", err, server.requests.Load())
	}
}

// The structures that the SDK makes of XML take many times its memory: nested tags of 64 MiB took more than 1 GiB. An
// XML document of any service has a limit of tags; other formats, and streams, have none.
func TestTagsOfADocumentAreLimited(t *testing.T) {
	identity := func(ctx context.Context, cfg aws.Config) error {
		_, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		return err
	}
	tagging := func(ctx context.Context, cfg aws.Config) error {
		_, err := s3.NewFromConfig(cfg, pathStyle).GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: aws.String(bucket), Key: aws.String("k")})
		return err
	}
	accounts := func(ctx context.Context, cfg aws.Config) error {
		_, err := sso.NewFromConfig(cfg).ListAccounts(ctx, &sso.ListAccountsInput{AccessToken: aws.String("t")})
		return err
	}
	object := func(ctx context.Context, cfg aws.Config) error {
		out, err := s3.NewFromConfig(cfg, pathStyle).GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("k")})
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, out.Body)
		return errors.Join(err, out.Body.Close())
	}
	const most = 1 << 20
	for name, tt := range map[string]struct {
		call               func(context.Context, aws.Config) error
		before, each, last string
		limited            bool
	}{
		"nested, of STS":         {identity, "", "<a>", "", true},
		"after text, of STS":     {identity, "{}", "<a>", "", true},
		"beside, of STS":         {identity, "<GetCallerIdentityResponse>", "<a/>", "<GetCallerIdentityResult/></GetCallerIdentityResponse>", true},
		"of an operation of S3":  {tagging, "<Tagging>", "<a/>", "</Tagging>", true},
		"within a string (JSON)": {accounts, `{"nextToken": "`, "<", `"}`, false},
		"of an object":           {object, "<a>", "<b/>", "</a>", false},
	} {
		t.Run(name, func(t *testing.T) {
			server := startHostile(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("ETag", `"x"`)
				_, _ = io.WriteString(w, tt.before+strings.Repeat(tt.each, most+1)+tt.last)
			})
			p := observed(t)
			err := tt.call(t.Context(), configure(server.URL, &p))
			e, limited := errors.AsType[*httpretry.LimitError](err)
			if limited != tt.limited || limited && e.Limit != most || !limited && err != nil || server.requests.Load() != 1 {
				t.Errorf("%.300v after %d requests, want a LimitError: %t, after one", err, server.requests.Load(), tt.limited)
			}
		})
	}
}

// A body that the caller reads as a stream has no limit.
func TestStreamsHaveNoLimit(t *testing.T) {
	const size = 70 << 20
	server := startHostile(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"x"`)
		for range size >> 20 {
			_, _ = w.Write(make([]byte, 1<<20))
		}
	})
	p := quick()
	out, err := client(server.URL, &p, nil).GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("k")})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	if n, err := io.Copy(io.Discard, out.Body); n != size || err != nil {
		t.Errorf("%d bytes, %v, want %d", n, err, size)
	}
}

// calls are the operations for which the page of another web server must not count as a success.
var calls = map[string]func(context.Context, *s3.Client) error{
	"HeadObject": func(ctx context.Context, c *s3.Client) error { return head(ctx, c) },
	"GetObject": func(ctx context.Context, c *s3.Client) error {
		_, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("k")})
		return err
	},
	"PutObject": func(ctx context.Context, c *s3.Client) error {
		_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String("k"), Body: strings.NewReader("x")})
		return err
	},
	"ListObjectsV2": func(ctx context.Context, c *s3.Client) error {
		_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(bucket)})
		return err
	},
	"ListMultipartUploads": func(ctx context.Context, c *s3.Client) error {
		_, err := c.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket)})
		return err
	},
	"CreateMultipartUpload": func(ctx context.Context, c *s3.Client) error {
		_, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String("k")})
		return err
	},
	"CompleteMultipartUpload": func(ctx context.Context, c *s3.Client) error {
		_, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String("k"), UploadId: aws.String("u")})
		return err
	},
	"CopyObject": func(ctx context.Context, c *s3.Client) error {
		_, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String(bucket), Key: aws.String("k"), CopySource: aws.String("a/b")})
		return err
	},
	"DeleteObjects": func(ctx context.Context, c *s3.Client) error {
		_, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{
			Bucket: aws.String(bucket), Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: aws.String("k")}}},
		})
		return err
	},
}

// unhealthy returns a policy, and its breaker, which opens at the first failure.
func unhealthy() (retry.Policy, *circuit.Breaker) {
	p := quick()
	p.Breaker = circuit.New("store", circuit.Config{FailureThreshold: 1, Observe: func(context.Context, circuit.Transition) {}})
	return p, p.Breaker
}

func TestPageOfAnotherServerIsNotS3(t *testing.T) {
	for kind, body := range map[string]string{
		"text/html":                "<!DOCTYPE html>\n<html><head><meta charset=utf-8><title>Welcome & more</title></head></html>",
		"application/json":         `{"status": "ok"}`,
		"text/plain":               "",
		"application/octet-stream": "\x00\x00\x01", // was an empty listing, since what XML can't hold is replaced in keys
		"application/xml":          "<?xml version=\"1.0\"?>\n<feed/>",
	} {
		server := startHostile(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind+"; charset=utf-8")
			_, _ = io.WriteString(w, body)
		})
		for operation, call := range calls {
			before := server.requests.Load()
			p, breaker := unhealthy()
			err := call(t.Context(), client(server.URL, &p, nil))
			e, ok := errors.AsType[*awsretry.NotS3Error](err)
			if !ok || e.Server != server.URL || e.ContentType != kind || !strings.HasSuffix(err.Error(), server.URL+" is not an S3 store: it responded with "+kind) {
				t.Errorf("%s with %s: %v", operation, kind, err)
			}
			if n := server.requests.Load() - before; n != 1 || breaker.State() != circuit.Closed {
				t.Errorf("%s with %s: %d requests, the breaker is %v, want 1, closed", operation, kind, n, breaker.State())
			}
		}
	}
}

// A page that cannot be parsed would be the same again, and the store is healthy.
func TestPageThatCannotBeParsedIsNoFailureOfTheStore(t *testing.T) {
	for _, page := range []string{
		"<ListBucketResult><Contents><Key>a\x01b</Key></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Key>a&#1;b</Key></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Size>many</Size></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><LastModified>yesterday</LastModified></Contents></ListBucketResult>",
		"<ListBucketResult></Contents>",
	} {
		server := startHostile(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, page) })
		p, breaker := unhealthy()
		err := calls["ListObjectsV2"](t.Context(), client(server.URL, &p, nil))
		if err == nil || server.requests.Load() != 1 || breaker.State() != circuit.Closed {
			t.Errorf("%q: %v after %d requests, the breaker is %v, want an error after 1, closed", page, err, server.requests.Load(), breaker.State())
		}
	}
}

// Such a page is not a success either: failures before and after it are consecutive.
func TestPageThatCannotBeParsedIsNoSuccessOfTheStore(t *testing.T) {
	requests := 0
	server := startHostile(t, func(w http.ResponseWriter, _ *http.Request) {
		if requests++; requests == 2 {
			_, _ = io.WriteString(w, "<ListBucketResult></Contents>")
			return
		}
		w.WriteHeader(http.StatusInternalServerError)
	})
	p := quick()
	p.MaxAttempts = 1
	p.Breaker = circuit.New("store", circuit.Config{FailureThreshold: 2, Observe: func(context.Context, circuit.Transition) {}})
	for n, want := range []circuit.State{circuit.Closed, circuit.Closed, circuit.Open} {
		err := calls["ListObjectsV2"](t.Context(), client(server.URL, &p, nil))
		if state := p.Breaker.State(); err == nil || state != want {
			t.Errorf("after call %d the breaker is %v, want %v; %v", n+1, state, want, err)
		}
	}
}

// A store may send a request's secrets back: no error shows them.
func TestErrorsShowNoSecretsThatComeBack(t *testing.T) {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	encoded := base64.StdEncoding.EncodeToString(key)
	const token = "session+token/with=signs"
	for name, form := range map[string]func(string) string{
		"plain": func(s string) string { return html.EscapeString(s) }, // as it is, in XML
		"query": url.QueryEscape,
		"twice": func(s string) string { return html.EscapeString(html.EscapeString(s)) },
		"by number": func(s string) string { // which is plain only when it has been decoded
			var b strings.Builder
			for _, r := range s {
				fmt.Fprintf(&b, "&#%d;", r)
			}
			return b.String()
		},
	} {
		server := startHostile(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Amz-Request-Id", r.Header.Get("X-Amz-Server-Side-Encryption-Customer-Key"))
			w.Header().Set("X-Amz-Id-2", r.Header.Get("X-Amz-Security-Token"))
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>level=error\n\u009b31m &#x85;", form(r.Header.Get("Authorization")))
			for _, values := range r.Header {
				fmt.Fprint(w, form(values[0]), " ")
			}
			fmt.Fprint(w, "</Message></Error>")
		})
		cfg := aws.Config{
			Region: "eu-central-1", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("access", "secret", token),
		}
		p := quick()
		awsretry.Apply(&cfg, &p)
		_, err := s3.NewFromConfig(cfg, pathStyle).GetObject(t.Context(), &s3.GetObjectInput{
			Bucket: aws.String(bucket), Key: aws.String("k"), SSECustomerAlgorithm: aws.String("AES256"), SSECustomerKey: &encoded,
		})
		for text := range map[string]bool{fmt.Sprint(err): true, awsretry.Brief(err): true} {
			for _, secret := range []string{encoded, token, "Signature=0", form(encoded), form(token), url.QueryEscape(encoded)} {
				if strings.Contains(text, secret) {
					t.Errorf("%s: %q shows %q", name, text, secret)
				}
			}
			if !strings.Contains(text, "REDACTED") || text != redact.Line(text) {
				t.Errorf("%s: %q is not what the store says, in one line, without secrets", name, text)
			}
		}
	}
}

// A modeled error has the store's texts in fields as well: those are cleaned, too.
func TestFieldsOfErrorsShowNoSecretsThatComeBack(t *testing.T) {
	key := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	server := startHostile(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "<Error><Code>InvalidObjectState</Code><StorageClass>of %s</StorageClass></Error>", r.Header.Get("X-Amz-Server-Side-Encryption-Customer-Key"))
	})
	p := quick()
	_, err := client(server.URL, &p, nil).GetObject(t.Context(), &s3.GetObjectInput{
		Bucket: aws.String(bucket), Key: aws.String("k"), SSECustomerAlgorithm: aws.String("AES256"), SSECustomerKey: &key,
	})
	e, ok := errors.AsType[*types.InvalidObjectState](err)
	if !ok || e.StorageClass != "of REDACTED" {
		t.Errorf("%v: the storage class is %+v, want \"of REDACTED\"", err, e)
	}
}
