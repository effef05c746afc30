package s3test_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/seed-0f2c7998/perdure/s3test"
)

const bucket = "bikes"

func start(t *testing.T, o s3test.Options) *s3test.Server {
	t.Helper()
	o.Buckets = append(o.Buckets, bucket)
	return s3test.Start(t, o)
}

// connect returns a client as of LoadDefaultConfig, with a connection pool of its own. It makes that many attempts without a
// wait between them.
func connect(t *testing.T, server *s3test.Server, attempts int, changes ...func(*aws.Config)) *s3.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	config := aws.Config{
		Region:       "eu-central-1",
		BaseEndpoint: aws.String(server.URL),
		Credentials:  credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, ""),
		HTTPClient:   &http.Client{Transport: transport},
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts = attempts
				o.RateLimiter = unlimited{}
				o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return time.Millisecond, nil })
			})
		},
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
	}
	for _, change := range changes {
		change(&config)
	}
	return s3.NewFromConfig(config, func(o *s3.Options) { o.UsePathStyle = true })
}

// unlimited is no retry quota.
type unlimited struct{}

func (unlimited) GetToken(context.Context, uint) (func() error, error) {
	return func() error { return nil }, nil
}
func (unlimited) AddTokens(uint) error { return nil }

func put(t *testing.T, client *s3.Client, key string, body []byte) (*s3.PutObjectOutput, error) {
	t.Helper()
	return client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: bytes.NewReader(body)})
}

func get(t *testing.T, client *s3.Client, key string) ([]byte, error) {
	t.Helper()
	out, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &key})
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(out.Body)
	return body, errors.Join(err, out.Body.Close())
}

// code returns the S3 error code of an error, or "".
func code(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

// pattern returns n bytes that do not repeat.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func TestObjectsComeBackAsTheyWere(t *testing.T) {
	server := start(t, s3test.Options{})
	client := connect(t, server, 1)
	want := pattern(300_000)
	for _, key := range []string{"a", "dir/b", "dir/ü + ?&=%20.csv"} {
		if _, err := put(t, client, key, want); err != nil {
			t.Fatalf("put %q: %v", key, err)
		}
		got, err := get(t, client, key)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("get %q: %d bytes, %v; want the %d that were put", key, len(got), err, len(want))
		}
		if stored, ok := server.Object(bucket, key); !ok || !bytes.Equal(stored, want) {
			t.Errorf("Object(%q) = %d bytes, %v", key, len(stored), ok)
		}
	}
	list, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: aws.String("dir/")})
	if err != nil || len(list.Contents) != 2 {
		t.Errorf("list dir/: %v, %v; want 2 objects", list, err)
	}
	if _, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: aws.String("a")}); err != nil {
		t.Errorf("delete a: %v", err)
	}
	if got, want := server.Keys(bucket), []string{"dir/b", "dir/ü + ?&=%20.csv"}; !slices.Equal(got, want) {
		t.Errorf("Keys = %q, want %q", got, want)
	}
	if _, ok := server.Object(bucket, "a"); ok {
		t.Error("Object(a) after its deletion is still there")
	}
	if got := server.Connections(); got != 1 {
		t.Errorf("%d connections for sequential requests, want 1", got)
	}
}

func TestStoredObjectIsServed(t *testing.T) {
	server := start(t, s3test.Options{})
	if err := server.Store(bucket, "k", []byte("data")); err != nil {
		t.Fatal(err)
	}
	if got, err := get(t, connect(t, server, 1), "k"); err != nil || string(got) != "data" {
		t.Errorf("get: %q, %v", got, err)
	}
	if err := server.Store("nowhere", "k", nil); err == nil || !strings.Contains(err.Error(), `"nowhere"`) {
		t.Errorf("Store in a missing bucket: %v", err)
	}
}

func TestClientSendsAndServerChecksChecksums(t *testing.T) {
	server := start(t, s3test.Options{})
	client := connect(t, server, 1)
	if _, err := put(t, client, "k", []byte("data")); err != nil {
		t.Fatal(err)
	}
	if got := server.Requests()[0].Header.Get("X-Amz-Checksum-Crc32"); got == "" {
		t.Error("the SDK sent no CRC32: the test's client is not the default one")
	}
	_, err := client.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: aws.String(bucket), Key: aws.String("wrong"), Body: strings.NewReader("data"), ChecksumCRC32: aws.String("AAAAAA=="),
	})
	if got := code(err); got != "BadDigest" {
		t.Errorf("put with a wrong CRC32: %v, want BadDigest", err)
	}
	upload := create(t, client, "wrong")
	for name, in := range map[string]*s3.UploadPartInput{
		"crc32":  {ChecksumCRC32: aws.String("AAAAAA==")},
		"crc32c": {ChecksumCRC32C: aws.String("AAAAAA==")},
		"sha1":   {ChecksumSHA1: aws.String("AAAAAAAAAAAAAAAAAAAAAAAAAAA=")},
	} {
		in.Bucket, in.Key, in.UploadId, in.PartNumber = aws.String(bucket), aws.String("wrong"), upload, aws.Int32(1)
		in.Body = strings.NewReader("data")
		if _, err := client.UploadPart(t.Context(), in); code(err) != "BadDigest" {
			t.Errorf("part with a wrong %s: %v, want BadDigest", name, err)
		}
	}
	if _, ok := server.Object(bucket, "wrong"); ok {
		t.Error("an object with a wrong checksum was stored")
	}
}

func TestBodyChangedOnTheWayIsRefused(t *testing.T) {
	server := start(t, s3test.Options{})
	client := connect(t, server, 1, func(c *aws.Config) {
		c.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		c.HTTPClient = changer{}
	})
	if _, err := put(t, client, "k", []byte("data")); code(err) != "BadDigest" {
		t.Errorf("put of a body changed after signing: %v, want BadDigest", err)
	}
}

// changer flips the body's first byte after it was signed.
type changer struct{}

func (changer) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	body[0] ^= 1
	r.Body = io.NopCloser(bytes.NewReader(body))
	return (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
}

func TestRefusals(t *testing.T) {
	server := start(t, s3test.Options{})
	server.Deny("/" + bucket + "/secret/")
	as := func(access, secret string) func(*aws.Config) {
		return func(c *aws.Config) { c.Credentials = credentials.NewStaticCredentialsProvider(access, secret, "") }
	}
	for _, test := range []struct {
		name   string
		change func(*aws.Config)
		bucket string
		key    string
		want   string
	}{
		{"unknown access key", as("stranger", server.SecretKey), bucket, "k", "InvalidAccessKeyId"},
		{"wrong secret", as(server.AccessKey, "wrong"), bucket, "k", "SignatureDoesNotMatch"},
		{"anonymous", func(c *aws.Config) { c.Credentials = aws.AnonymousCredentials{} }, bucket, "k", "AccessDenied"},
		{"denied prefix", nil, bucket, "secret/k", "AccessDenied"},
		{"missing bucket", nil, "nowhere", "k", "NoSuchBucket"},
	} {
		if test.change == nil {
			test.change = func(*aws.Config) {}
		}
		server.Reset()
		client := connect(t, server, 5, test.change)
		_, err := client.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &test.bucket, Key: &test.key, Body: bytes.NewReader(pattern(5 << 20)),
		})
		if code(err) != test.want {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
		if got := server.Count("", ""); got != 1 {
			t.Errorf("%s: %d requests, want 1", test.name, got)
		}
	}
	if _, err := get(t, connect(t, server, 5), "missing"); code(err) != "NoSuchKey" {
		t.Errorf("get of a missing key: %v, want NoSuchKey", err)
	}
}

func TestBadOptions(t *testing.T) {
	for _, test := range []struct {
		options s3test.Options
		want    string
	}{
		{s3test.Options{AccessKey: "ab"}, `Options.AccessKey is "ab", want at least 3 characters`},
		{s3test.Options{Buckets: []string{"No_Bucket"}}, `bucket "No_Bucket"`},
		{s3test.Options{Buckets: []string{"twice", "twice"}}, `bucket "twice"`},
		{s3test.Options{Faults: s3test.Faults{Reset: 1.5}}, "Faults.Reset is 1.5, want a probability 0..1"},
		{s3test.Options{Faults: s3test.Faults{Slow: -1}}, "Faults.Slow is -1, want a probability 0..1"},
		{s3test.Options{Faults: s3test.Faults{Reset: 0.6, Slow: 0.6}}, "add up to 1.2, want at most 1"},
		{s3test.Options{Faults: s3test.Faults{SlowTime: -time.Second}}, "Faults.SlowTime is -1s, want 0 or more"},
	} {
		server, err := s3test.New(test.options)
		if err == nil {
			server.Close()
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("New(%+v): %v, want %q", test.options, err, test.want)
		}
	}
}

func create(t *testing.T, client *s3.Client, key string) *string {
	t.Helper()
	out, err := client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	return out.UploadId
}

// upload sends parts and returns the input of CompleteMultipartUpload.
func upload(t *testing.T, client *s3.Client, key string, parts ...[]byte) *s3.CompleteMultipartUploadInput {
	t.Helper()
	in := &s3.CompleteMultipartUploadInput{
		Bucket: aws.String(bucket), Key: &key, UploadId: create(t, client, key), MultipartUpload: new(types.CompletedMultipartUpload),
	}
	for i, part := range parts {
		number := aws.Int32(int32(i + 1))
		out, err := client.UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: in.Bucket, Key: &key, UploadId: in.UploadId, PartNumber: number, Body: bytes.NewReader(part),
		})
		if err != nil {
			t.Fatal(err)
		}
		in.MultipartUpload.Parts = append(in.MultipartUpload.Parts, types.CompletedPart{ETag: out.ETag, PartNumber: number})
	}
	return in
}

func TestMultipart(t *testing.T) {
	server := start(t, s3test.Options{})
	client := connect(t, server, 1)
	done := upload(t, client, "big", pattern(5<<20), pattern(1000))
	left := upload(t, client, "left", pattern(10))
	if _, err := client.CompleteMultipartUpload(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CompleteMultipartUpload(t.Context(), done); err != nil {
		t.Errorf("completing again, as after a lost response: %v", err)
	}
	want := append(pattern(5<<20), pattern(1000)...)
	if got, err := get(t, client, "big"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("get: %d bytes, %v; want the %d that were put", len(got), err, len(want))
	}
	pending := server.Uploads()
	if len(pending) != 1 || pending[0] != (s3test.Upload{Bucket: bucket, Key: "left", ID: *left.UploadId}) {
		t.Errorf("Uploads = %v, want only %q of key left", pending, *left.UploadId)
	}
	if _, err := client.AbortMultipartUpload(t.Context(), &s3.AbortMultipartUploadInput{
		Bucket: aws.String(bucket), Key: aws.String("left"), UploadId: left.UploadId,
	}); err != nil {
		t.Error(err)
	}
	if pending := server.Uploads(); len(pending) != 0 {
		t.Errorf("Uploads after abort = %v", pending)
	}
}

// race runs write in n goroutines at once and returns how many won; every loser must get PreconditionFailed.
func race(t *testing.T, n int, write func(i int) error) (winners int) {
	t.Helper()
	errs := make([]error, n)
	var ready, done sync.WaitGroup
	ready.Add(1)
	for i := range n {
		done.Go(func() {
			ready.Wait()
			errs[i] = write(i)
		})
	}
	ready.Done()
	done.Wait()
	for _, err := range errs {
		switch {
		case err == nil:
			winners++
		case code(err) != "PreconditionFailed":
			t.Errorf("a loser got %v, want PreconditionFailed", err)
		}
	}
	return winners
}

func TestConditionalWriteHasOneWinner(t *testing.T) {
	server := start(t, s3test.Options{})
	client := connect(t, server, 1)
	const rounds, racers = 20, 16
	for round := range rounds {
		key := fmt.Sprintf("put/%d", round)
		if won := race(t, racers, func(i int) error {
			_, err := client.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: aws.String(bucket), Key: &key, Body: bytes.NewReader(bytes.Repeat([]byte{byte(i)}, 20_000)), IfNoneMatch: aws.String("*"),
			})
			return err
		}); won != 1 {
			t.Errorf("PutObject If-None-Match, round %d: %d winners of %d", round, won, racers)
		}
		first, err := put(t, client, key, []byte("known"))
		if err != nil {
			t.Fatal(err)
		}
		if won := race(t, racers, func(i int) error {
			_, err := client.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: aws.String(bucket), Key: &key, Body: bytes.NewReader([]byte{byte(i)}), IfMatch: first.ETag,
			})
			return err
		}); won != 1 {
			t.Errorf("PutObject If-Match, round %d: %d winners of %d", round, won, racers)
		}
	}
}

func TestConditionalCompleteHasOneWinner(t *testing.T) {
	server := start(t, s3test.Options{})
	client := connect(t, server, 1)
	const rounds, racers = 20, 16
	for round := range rounds {
		key := fmt.Sprintf("complete/%d", round)
		uploads := make([]*s3.CompleteMultipartUploadInput, racers)
		for i := range uploads {
			uploads[i] = upload(t, client, key, bytes.Repeat([]byte{byte(i)}, 100_000))
			uploads[i].IfNoneMatch = aws.String("*")
		}
		if won := race(t, racers, func(i int) error {
			_, err := client.CompleteMultipartUpload(t.Context(), uploads[i])
			return err
		}); won != 1 {
			t.Errorf("CompleteMultipartUpload, round %d: %d winners of %d", round, won, racers)
		}
	}
}

func TestHTTPS(t *testing.T) {
	unstarted := httptest.NewUnstartedServer(nil)
	unstarted.StartTLS()
	certificate := unstarted.TLS.Certificates
	pool := x509.NewCertPool()
	pool.AddCert(unstarted.Certificate())
	unstarted.Close()

	server := start(t, s3test.Options{TLS: &tls.Config{Certificates: certificate}})
	server.SetScript(s3test.Rules(s3test.Rule{Method: "PUT", Nth: []int{1}, Fault: s3test.Reset()}))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	client := connect(t, server, 2, func(c *aws.Config) { c.HTTPClient = &http.Client{Transport: transport} })
	if _, err := put(t, client, "k", pattern(100_000)); err != nil {
		t.Fatal(err)
	}
	if got, err := get(t, client, "k"); err != nil || !bytes.Equal(got, pattern(100_000)) {
		t.Errorf("get over https: %d bytes, %v", len(got), err)
	}
	if got := server.Count("PUT", ""); got != 2 {
		t.Errorf("%d PUTs, want the one that was reset and its retry", got)
	}
}
