package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy/s3"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

const bucket = "bikes"

var key = s3.Key{ID: "PERDUREOFTHETEST", Secret: "a-secret-that-only-clients-know"}

// serve serves a proxy in front of a store until the test ends, and returns its URL.
func serve(t *testing.T, store *s3test.Server, k s3.Key, listen string, change ...func(*proxy.Config)) string {
	t.Helper()
	policy := &retry.Policy{MaxAttempts: 4, BaseDelay: time.Millisecond, Jitter: retry.NoJitter, Observe: func(context.Context, retry.Event) {}}
	c := proxy.Config{Policy: policy, Log: slog.New(slog.DiscardHandler)}
	c.Breakers.FailureThreshold = circuit.Off
	var err error
	if c.Upstreams, err = proxy.ParseUpstreams("--to", []string{store.URL}); err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(&c)
	}
	s3.Apply(&c, s3.Config{
		Region: "us-east-1", Key: k, Policy: policy,
		Credentials: credentials.NewStaticCredentialsProvider(store.AccessKey, store.SecretKey, ""),
	})
	l, err := proxy.Listen(t.Context(), "--listen", listen, false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- proxy.New(c, l.Addr()).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return "http://" + l.Addr().String()
}

// start starts a store with our bucket and these faults, and a proxy in front of it. The client makes one attempt.
func start(t *testing.T, rules ...s3test.Rule) (*s3test.Server, *awss3.Client) {
	t.Helper()
	store := s3test.Start(t, s3test.Options{Buckets: []string{bucket}, Script: s3test.Rules(rules...)})
	return store, client(t, serve(t, store, key, "127.0.0.1:0"), key)
}

// client returns a client that makes one attempt.
func client(t *testing.T, endpoint string, k s3.Key) *awss3.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	o := awss3.Options{
		BaseEndpoint: &endpoint, Region: "eu-central-1", UsePathStyle: true, Retryer: aws.NopRetryer{}, HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider(k.ID, k.Secret, ""),
	}
	return awss3.New(o)
}

func put(t *testing.T, c *awss3.Client, name string, body []byte, change ...func(*awss3.PutObjectInput)) error {
	t.Helper()
	in := &awss3.PutObjectInput{Bucket: aws.String(bucket), Key: &name, Body: bytes.NewReader(body)}
	for _, f := range change {
		f(in)
	}
	_, err := c.PutObject(t.Context(), in)
	return err
}

func get(t *testing.T, c *awss3.Client, name string) ([]byte, error) {
	t.Helper()
	out, err := c.GetObject(t.Context(), &awss3.GetObjectInput{Bucket: aws.String(bucket), Key: &name})
	if err != nil {
		return nil, err
	}
	defer out.Body.Close()
	return io.ReadAll(out.Body)
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func code(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

// faults are those that a store may meet at any request.
func faults() []s3test.Fault {
	return []s3test.Fault{
		s3test.SlowDown(), s3test.InternalError(), s3test.TooManyRequests(0), s3test.Failure(400, "RequestTimeout"), s3test.Failure(409, "OperationAborted"),
		s3test.Reset(), s3test.Hangup(), s3test.LostResponse(), s3test.ErrorIn200(),
		{Kind: s3test.Error, Status: 500, Code: "InternalError", Applied: true},
	}
}

// Each operation ends well although its first attempt fails, and its second in another way.
func TestOperationsEndWellUnderFaults(t *testing.T) {
	for i, fault := range faults() {
		second := faults()[(i+4)%len(faults())]
		t.Run(fault.String()+" and "+second.String(), func(t *testing.T) {
			if fault.Status == 200 || second.Status == 200 { // only responses with a document have their errors in it
				second = s3test.SlowDown()
			}
			script := func(r s3test.Request) s3test.Fault {
				isDocument := slices.Contains([]string{"CopyObject", "CompleteMultipartUpload", "CreateMultipartUpload", "DeleteObjects"}, r.Operation)
				switch {
				case r.Operation == "HeadObject" && (fault.Status == 400 || fault.Status == 409): // without a body nothing tells the code
				case r.N == 1 && (fault.Status != 200 || isDocument):
					return fault
				case r.N == 2 && r.Operation != "HeadObject":
					return second
				}
				return s3test.Fault{}
			}
			store := s3test.Start(t, s3test.Options{Buckets: []string{bucket}, Script: script})
			c := client(t, serve(t, store, key, "127.0.0.1:0"), key)
			workload(t, store, c)
		})
	}
}

// workload uses each operation once.
func workload(t *testing.T, store *s3test.Server, c *awss3.Client) {
	t.Helper()
	body := pattern(300_000)
	if err := put(t, c, "a b+ü!/(1)", body); err != nil {
		t.Errorf("PutObject: %v", err)
	}
	if err := put(t, c, "empty", nil); err != nil {
		t.Errorf("PutObject of no bytes: %v", err)
	}
	if err := put(t, c, "once", body, func(in *awss3.PutObjectInput) { in.IfNoneMatch = aws.String("*") }); err != nil {
		t.Errorf("conditional PutObject: %v", err)
	}
	if got, err := get(t, c, "a b+ü!/(1)"); err != nil || !bytes.Equal(got, body) {
		t.Errorf("GetObject: %d bytes, %v, want %d", len(got), err, len(body))
	}
	if _, err := c.CopyObject(t.Context(), &awss3.CopyObjectInput{Bucket: aws.String(bucket), Key: aws.String("copy"), CopySource: aws.String(bucket + "/once")}); err != nil {
		t.Errorf("CopyObject: %v", err)
	}
	whole := multipart(t, c, "parts")
	if got, _ := store.Object(bucket, "parts"); !bytes.Equal(got, whole) {
		t.Errorf("the object of parts has %d bytes, want %d", len(got), len(whole))
	}
	list, err := c.ListObjectsV2(t.Context(), &awss3.ListObjectsV2Input{Bucket: aws.String(bucket)})
	if err != nil || len(list.Contents) != 5 {
		t.Errorf("ListObjectsV2: %v, want 5 keys", err)
	}
	if _, err := c.DeleteObject(t.Context(), &awss3.DeleteObjectInput{Bucket: aws.String(bucket), Key: aws.String("copy")}); err != nil {
		t.Errorf("DeleteObject: %v", err)
	}
	several := &types.Delete{Objects: []types.ObjectIdentifier{{Key: aws.String("empty")}, {Key: aws.String("once")}}}
	if out, err := c.DeleteObjects(t.Context(), &awss3.DeleteObjectsInput{Bucket: aws.String(bucket), Delete: several}); err != nil || len(out.Errors) > 0 {
		t.Errorf("DeleteObjects: %v", err)
	}
	if keys := store.Keys(bucket); !slices.Equal(keys, []string{"a b+ü!/(1)", "parts"}) {
		t.Errorf("at the end the store has %q", keys)
	}
}

// multipart uploads an object in two parts, and returns its bytes.
func multipart(t *testing.T, c *awss3.Client, name string) []byte {
	t.Helper()
	parts := [][]byte{pattern(5 << 20), pattern(1000)}
	created, err := c.CreateMultipartUpload(t.Context(), &awss3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: &name})
	if err != nil {
		t.Errorf("CreateMultipartUpload: %v", err)
		return nil
	}
	var done types.CompletedMultipartUpload
	for i, part := range parts {
		n := int32(i + 1)
		out, err := c.UploadPart(t.Context(), &awss3.UploadPartInput{Bucket: aws.String(bucket), Key: &name, UploadId: created.UploadId, PartNumber: &n, Body: bytes.NewReader(part)})
		if err != nil {
			t.Errorf("UploadPart: %v", err)
			return nil
		}
		done.Parts = append(done.Parts, types.CompletedPart{PartNumber: &n, ETag: out.ETag})
	}
	if _, err := c.CompleteMultipartUpload(t.Context(), &awss3.CompleteMultipartUploadInput{Bucket: aws.String(bucket), Key: &name, UploadId: created.UploadId, MultipartUpload: &done}); err != nil {
		t.Errorf("CompleteMultipartUpload: %v", err)
	}
	return bytes.Join(parts, nil)
}

// A body that breaks is resumed by a request that is signed again.
func TestABodyIsResumed(t *testing.T) {
	store, c := start(t, s3test.Rule{Method: "GET", Nth: []int{1, 2}, Fault: s3test.CutBody(100_000)})
	body := pattern(1 << 20)
	if err := store.Store(bucket, "k", body); err != nil {
		t.Fatal(err)
	}
	if got, err := get(t, c, "k"); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes, %v, want %d", len(got), err, len(body))
	}
	if n := len(store.Requests()); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}

// The put of another client is not taken for the own one, and a true refusal stays one.
func TestConditionalPuts(t *testing.T) {
	once := func(in *awss3.PutObjectInput) { in.IfNoneMatch = aws.String("*") }
	store, c := start(t, s3test.Rule{Method: "PUT", Prefix: "/bikes/own", Nth: []int{1}, Fault: s3test.LostResponse()},
		s3test.Rule{Method: "PUT", Prefix: "/bikes/other", Nth: []int{1}, Fault: s3test.Hangup()})
	if err := put(t, c, "own", pattern(10), once); err != nil {
		t.Errorf("a put whose response was lost: %v", err)
	}
	if err := put(t, c, "own", pattern(10), once); code(err) != "PreconditionFailed" {
		t.Errorf("a second put: %v, want PreconditionFailed", err)
	}
	if err := store.Store(bucket, "other", []byte("of another client")); err != nil {
		t.Fatal(err)
	}
	if err := put(t, c, "other", pattern(10), once); code(err) != "OutcomeUnknown" {
		t.Errorf("a put of which nothing is known: %v, want OutcomeUnknown", err)
	}
}

// A client on a Unix socket needs no signature.
func TestUnixSocket(t *testing.T) {
	store := s3test.Start(t, s3test.Options{Buckets: []string{bucket}, Script: s3test.Rules(s3test.Rule{Method: "PUT", Nth: []int{1}, Fault: s3test.SlowDown()})})
	path := filepath.Join(t.TempDir(), "s")
	serve(t, store, s3.Key{}, "unix:"+path)
	res := unix(t, path, http.MethodPut, "http://localhost/bikes/k", "hello")
	if got, _ := store.Object(bucket, "k"); res.StatusCode != http.StatusOK || string(got) != "hello" {
		t.Errorf("status %d, the store has %q", res.StatusCode, got)
	}
}

// While the breaker is open, clients get S3's SlowDown with Retry-After.
func TestBreakerOpen(t *testing.T) {
	store := s3test.Start(t, s3test.Options{Buckets: []string{bucket}, Script: s3test.Rules(s3test.Rule{Fault: s3test.InternalError()})})
	endpoint := serve(t, store, key, "127.0.0.1:0", func(c *proxy.Config) {
		c.Breakers.FailureThreshold, c.Breakers.RecoveryTimeout = 2, time.Hour
	})
	c := client(t, endpoint, key)
	_, _ = get(t, c, "k")
	_, err := get(t, c, "k")
	if code(err) != "SlowDown" || !strings.Contains(fmt.Sprint(err), "StatusCode: 503") {
		t.Errorf("%v, want 503 SlowDown", err)
	}
}

// Virtual-host style reaches no bucket, and the response says what to do.
func TestVirtualHostStyle(t *testing.T) {
	store := s3test.Start(t, s3test.Options{Buckets: []string{bucket}})
	endpoint, err := url.Parse(serve(t, store, key, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, endpoint.String()+"/k", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = bucket + ".localhost:" + endpoint.Port()
	res, text := send(t, http.DefaultClient, req)
	if res.StatusCode < 400 || !strings.Contains(text, "<Code>AccessDenied</Code>") || !strings.Contains(text, "path-style") {
		t.Errorf("status %d: %s", res.StatusCode, text)
	}
}
