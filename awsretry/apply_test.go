package awsretry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

const bucket = "bikes"

// quick is a policy with short waits.
func quick() retry.Policy {
	return retry.Policy{
		Name: "upload_to_s3", BaseDelay: time.Millisecond, Jitter: retry.NoJitter,
		Observe: func(context.Context, retry.Event) {},
	}
}

// load returns the configuration of the environment, for the server.
func load(t *testing.T, server *s3test.Server) aws.Config {
	t.Helper()
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_CA_BUNDLE", "")
	cfg, err := config.LoadDefaultConfig(t.Context(),
		config.WithRegion("eu-central-1"),
		config.WithBaseEndpoint(server.URL),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, "")))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func pathStyle(o *s3.Options) { o.UsePathStyle = true }

func start(t *testing.T, rules ...s3test.Rule) *s3test.Server {
	t.Helper()
	return s3test.Start(t, s3test.Options{Buckets: []string{bucket}, Script: s3test.Rules(rules...)})
}

// connect returns a client of that server which retries as p says.
func connect(t *testing.T, server *s3test.Server, p *retry.Policy) *s3.Client {
	t.Helper()
	cfg := load(t, server)
	awsretry.Apply(&cfg, p)
	return s3.NewFromConfig(cfg, pathStyle)
}

func put(ctx context.Context, client *s3.Client, key string, body []byte) error {
	_, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: bytes.NewReader(body)})
	return err
}

func get(ctx context.Context, client *s3.Client, key string) error {
	out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &key})
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, out.Body)
	return errors.Join(err, out.Body.Close())
}

func head(ctx context.Context, client *s3.Client) error {
	_, err := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String("k")})
	return err
}

// Each row is a fault of every request, and the number of requests under a policy of three attempts.
func TestEachErrorIsSentAsOftenAsItIsWorth(t *testing.T) {
	for _, test := range []struct {
		fault s3test.Fault
		want  int
	}{
		{s3test.SlowDown(), 3},
		{s3test.InternalError(), 3},
		{s3test.Failure(500, "NeverHeardOf"), 3},
		{s3test.Failure(502, "BadGateway"), 3},
		{s3test.Failure(504, ""), 3},
		{s3test.Failure(429, "NeverHeardOf"), 3},
		{s3test.Failure(429, "TooManyRequests"), 3},
		{s3test.Failure(425, "TooEarly"), 3},
		{s3test.Failure(408, "Timeout"), 3},
		{s3test.Failure(400, "RequestTimeout"), 3},
		{s3test.Failure(400, "IncompleteBody"), 3},
		{s3test.Failure(409, "OperationAborted"), 3},
		{s3test.Failure(409, "ConditionalRequestConflict"), 3},
		{s3test.Failure(503, "XMinioServerNotInitialized"), 3},
		{s3test.Failure(520, "UnknownError"), 3},
		{s3test.Reset(), 3},
		{s3test.Hangup(), 3},
		{s3test.AccessDenied(), 1},
		{s3test.Failure(403, "SignatureDoesNotMatch"), 1},
		{s3test.Failure(403, "RequestTimeTooSkewed"), 1}, // and no clock is off
		{s3test.Failure(403, "InvalidAccessKeyId"), 1},
		{s3test.Failure(404, "NoSuchKey"), 1},
		{s3test.Failure(404, "NoSuchBucket"), 1},
		{s3test.Failure(400, "InvalidRequest"), 1},
		{s3test.Failure(400, "BadDigest"), 1},
		{s3test.Failure(409, "BucketAlreadyExists"), 1},
		{s3test.Failure(412, "PreconditionFailed"), 1},
		{s3test.Failure(501, "NotImplemented"), 1},
		{s3test.Failure(507, "XMinioStorageFull"), 1},
	} {
		t.Run(test.fault.String(), func(t *testing.T) {
			server := start(t, s3test.Rule{Fault: test.fault})
			p := quick()
			p.MaxAttempts = 3
			client := connect(t, server, &p)
			err := put(t.Context(), client, "k", []byte("x"))
			if got := server.Count("", ""); got != test.want {
				t.Errorf("PutObject, always %v: %d requests, want %d; error %v", test.fault, got, test.want, err)
			}
			var gaveUp *retry.Error
			if errors.As(err, &gaveUp) != (test.want > 1) {
				t.Errorf("PutObject, always %v: error %v (%[2]T) holds a *retry.Error: %v, want %v", test.fault, err, gaveUp != nil, test.want > 1)
			}
			if gaveUp != nil && (gaveUp.Attempts != 3 || !errors.Is(err, retry.ErrExhausted)) {
				t.Errorf("PutObject, always %v: %d attempts, stopped by %v, want 3, %v", test.fault, gaveUp.Attempts, gaveUp.Stop, retry.ErrExhausted)
			}
		})
	}
}

// The response to a HEAD has no body and no code: only its status decides.
func TestHeadHasNothingButItsStatus(t *testing.T) {
	for status, want := range map[int]int{404: 1, 403: 1, 400: 1, 429: 3, 500: 3, 502: 3, 503: 3, 504: 3, 425: 3, 408: 3} {
		server := start(t, s3test.Rule{Fault: s3test.Failure(status, "Whatever")})
		p := quick()
		p.MaxAttempts = 3
		err := head(t.Context(), connect(t, server, &p))
		if got := server.Count("", ""); got != want || err == nil {
			t.Errorf("HeadObject, always %d: %d requests, want %d; error %v", status, got, want, err)
		}
	}
}

func TestErrorsAreTheSDKs(t *testing.T) {
	server := start(t, s3test.Rule{Method: "PUT", Fault: s3test.SlowDown()})
	server.Deny("/bikes/secret/")
	p := quick()
	client := connect(t, server, &p)

	err := get(t.Context(), client, "absent")
	if missing, ok := errors.AsType[*types.NoSuchKey](err); !ok || missing.ErrorCode() != "NoSuchKey" {
		t.Errorf("an absent key: %v (%[1]T), want a *types.NoSuchKey in it", err)
	}
	if gaveUp, ok := errors.AsType[*retry.Error](err); ok {
		t.Errorf("an absent key: %v holds %v, want the SDK's own error", err, gaveUp)
	}
	err = get(t.Context(), client, "secret/k")
	if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != "AccessDenied" {
		t.Errorf("a secret key: %v, want AccessDenied in it", err)
	}
	if got := server.Count("", ""); got != 2 {
		t.Errorf("%d requests for two errors that will not pass, want 2", got)
	}

	err = put(t.Context(), client, "k", []byte("x"))
	gaveUp, ok := errors.AsType[*retry.Error](err)
	if !ok || gaveUp.Attempts != 5 || gaveUp.Operation != "upload_to_s3" || !errors.Is(err, retry.ErrExhausted) {
		t.Errorf("always 503: %v, want a *retry.Error of upload_to_s3 after 5 attempts", err)
	}
	if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != "SlowDown" {
		t.Errorf("always 503: %v, want SlowDown in it", err)
	}
	if op, ok := errors.AsType[*smithy.OperationError](err); !ok || op.Operation() != "PutObject" {
		t.Errorf("always 503: %v, want the SDK's operation in it", err)
	}
	if strings.Contains(fmt.Sprintf("%T", gaveUp.Last), "awsretry") {
		t.Errorf("Last is %T, want the SDK's error as it was", gaveUp.Last)
	}
}

// The SDK's environment variables for retries have no effect.
func TestTheEnvironmentChangesNothing(t *testing.T) {
	for _, env := range [][2]string{
		{"", ""},
		{"AWS_MAX_ATTEMPTS", "9"},
		{"AWS_MAX_ATTEMPTS", "1"},
		{"AWS_RETRY_MODE", "adaptive"},
		{"AWS_NEW_RETRIES_2026", "true"},
	} {
		t.Run(env[0]+"="+env[1], func(t *testing.T) {
			if env[0] != "" {
				t.Setenv(env[0], env[1])
			}
			server := start(t,
				s3test.Rule{Prefix: "/bikes/twice", Nth: []int{1, 2}, Fault: s3test.SlowDown()},
				s3test.Rule{Prefix: "/bikes/always", Fault: s3test.InternalError()})
			p := quick()
			p.MaxAttempts = 4
			cfg := load(t, server)
			byOption := s3.NewFromConfig(cfg, pathStyle, s3.WithAPIOptions(awsretry.Option(&p)))
			awsretry.Apply(&cfg, &p)
			applied := s3.NewFromConfig(cfg, pathStyle)
			awsretry.Apply(&cfg, &p)
			twice := s3.NewFromConfig(cfg, pathStyle, func(o *s3.Options) { o.RetryMaxAttempts = 7 })
			for name, client := range map[string]*s3.Client{"Apply": applied, "Option": byOption, "Apply twice": twice} {
				server.Reset()
				if err := put(t.Context(), client, "twice", []byte("x")); err != nil || server.Count("", "") != 3 {
					t.Errorf("%s: SlowDown twice: %d requests, error %v, want 3, nil", name, server.Count("", ""), err)
				}
				server.Reset()
				err := put(t.Context(), client, "always", []byte("x"))
				if server.Count("", "") != 4 || !errors.Is(err, retry.ErrExhausted) {
					t.Errorf("%s: always 500: %d requests, error %v, want 4, %v", name, server.Count("", ""), err, retry.ErrExhausted)
				}
			}
		})
	}
}

func TestOuterRetryDoesNotMultiply(t *testing.T) {
	server := start(t, s3test.Rule{Fault: s3test.SlowDown()})
	p := quick()
	client := connect(t, server, &p)
	var kinds []retry.Kind
	outer := quick()
	outer.Observe = func(_ context.Context, e retry.Event) { kinds = append(kinds, e.Kind) }
	err := retry.Do(t.Context(), &outer, func(ctx context.Context) error { return put(ctx, client, "k", []byte("x")) })
	if got := server.Count("", ""); got != 5 {
		t.Errorf("a retry around a client that retries: %d requests, want 5", got)
	}
	if len(kinds) != 1 || kinds[0] != retry.Nested || !errors.Is(err, retry.ErrExhausted) {
		t.Errorf("a retry around a client that retries: events %v, error %v, want nested, %v", kinds, err, retry.ErrExhausted)
	}
}

func TestBodyIsRewound(t *testing.T) {
	server := start(t, s3test.Rule{Method: "PUT", Nth: []int{1}, Fault: s3test.CutRequest(100_000)},
		s3test.Rule{Method: "PUT", Nth: []int{2}, Fault: s3test.Reset()})
	p := quick()
	client := connect(t, server, &p)
	body := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	if err := put(t.Context(), client, "k", body); err != nil {
		t.Fatal(err)
	}
	if stored, _ := server.Object(bucket, "k"); !bytes.Equal(stored, body) || server.Count("PUT", "") != 3 {
		t.Errorf("after a cut and a reset: %d bytes stored in %d requests, want the same %d in 3", len(stored), server.Count("PUT", ""), len(body))
	}
}

func TestBreakerStopsRequests(t *testing.T) {
	server := start(t, s3test.Rule{Fault: s3test.SlowDown()})
	p := quick()
	p.MaxAttempts = 1
	p.Breaker = circuit.New("s3_upload", circuit.Config{Observe: func(context.Context, circuit.Transition) {}})
	client := connect(t, server, &p)
	for range 5 {
		if err := put(t.Context(), client, "k", nil); err == nil {
			t.Fatal("SlowDown is no error")
		}
	}
	err := put(t.Context(), client, "k", nil)
	open, ok := errors.AsType[*circuit.OpenError](err)
	if !ok || open.Name != "s3_upload" || open.State != circuit.Open || server.Count("", "") != 5 {
		t.Errorf("after 5 failures: %d requests, error %v, want 5, the breaker's", server.Count("", ""), err)
	}
}

// Presigning a request makes no call, and asks no breaker.
func TestPresigningAsksNoBreaker(t *testing.T) {
	p := quick()
	p.Breaker = circuit.New("s3_upload", circuit.Config{Observe: func(context.Context, circuit.Transition) {}})
	p.Breaker.Trip()
	client := connect(t, start(t), &p)
	signed, err := s3.NewPresignClient(client).PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("k")})
	if err != nil || !strings.Contains(signed.URL, "X-Amz-Signature") || p.Breaker.State() != circuit.Open {
		t.Errorf("presigned: %v, %v, the breaker is %v, want a URL, and the breaker open as before", signed, err, p.Breaker.State())
	}
}

func TestBreakerCountsAResponseAsSuccess(t *testing.T) {
	server := start(t)
	p := quick()
	p.Breaker = circuit.New("b", circuit.Config{FailureThreshold: 2, Observe: func(context.Context, circuit.Transition) {}})
	client := connect(t, server, &p)
	for range 20 {
		if err := get(t.Context(), client, "absent"); errors.As(err, new(*circuit.OpenError)) {
			t.Fatal("responses of 404 have opened the breaker")
		}
	}
}

func TestBreakersByEndpointAndBucket(t *testing.T) {
	server := start(t, s3test.Rule{Prefix: "/bikes/", Fault: s3test.InternalError()})
	if err := server.CreateBucket("boats"); err != nil {
		t.Fatal(err)
	}
	var registry circuit.Registry
	p := quick()
	p.MaxAttempts = 2
	cfg := load(t, server)
	awsretry.Options{Policy: &p, Registry: &registry, Breakers: &circuit.Config{FailureThreshold: 2, Observe: func(context.Context, circuit.Transition) {}}}.Apply(&cfg)
	client := s3.NewFromConfig(cfg, pathStyle)
	_ = put(t.Context(), client, "k", nil)
	if err := put(t.Context(), client, "k", nil); !errors.As(err, new(*circuit.OpenError)) {
		t.Errorf("bikes, after two failures: %v, want its breaker open", err)
	}
	boats := &s3.PutObjectInput{Bucket: aws.String("boats"), Key: aws.String("k"), Body: strings.NewReader("x")}
	if _, err := client.PutObject(t.Context(), boats); err != nil {
		t.Errorf("boats, whose breaker is another: %v", err)
	}
	host := strings.TrimPrefix(server.URL, "http://")
	var names []string
	for _, b := range registry.All() {
		names = append(names, b.Name())
	}
	if want := []string{"s3:" + host + "/bikes", "s3:" + host + "/boats"}; fmt.Sprint(names) != fmt.Sprint(want) {
		t.Errorf("breakers are %q, want %q", names, want)
	}
}

func TestBudgetLimitsRetries(t *testing.T) {
	server := start(t, s3test.Rule{Fault: s3test.InternalError()})
	p := quick()
	p.Breaker = circuit.New("b", circuit.Config{FailureThreshold: circuit.Off, Window: time.Second, FailureRatio: 1, MinCalls: 1000, Budget: 10})
	client := connect(t, server, &p)
	err := put(t.Context(), client, "k", nil)
	if !errors.Is(err, retry.ErrBudget) || server.Count("", "") != 2 {
		t.Errorf("with 1 token: %d requests, error %v, want 2, %v", server.Count("", ""), err, retry.ErrBudget)
	}
}

func TestRetryAfterIsObeyed(t *testing.T) {
	for _, env := range []string{"", "true"} {
		t.Setenv("AWS_NEW_RETRIES_2026", env)
		server := start(t, s3test.Rule{Nth: []int{1}, Fault: s3test.TooManyRequests(time.Second)})
		p := quick()
		client := connect(t, server, &p)
		if err := put(t.Context(), client, "k", nil); err != nil {
			t.Fatal(err)
		}
		requests := server.Requests()
		if len(requests) != 2 {
			t.Fatalf("one 429: %d requests, want 2", len(requests))
		}
		if waited := requests[1].At.Sub(requests[0].At); waited < time.Second {
			t.Errorf("Retry-After: 1 was obeyed after %v", waited)
		}
	}
}

func TestRetryAfterBeyondTheLimitEnds(t *testing.T) {
	server := start(t, s3test.Rule{Fault: s3test.TooManyRequests(time.Hour)})
	p := quick()
	client := connect(t, server, &p)
	err := put(t.Context(), client, "k", nil)
	e, ok := errors.AsType[*retry.Error](err)
	if !ok || !errors.Is(err, retry.ErrRetryLater) || time.Until(e.RetryAt) < 59*time.Minute || server.Count("", "") != 1 {
		t.Errorf("Retry-After of an hour: %d requests, error %v, want 1, %v with the instant", server.Count("", ""), err, retry.ErrRetryLater)
	}
}

func TestCallersEndIsTheEnd(t *testing.T) {
	server := start(t, s3test.Rule{Fault: s3test.SlowDown()})
	reason := errors.New("the step was called off")
	p := quick()
	p.BaseDelay, p.MaxDelay = time.Hour, time.Hour
	ctx, cancel := context.WithCancelCause(t.Context())
	p.Observe = func(context.Context, retry.Event) { cancel(reason) } // as it begins to wait
	err := put(ctx, connect(t, server, &p), "k", nil)
	e, ok := errors.AsType[*retry.Error](err)
	if !ok || !errors.Is(err, reason) || e.Attempts != 1 || server.Count("", "") != 1 {
		t.Errorf("cancelled during the wait: %d requests, error %v, want 1, %v and the last error", server.Count("", ""), err, reason)
	}
	if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != "SlowDown" {
		t.Errorf("cancelled during the wait: %v, want the last attempt's error in it", err)
	}

	server.Reset()
	if err := put(ctx, connect(t, server, &p), "k", nil); !errors.Is(err, reason) || server.Count("", "") != 0 {
		t.Errorf("cancelled before: %d requests, error %v, want 0, %v", server.Count("", ""), err, reason)
	}
}

func TestDeadlineIsNotSleptInto(t *testing.T) {
	server := start(t, s3test.Rule{Fault: s3test.SlowDown()})
	p := quick()
	p.BaseDelay, p.MaxDelay = time.Hour, time.Hour
	client := connect(t, server, &p)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if err := put(ctx, client, "k", nil); !errors.Is(err, retry.ErrDeadline) || server.Count("", "") != 1 {
		t.Errorf("an hour's wait in ten minutes: %d requests, error %v, want 1, %v", server.Count("", ""), err, retry.ErrDeadline)
	}
}

func TestAttemptTimeoutBoundsTheResponseNotTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gets atomic.Int32
		network := servertest.InBubble(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"v1"`)
			if gets.Add(1) <= 2 {
				<-r.Context().Done()
				return
			}
			_, _ = w.Write(make([]byte, 1<<20))
		}))
		p := quick()
		p.AttemptTimeout = 250 * time.Millisecond
		client := client("http://store", &p, &http.Client{Transport: network})
		out, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("k")})
		if err != nil {
			t.Fatalf("after two requests without a response: %v", err)
		}
		<-time.After(time.Hour)
		n, err := io.Copy(io.Discard, out.Body)
		if err := errors.Join(err, out.Body.Close()); err != nil || n != 1<<20 || gets.Load() != 3 {
			t.Errorf("a body that is read late: %d bytes after %d requests, %v, want all after 3", n, gets.Load(), err)
		}
	})
}
