package awsretry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

func TestBrief(t *testing.T) {
	server := s3test.Start(t, s3test.Options{Buckets: []string{"bikes"}})
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String(server.URL), UsePathStyle: true, Region: "us-east-1",
		Credentials: aws.NewCredentialsCache(aws.AnonymousCredentials{}), RetryMaxAttempts: 1,
	})
	_, denied := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("bikes"), Key: aws.String("k")})
	server.SetScript(func(s3test.Request) s3test.Fault { return s3test.SlowDown() })
	_, slow := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("bikes"), Key: aws.String("k")})
	html := func(status int) error {
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<html><head><meta charset=utf-8></head></html>")
		}))
		defer other.Close()
		p := retry.Policy{MaxAttempts: 1}
		cfg := aws.Config{BaseEndpoint: aws.String(other.URL), Region: "us-east-1", Credentials: aws.AnonymousCredentials{}}
		awsretry.Apply(&cfg, &p)
		_, err := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }).
			ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("bikes")})
		return errors.New(strings.ReplaceAll(awsretry.Brief(err), other.URL, "URL"))
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{html(200), "URL is not an S3 store: it responded with text/html"},
		{html(501), "501 Not Implemented, but not an error of the service: is the endpoint another server's?"},
	} {
		if c.err.Error() != c.want {
			t.Errorf("Brief of another server's response is %q, want %q", c.err, c.want)
		}
	}
	terse := func(status int, body string) error {
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		defer other.Close()
		_, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("bikes"), Key: aws.String("k")},
			func(o *s3.Options) { o.BaseEndpoint = aws.String(other.URL) })
		return err
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{terse(503, "<Error><Code>SlowDown</Code></Error>"), "503 SlowDown"},
		{terse(403, ""), "403 Forbidden"},
		{denied, "403 AccessDenied: Access Denied"},
		{fmt.Errorf("around: %w", slow), "503 SlowDown: s3test: an injected fault"},
		{errors.New("SlowDown"), ""},
		{io.ErrUnexpectedEOF, ""},
		{nil, ""},
	} {
		if got := awsretry.Brief(c.err); got != c.want {
			t.Errorf("Brief(%v) = %q, want %q", c.err, got, c.want)
		}
	}
}

// Object returns the object of any failed attempt's event, and nothing for another error.
func TestObject(t *testing.T) {
	ctx := t.Context()
	server := start(t, s3test.Rule{Nth: []int{1, 3}, Fault: s3test.SlowDown()})
	var of []string
	p := quick()
	p.Observe = func(_ context.Context, e retry.Event) {
		if e.Kind == retry.Retrying {
			name, key := awsretry.Object(e.Err)
			of = append(of, name+"/"+key)
		}
	}
	client := connect(t, server, &p)
	err := put(ctx, client, "raw/a b", []byte("x"))
	_, listed := client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(bucket)})
	if got := strings.Join(of, " "); errors.Join(err, listed) != nil || got != "bikes/raw/a b bikes/" {
		t.Errorf("%v, %v: the retries are of %q", err, listed, got)
	}
	if name, key := awsretry.Object(errors.New("x")); name+key != "" {
		t.Errorf("another error is of %q, %q", name, key)
	}
}
