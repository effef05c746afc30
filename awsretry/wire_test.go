package awsretry_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/neterr/neterrtest"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// client is connect for another endpoint than an s3test server.
func client(endpoint string, p *retry.Policy, httpClient aws.HTTPClient) *s3.Client {
	cfg := aws.Config{
		Region: "eu-central-1", BaseEndpoint: &endpoint, HTTPClient: httpClient,
		Credentials: credentials.NewStaticCredentialsProvider("access", "secret", ""),
	}
	awsretry.Apply(&cfg, p)
	return s3.NewFromConfig(cfg, pathStyle)
}

func TestErrorsOfConnections(t *testing.T) {
	for _, c := range neterrtest.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			base, dials := c.Base(t)
			p := quick()
			err := head(t.Context(), client(c.URL, &p, &http.Client{Transport: base}))
			_, retried := errors.AsType[*retry.Error](err)
			if want := map[bool]int64{true: 1, false: int64(p.Attempts())}[c.Permanent]; err == nil || retried == c.Permanent || dials.Load() != want {
				t.Errorf("%d connections and %v, want %d", dials.Load(), err, want)
			}
		})
	}
}

// net/http may reuse the connection of another request, and close it when that request is cancelled.
func TestCancellationOfAnotherRequestIsRetried(t *testing.T) {
	p, sent := quick(), 0
	shared := clientFunc(func(r *http.Request) (*http.Response, error) {
		if sent++; sent == 1 {
			return nil, context.Canceled
		}
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Etag": {`"v1"`}}, Body: http.NoBody, Request: r}, nil
	})
	if err := head(t.Context(), client("http://s3.invalid", &p, shared)); err != nil || sent != 2 {
		t.Errorf("another's cancellation, once: %d attempts, %v, want 2, success", sent, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	sent = 0
	own := clientFunc(func(*http.Request) (*http.Response, error) {
		sent++
		cancel()
		return nil, context.Canceled
	})
	if err := head(ctx, client("http://s3.invalid", &p, own)); !errors.Is(err, context.Canceled) || sent != 1 {
		t.Errorf("the caller's cancellation: %d attempts, %v, want 1, %v", sent, err, context.Canceled)
	}
}

type clientFunc func(*http.Request) (*http.Response, error)

func (f clientFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }

// respondingWith serves each connection with the next of the responses, the last one again and again.
func respondingWith(t *testing.T, responses ...string) (endpoint string, served *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	served = new(atomic.Int64)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 64<<10))
			n := served.Add(1) - 1
			_, _ = io.WriteString(conn, responses[min(int(n), len(responses)-1)])
			_ = conn.Close()
		}
	}()
	return "http://" + l.Addr().String(), served
}

func TestResponsesThatMakeNoSenseAreRetried(t *testing.T) {
	const xml = "<ListBucketResult><Name>bikes</Name></ListBucketResult>"
	good := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(xml), xml)
	for name, bad := range map[string]string{
		"nothing":       "",
		"half a header": "HTTP/1.1 200 OK\r\nContent-Le",
		"garbage":       "\x00\x01\x02\x03 what?\r\n\r\n",
		"half a body":   "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n<ListBucketResult><Name>bi",
		"cut before":    "HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n<ListBucketResult><Name",
	} {
		endpoint, served := respondingWith(t, bad, bad, good)
		p := quick()
		transport := &http.Transport{DisableKeepAlives: true}
		out, err := client(endpoint, &p, &http.Client{Transport: transport}).
			ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket)})
		if err != nil || aws.ToString(out.Name) != bucket || served.Load() != 3 {
			t.Errorf("%s, twice: %d attempts, %v, want 3 and the listing", name, served.Load(), err)
		}
	}
	endpoint, served := respondingWith(t, "HTTP/1.1 404 Not Found\r\nContent-Length: 5000\r\n\r\n<Error><Code>NoSu")
	p := quick()
	_, err := client(endpoint, &p, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).
		ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket)})
	if err == nil || served.Load() != 1 {
		t.Errorf("404 with half an error: %d attempts, %v, want 1", served.Load(), err)
	}
}

func TestClockThatIsOffIsPutRightAtOnce(t *testing.T) {
	var requests []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests = append(requests, r.Header.Get("X-Amz-Date"))
		ahead := time.Now().Add(time.Hour).UTC()
		w.Header().Set("Date", ahead.Format(http.TimeFormat))
		signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if err != nil || ahead.Sub(signed) > 15*time.Minute {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "<Error><Code>RequestTimeTooSkewed</Code></Error>")
			return
		}
		_, _ = io.WriteString(w, "<ListBucketResult/>")
	}))
	defer server.Close()
	p := quick()
	p.BaseDelay, p.MaxDelay = time.Hour, time.Hour // not for this
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := client(server.URL, &p, nil).ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(bucket)})
	if err != nil || len(requests) != 2 {
		t.Errorf("a clock an hour behind: requests signed %q, %v, want a second one that is accepted", requests, err)
	}
}

func TestClockIsPutRightOnce(t *testing.T) {
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(time.Duration(requests.Add(1))*time.Hour).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<Error><Code>RequestTimeTooSkewed</Code></Error>")
	}))
	defer server.Close()
	p := quick()
	_, err := client(server.URL, &p, nil).ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket)})
	if err == nil || requests.Load() != 2 {
		t.Errorf("a server whose clock runs away: %d requests, %v, want 2", requests.Load(), err)
	}
}

func TestStreamThatCannotBeRewoundKeepsItsFirstError(t *testing.T) {
	pair := httptest.NewUnstartedServer(nil)
	pair.StartTLS()
	defer pair.Close()
	server := s3test.Start(t, s3test.Options{
		Buckets: []string{bucket}, TLS: &tls.Config{Certificates: pair.TLS.Certificates},
		Script: s3test.Rules(s3test.Rule{Fault: s3test.SlowDown()}),
	})
	cfg := load(t, server)
	cfg.HTTPClient = pair.Client()
	p := quick()
	awsretry.Apply(&cfg, &p)
	_, err := s3.NewFromConfig(cfg, pathStyle).PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: aws.String(bucket), Key: aws.String("k"), Body: struct{ io.Reader }{strings.NewReader("a stream")}, ContentLength: aws.Int64(8),
	})
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorCode() != "SlowDown" || server.Count("", "") != 1 || !strings.Contains(err.Error(), "cannot be rewound") {
		t.Errorf("a stream, always 503: %d requests, %v, want 1, SlowDown, and why there was no other", server.Count("", ""), err)
	}
	server.Deny("/")
	_, err = s3.NewFromConfig(cfg, pathStyle).PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: aws.String(bucket), Key: aws.String("k"), Body: struct{ io.Reader }{strings.NewReader("a stream")}, ContentLength: aws.Int64(8),
	})
	if err == nil || strings.Contains(err.Error(), "rewound") {
		t.Errorf("a stream, denied: %v, want no other reason", err)
	}
}

func TestClassifyKnowsTheSDKsErrorsOutsideOfIt(t *testing.T) {
	server := start(t, s3test.Rule{Method: "PUT", Fault: s3test.Failure(520, "")}, s3test.Rule{Method: "POST", Fault: s3test.Failure(409, "ConditionalRequestConflict")})
	cfg := load(t, server)
	bare := s3.NewFromConfig(cfg, pathStyle, func(o *s3.Options) { o.Retryer = aws.NopRetryer{} })
	p := retry.Policy{Classify: awsretry.Classify}
	err := put(t.Context(), bare, "k", nil)
	if class, _ := p.ClassOf(err); class != retry.ClassTransient {
		t.Errorf("%v is %v, want transient", err, class)
	}
	_, err = bare.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String("k"), UploadId: aws.String("1")})
	if awsretry.Classify(err) != retry.ClassPermanent {
		t.Errorf("Classify(%v) is %v, want permanent", err, awsretry.Classify(err))
	}
	server.Close()
	if err := head(t.Context(), bare); awsretry.Classify(err) != retry.ClassTransient {
		t.Errorf("Classify(%v) is %v, want transient", err, awsretry.Classify(err))
	}
	if err := errors.New("something else"); awsretry.Classify(err) != retry.ClassUnknown {
		t.Errorf("Classify(%v) is %v, want unknown", err, awsretry.Classify(err))
	}
}

// AWS requests a wait in milliseconds, and the SDK's newer mode would add a wait of its own.
func TestAmzRetryAfterIsObeyedOnce(t *testing.T) {
	for _, env := range []string{"", "true"} {
		t.Setenv("AWS_NEW_RETRIES_2026", env)
		for _, ignore := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				var at []time.Time
				network := servertest.InBubble(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					if at = append(at, time.Now()); len(at) == 1 {
						w.Header().Set("X-Amz-Retry-After", "150")
						w.WriteHeader(http.StatusServiceUnavailable)
					}
					_, _ = io.WriteString(w, "<ListBucketResult/>")
				}))
				p := quick()
				p.IgnoreRetryAfter = ignore
				want := 150 * time.Millisecond
				if ignore {
					want = p.BaseDelay
				}
				c := client("http://store", &p, &http.Client{Transport: network})
				_, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket)})
				if err != nil || len(at) != 2 {
					t.Fatalf("AWS_NEW_RETRIES_2026=%s: %d requests, %v, want 2", env, len(at), err)
				}
				if waited := at[1].Sub(at[0]); waited != want {
					t.Errorf("AWS_NEW_RETRIES_2026=%s, ignored: %v: waited %v, want %v", env, ignore, waited, want)
				}
			})
		}
	}
}

// The clients of all services are generated alike.
func TestAnotherService(t *testing.T) {
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests++; requests <= 2 {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, "<ErrorResponse><Error><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>")
			return
		}
		_, _ = io.WriteString(w, "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>1</Account></GetCallerIdentityResult></GetCallerIdentityResponse>")
	}))
	defer server.Close()
	var registry circuit.Registry
	var events []retry.Event
	p := quick()
	p.Name = ""
	p.Observe = func(_ context.Context, e retry.Event) { events = append(events, e) }
	cfg := aws.Config{
		Region: "eu-central-1", BaseEndpoint: &server.URL,
		Credentials: credentials.NewStaticCredentialsProvider("access", "secret", ""),
	}
	awsretry.Options{Policy: &p, Registry: &registry, Breakers: new(circuit.Config)}.Apply(&cfg)
	out, err := sts.NewFromConfig(cfg).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil || aws.ToString(out.Account) != "1" || requests != 3 {
		t.Fatalf("throttled twice: %d requests, %v, want 3", requests, err)
	}
	if len(events) != 3 || events[0].Operation != "GetCallerIdentity" || events[0].Class != retry.ClassThrottled {
		t.Errorf("events %+v, want three of GetCallerIdentity, the first one throttled", events)
	}
	if all := registry.All(); len(all) != 1 || all[0].Name() != "sts:"+strings.TrimPrefix(server.URL, "http://") {
		t.Errorf("breakers %v, want one for the service and its endpoint", all)
	}
}
