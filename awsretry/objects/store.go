// Package objects uploads, downloads, copies, lists and deletes objects in any S3-compatible store, and verifies
// every byte.
//
//	cfg, err := config.LoadDefaultConfig(ctx)
//	upload := retry.S3Upload()
//	store, err := objects.New(cfg, objects.Options{Policy: &upload})
//	_, err = store.PutFile(ctx, "bikes", "2024/hour.csv", "hour.csv", objects.PutOptions{})
//	_, err = store.GetFile(ctx, "bikes", "2024/hour.csv", "copy.csv", objects.GetOptions{})
//
// Package awsretry retries each request as the policy says. This package adds what takes more than one request:
//
//   - A large object is uploaded in parts; only parts that failed are sent again.
//   - A broken download resumes at the byte where it broke, if the object is still the same; two versions are never
//     mixed.
//   - The checksum of the bytes that were sent is compared with the store's.
//   - A listing neither loses nor repeats a key.
//   - A downloaded file gets its name only when it is complete.
package objects

import (
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // as S3 wants it
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/awsretry/internal/region"
	"github.com/seed-0f2c7998/perdure/awsretry/internal/source"
	"github.com/seed-0f2c7998/perdure/awsretry/internal/wire"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/calls"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/stall"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Options configure a [Store]. The zero Options are ready for use.
type Options struct {
	// Policy decides what is retried, and when. If nil, the zero Policy. Its Classify and Observe are called by
	// several goroutines at once: each part is a request of its own.
	Policy *retry.Policy
	// Breakers and Registry are those of [awsretry.Options]. Requests that abort a failed upload are made even if the
	// breaker is open, and do not count for the breaker.
	Breakers *circuit.Config
	Registry *circuit.Registry

	// PartSize is the size of an upload's parts and of a download's ranges in bytes, 5 MiB to 5 GiB. 0 means 8 MiB,
	// and 5 MiB for the upload of a stream, whose parts are held in memory. A negative value is an error. A large
	// upload of known size gets larger parts if it would need more than 10,000 parts. The parts of a stream grow after the
	// first 1,000, by 16 MiB with every 125, so that 5 TiB fit.
	PartSize int64
	// Parallel is the number of parts of one object that are transferred at a time, 1 to 1000. 0 means 4, 1 means one
	// after the other; a negative value is an error. While a part waits for its next attempt, another part takes its
	// slot, except in the upload of a stream, which holds PartSize × Parallel bytes in memory, and from its 1,001st
	// part on at most 1 GiB, or one part of at most 1157 MiB.
	Parallel int
	// Stall is how long a connection may deliver nothing before it counts as broken. 0 means 30s; a negative value is
	// an error.
	Stall time.Duration
	// MinRate is the minimum rate of a response body in bytes per second, averaged over 60 s of reading. 0 means no
	// limit; a negative value is an error. A slower connection counts as broken, and as a failed attempt even if it
	// has delivered bytes.
	//
	// If the Policy's MaxElapsed is below 60 s, the rate is averaged over MaxElapsed, and at least over 1 s. After
	// MaxElapsed, a body must deliver 1024 bytes per second even if MinRate is 0.
	MinRate int64

	// NoSignRequest sends all requests without credentials, for public buckets. The credentials of the aws.Config are
	// not used.
	NoSignRequest bool
	// RequestPayer confirms in each request that its sender pays for it, which the owner of a bucket may require.
	RequestPayer bool
}

// validate returns a *retry.ConfigError for the first value out of its range.
func (o Options) validate() error {
	bad := func(field string, value any, want string) error {
		return &retry.ConfigError{Field: field, Value: fmt.Sprint(value), Want: want}
	}
	switch {
	case o.PartSize != 0 && (o.PartSize < source.MinPart || o.PartSize > source.MaxPart):
		return bad("PartSize", o.PartSize, "0 or 5 MiB (5242880) to 5 GiB (5368709120)")
	case o.Parallel < 0 || o.Parallel > 1000:
		return bad("Parallel", o.Parallel, "0 to 1000")
	case o.Stall < 0:
		return bad("Stall", o.Stall, "0 or more")
	case o.MinRate < 0:
		return bad("MinRate", o.MinRate, "0 or more")
	case o.Policy != nil:
		return o.Policy.Validate()
	}
	return nil
}

// A Store transfers objects. Make one with [New] for each endpoint: it reuses connections. It is safe for concurrent
// use. The ctx of a method bounds all its attempts and waits.
//
// Each error is an [*Error] with the operation, the bucket and the key, around the error of package awsretry:
// [errors.As] finds the SDK's types, and the [*retry.Error] of an operation that was given up.
type Store struct {
	client   *s3.Client
	endpoint string       // in state files, without secrets; "" is AWS's own
	signed   bool         // bodies are signed: nothing else protects them on plain HTTP
	customer bool         // objects are encrypted with a key of the caller, see WithCustomerKey
	policy   retry.Policy // for operations of many requests: without Breaker and AttemptTimeout, which each request has
	cleanup  func(*s3.Options)
	partSize int64 // 0: depends on what is sent
	parallel int
	limits   stall.Limits // of response bodies

	copyLimit int64         // the largest object that is copied in one request, in bytes
	growth    source.Growth // of the parts of a stream
	maxPages  int           // of a listing
}

// New returns a Store for the endpoint and credentials of cfg, which is not changed.
//
//   - Timeouts: 10 s to connect, 2 minutes from the end of a request to the response header, Stall for both bodies.
//   - Protocol: HTTP/1.1, through a new transport with the proxy and TLS settings of cfg, or through cfg.HTTPClient
//     itself if it is not the SDK's.
//   - Addressing: by path if cfg has a BaseEndpoint. A bucket that turns out to be in another region is addressed
//     there from then on; if that fails, the error is a [*RegionError].
//
// The options are applied to the S3 client last. An invalid Options value is a [*retry.ConfigError].
func New(cfg aws.Config, o Options, options ...func(*s3.Options)) (*Store, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	cfg = cfg.Copy()
	if o.NoSignRequest {
		cfg.Credentials = aws.AnonymousCredentials{}
	}
	awsretry.Options{Policy: o.Policy, Breakers: o.Breakers, Registry: o.Registry}.Apply(&cfg)
	s := &Store{partSize: o.PartSize, parallel: cmp.Or(o.Parallel, 4), copyLimit: source.MaxPart, growth: source.StreamGrowth(), maxPages: maxPages}
	s.limits = stall.Limits{Timeout: cmp.Or(o.Stall, 30*time.Second), MinRate: o.MinRate}
	if o.Policy != nil {
		s.policy = *o.Policy
	}
	s.limits = s.limits.Within(s.policy.MaxElapsed)
	s.policy.Breaker = nil
	s.cleanup = cleanupOptions(s.policy)
	s.policy.AttemptTimeout = 0
	tuned := func(so *s3.Options) {
		so.HTTPClient = wire.Tune(so.HTTPClient, s.limits.Timeout)
		so.UsePathStyle = so.UsePathStyle || so.BaseEndpoint != nil
		region.New(elsewhere).Option(so)
		wire.Legible(so)
		if o.RequestPayer {
			so.APIOptions = append(slices.Clip(so.APIOptions), smithyhttp.AddHeaderValue("X-Amz-Request-Payer", "requester"))
		}
		// This package computes and compares every checksum, over the whole object.
		so.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		so.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		// With Expect: 100-continue an early refusal arrives as a connection reset.
		so.ContinueHeaderThresholdBytes = -1
	}
	s.client = s3.NewFromConfig(cfg, append([]func(*s3.Options){tuned}, options...)...)
	final := s.client.Options()
	s.signed = final.EndpointOptions.DisableHTTPS || strings.HasPrefix(strings.ToLower(aws.ToString(final.BaseEndpoint)), "http:")
	s.endpoint = redact.String(aws.ToString(final.BaseEndpoint))
	return s, nil
}

// cleanupOptions returns an option for requests that abort an upload: they are retried as p says, without the breaker
// and the budget of the Store. So no open breaker keeps parts in the store, which are charged for until then.
func cleanupOptions(p retry.Policy) func(*s3.Options) {
	return s3.WithAPIOptions(awsretry.Option(&p))
}

// Client returns the Store's S3 client, for operations without a method here.
func (s *Store) Client() *s3.Client { return s.client }

// waitRetry waits, as the policy says, after err, which is worth another attempt but is not the error of one request.
// It returns nil, or the error with which the operation ends. The first call sets *call; the failed attempt began at
// start.
func (s *Store) waitRetry(ctx context.Context, call *calls.Call, start time.Time, err error) error {
	if *call == nil {
		policy := s.policy
		policy.Metrics = nil // each request counts by itself
		begun, failed := calls.Begin(ctx, &policy)
		if failed == nil {
			begun.BeganAt(start)
			failed = begun.Admit(ctx)
		}
		if failed != nil {
			return failed
		}
		*call = begun
	}
	delay, stop := (*call).Failed(ctx, retry.Transient(err))
	if stop != nil {
		return stop
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return (*call).Admit(ctx)
}

// withGracePeriod returns a context that ends 5 s after ctx: an upload can be aborted only if the response with its
// ID arrives. The caller must call the function.
func withGracePeriod(ctx context.Context) (context.Context, func()) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(5*time.Second, func() { cancel(context.Cause(ctx)) })
		context.AfterFunc(longer, func() { timer.Stop() })
	})
	return longer, func() {
		stop()
		cancel(nil)
	}
}

// optional returns nil for "".
func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// customerKeySize is the size of an AES-256 key in bytes.
const customerKeySize = 32

// WithCustomerKey returns a Store like s, with the same connections and breakers, whose objects the server encrypts
// with the given 32-byte key (SSE-C, AES-256).
//
// The key is sent with each request that writes, reads or describes an object, and for both objects of a Copy. It is
// stored nowhere: not by the server, nor in state files or errors. An object of another key, or without one, is
// refused by the server, and an object whose key is lost is lost.
//
// The endpoint must be https. The ETag of such an object is not an MD5: if the store has no checksum of it, only its
// size is compared. The error is a [*retry.ConfigError].
func (s *Store) WithCustomerKey(key []byte) (*Store, error) {
	bad := func(field, value, want string) error {
		return &retry.ConfigError{Field: field, Value: value, Want: want}
	}
	switch {
	case len(key) != customerKeySize:
		return nil, bad("customer key", fmt.Sprintf("of %d bytes", len(key)), "32 bytes, for AES-256")
	case s.signed:
		return nil, bad("endpoint", s.endpoint, "https, as the customer key is sent with each request")
	}
	keyed := *s
	keyed.customer = true
	keyed.client = s3.New(s.client.Options(), func(o *s3.Options) {
		o.APIOptions = append(slices.Clip(o.APIOptions), sending(key))
	})
	return &keyed, nil
}

// sending returns a step that adds the key to the requests that need it.
func sending(key []byte) func(*middleware.Stack) error {
	encoded, digest := base64.StdEncoding.EncodeToString(key), md5.Sum(key) //nolint:gosec // as S3 wants it
	fields := map[string]string{
		"Algorithm": string(types.ServerSideEncryptionAes256), "Key": encoded,
		"Key-Md5": base64.StdEncoding.EncodeToString(digest[:]),
	}
	add := middleware.BuildMiddlewareFunc("perdure:CustomerKey", func(
		ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler,
	) (middleware.BuildOutput, middleware.Metadata, error) {
		if r, ok := in.Request.(*smithyhttp.Request); ok {
			for _, prefix := range customerHeaders(middleware.GetOperationName(ctx)) {
				for name, value := range fields {
					r.Header.Set(prefix+name, value)
				}
			}
		}
		return next.HandleBuild(ctx, in)
	})
	return func(stack *middleware.Stack) error { return stack.Build.Add(add, middleware.After) }
}

// customerHeaders returns the prefixes of the headers in which an operation takes a key: for the object, and for the
// object that it is copied from.
func customerHeaders(operation string) []string {
	const object, source = "X-Amz-Server-Side-Encryption-Customer-", "X-Amz-Copy-Source-Server-Side-Encryption-Customer-"
	switch operation {
	case "PutObject", "GetObject", "HeadObject", "GetObjectAttributes",
		"CreateMultipartUpload", "UploadPart", "ListParts", "CompleteMultipartUpload":
		return []string{object}
	case "CopyObject", "UploadPartCopy":
		return []string{object, source}
	}
	return nil
}
