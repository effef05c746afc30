package awsretry_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkretry "github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/errorspage"
	"github.com/seed-0f2c7998/perdure/internal/neterr/neterrtest"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A pageCase is a failing operation, with a server of its own unless it has an endpoint.
type pageCase struct {
	endpoint string
	http     *http.Client
	serve    http.HandlerFunc
	cfg      func(*aws.Config)
	call     func(context.Context, *s3.Client) error // nil: a listing
	options  []func(*s3.Options)
}

func (c pageCase) see(t *testing.T) errorspage.Trial {
	t.Helper()
	if c.serve != nil {
		server := httptest.NewServer(c.serve)
		defer server.Close()
		c.endpoint, c.http = server.URL, server.Client()
	}
	if c.call == nil {
		c.call = list
	}
	p := quick()
	p.MaxAttempts, p.Breaker = 3, errorspage.Breaker()
	attempts := 0
	cfg := aws.Config{
		Region: "eu-central-1", BaseEndpoint: &c.endpoint, Credentials: credentials.NewStaticCredentialsProvider("access", "secret", ""),
		HTTPClient: clientFunc(func(r *http.Request) (*http.Response, error) {
			attempts++
			return c.http.Do(r)
		}),
	}
	if c.cfg != nil {
		c.cfg(&cfg)
	}
	awsretry.Apply(&cfg, &p)
	_ = c.call(t.Context(), s3.NewFromConfig(cfg, append([]func(*s3.Options){pathStyle}, c.options...)...))
	return errorspage.Seen(attempts, p.Breaker)
}

func list(ctx context.Context, client *s3.Client) error {
	_, err := client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(bucket)})
	return err
}

// connects returns the case of that name in neterrtest.
func connects(t *testing.T, name string) pageCase {
	t.Helper()
	cases := neterrtest.Cases(t)
	c := cases[slices.IndexFunc(cases, func(c neterrtest.Case) bool { return c.Name == name })]
	base, _ := c.Base(t)
	return pageCase{endpoint: c.URL, http: &http.Client{Transport: base}}
}

// sends returns a case whose server always sends that response.
func sends(status int, body string, header ...string) pageCase {
	return pageCase{serve: func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}}
}

// code returns the body of an S3 error.
func code(code string) string { return "<Error><Code>" + code + "</Code></Error>" }

// refused returns the case of a proxy that refuses to connect.
func refused(t *testing.T, status int) pageCase {
	t.Helper()
	address, _ := newProxy(t, slices.Repeat([]int{status}, 9)...)
	base := &http.Transport{Proxy: http.ProxyURL(address)}
	httpretry.ReportProxyErrors(base)
	return pageCase{endpoint: "https://s3.invalid", http: &http.Client{Transport: base}}
}

// withoutCredentials uses a plain client of the SDK, within a policy with Classify.
func withoutCredentials(t *testing.T) errorspage.Trial {
	t.Helper()
	client := s3.New(s3.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String("http://s3.invalid"), UsePathStyle: true, Retryer: aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, &smithy.OperationError{ServiceID: "ec2imds", OperationName: "GetMetadata", Err: context.DeadlineExceeded}
		}),
	})
	p := quick()
	p.MaxAttempts, p.Breaker, p.Classify = 3, errorspage.Breaker(), awsretry.Classify
	attempts := 0
	_ = retry.Do(t.Context(), &p, func(ctx context.Context) error {
		attempts++
		return list(ctx, client)
	})
	return errorspage.Seen(attempts, p.Breaker)
}

// expired returns a case that refuses the first credentials.
func expired() pageCase {
	fetched := 0
	return pageCase{
		serve: func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.Header.Get("Authorization"), "Credential=key1/") {
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, code("ExpiredToken"))
				return
			}
			_, _ = io.WriteString(w, "<ListBucketResult/>")
		},
		cfg: func(cfg *aws.Config) {
			cfg.Credentials = aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				fetched++
				return aws.Credentials{AccessKeyID: fmt.Sprint("key", fetched), SecretAccessKey: "secret"}, nil
			}))
		},
	}
}

// skewed returns a case that refuses signatures of an hour before its clock.
func skewed() pageCase {
	return pageCase{serve: func(w http.ResponseWriter, r *http.Request) {
		ahead := time.Now().Add(time.Hour).UTC()
		w.Header().Set("Date", ahead.Format(http.TimeFormat))
		if signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date")); err != nil || ahead.Sub(signed) > 15*time.Minute {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, code("RequestTimeTooSkewed"))
			return
		}
		_, _ = io.WriteString(w, "<ListBucketResult/>")
	}}
}

// The client behaves as each row for awsretry in docs/errors.md says.
func TestPageOfAWS(t *testing.T) {
	named := sends(400, code("Mine"))
	named.options = []func(*s3.Options){func(o *s3.Options) { o.Retryer = sdkretry.AddWithErrorCodes(o.Retryer, "Mine") }}
	completed := sends(409, code("ConditionalRequestConflict"))
	completed.call = func(ctx context.Context, client *s3.Client) error {
		_, err := client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String("k"), UploadId: aws.String("u")})
		return err
	}
	large := sends(200, "x", "ETag", `"1"`, "Content-Range", "bytes 0-0/99999999999999999999")
	large.call = func(ctx context.Context, client *s3.Client) error { return get(ctx, client, "k") }
	stream := sends(503, "")
	stream.call = func(ctx context.Context, client *s3.Client) error {
		_, err := client.PutObject(ctx, &s3.PutObjectInput{
			Bucket: aws.String(bucket), Key: aws.String("k"), Body: io.MultiReader(strings.NewReader("stream")), ContentLength: aws.Int64(6),
		}, s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware))
		return err
	}
	see := func(c pageCase) func(*testing.T) errorspage.Trial { return c.see }
	later := func(made func(*testing.T) pageCase) func(*testing.T) errorspage.Trial {
		return func(t *testing.T) errorspage.Trial {
			t.Helper()
			return made(t).see(t)
		}
	}
	network := func(name string) func(*testing.T) errorspage.Trial {
		return later(func(t *testing.T) pageCase { t.Helper(); return connects(t, name) })
	}
	raw := func(text string) func(*testing.T) errorspage.Trial {
		return later(func(t *testing.T) pageCase {
			t.Helper()
			endpoint, _ := respondingWith(t, text)
			return pageCase{endpoint: endpoint, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
		})
	}
	errorspage.Compare(t, "| in `awsretry` | class |", map[string]func(*testing.T) errorspage.Trial{
		"a proxy refuses to connect with a status that is not retried": later(func(t *testing.T) pageCase { t.Helper(); return refused(t, 403) }),
		"no such host":                                          network("no such name"),
		"certificate not trusted":                               network("unknown authority"),
		"HTTP where TLS should be":                              network("no TLS there"),
		"no response":                                           raw(""),
		"half of a response":                                    raw("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n<ListBucketResult><Name>bi"),
		"a success that is none of S3":                          see(sends(200, "<html>", "Content-Type", "text/html")),
		"a success that can't be parsed":                        see(sends(200, "<ListBucketResult><KeyCount>x</KeyCount></ListBucketResult>")),
		"a success that is too large":                           see(large),
		"no credentials":                                        withoutCredentials,
		"expired token, with fresh credentials available":       see(expired()),
		"the clock is wrong":                                    see(skewed()),
		"an error that only the SDK's client retries":           see(named),
		"ConditionalRequestConflict of CompleteMultipartUpload": see(completed),
		"503, and the body can't be rewound":                    see(stream),
	})
}

// A response has the class of its code, or of its status if the code is unknown; so has a proxy's refusal that is
// retried.
func TestPageOfStatusesOfAWS(t *testing.T) {
	for _, status := range errorspage.Statuses(t, 400) {
		errorspage.Check(t, http.StatusText(status.Code), status.Class, sends(status.Code, code("NeverHeardOf")).see(t))
		if status.Class == "permanent" {
			status.Class = "ignored"
		}
		errorspage.Check(t, "a proxy's "+http.StatusText(status.Code), status.Class, refused(t, status.Code).see(t))
	}
	for _, row := range errorspage.Rows(t, "| class | codes |") {
		for name := range strings.FieldsSeq(row[1]) {
			status, class := http.StatusServiceUnavailable, row[0] // the code goes before the status
			if class != "permanent" {
				status = http.StatusNotFound
			}
			errorspage.Check(t, name, class, sends(status, code(name)).see(t))
		}
	}
}

// An errorTransport fails each request with one error.
type errorTransport struct{ err error }

func (e errorTransport) RoundTrip(*http.Request) (*http.Response, error) { return nil, e.err }

// The list of network errors holds, except that unlisted errors are missing responses, which are transient.
func TestPageOfTheNetworkOfAWS(t *testing.T) {
	samples := neterrtest.Samples(t)
	for _, row := range errorspage.Rows(t, "| error | class |") {
		if row[1] == "unknown" || row[1] == "ignored" { // another request's end
			row[1] = "transient"
		}
		err := samples[row[0]]
		if wrapped, ok := err.(*url.Error); ok { //nolint:errorlint // which is the client's, around a transport's
			err = wrapped.Err
		}
		if row[0] == "scheme that is none of HTTP" {
			continue // an endpoint has one
		}
		errorspage.Check(t, row[0], row[1], pageCase{endpoint: "http://127.0.0.1:1", http: &http.Client{Transport: errorTransport{err}}}.see(t))
	}
}
