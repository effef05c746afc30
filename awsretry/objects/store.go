// Package objects moves whole objects to and from any S3-compatible store, and
// checks that every byte has arrived.
//
//	cfg, err := config.LoadDefaultConfig(ctx)
//	upload := retry.S3Upload()
//	store, err := objects.New(cfg, objects.Options{Policy: &upload})
//	_, err = store.PutFile(ctx, "bikes", "2024/hour.csv", "hour.csv", objects.PutOptions{})
//	_, err = store.GetFile(ctx, "bikes", "2024/hour.csv", "copy.csv", objects.GetOptions{})
//
// Each request is retried as the policy says, see package awsretry. What is more
// than a request is done here: a large object goes up in parts, of which only
// those that failed are sent again; a download that breaks goes on where it
// broke, if the object is still the same one, and never mixes two; what was sent
// and what the store has are compared by checksum; a listing neither loses nor
// repeats a key; a file is there whole or not at all.
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

// Options say how a [Store] works. The zero Options are ready for use.
type Options struct {
	// Policy decides what is retried, and when; nil is the zero Policy. Its
	// Classify and Observe are called by several goroutines at once, as parts are
	// requests of their own.
	Policy *retry.Policy
	// Breakers and Registry are those of [awsretry.Options]. No breaker is asked,
	// or told, of a request that drops the parts of an upload that has failed.
	Breakers *circuit.Config
	Registry *circuit.Registry

	// PartSize is the size of an upload's parts in bytes, 5 MiB to 5 GiB. 0
	// means 8 MiB, and 5 MiB for a stream, whose parts are held in memory; for
	// a large object of known size it is as much more as 10,000 parts need. The
	// parts of a stream grow after the first 1,000, by 16 MiB with every 125, so
	// that 5 TiB fit.
	PartSize int64
	// Parallel is how many parts of an object are under way at a time, 1 to
	// 1000; 0 means 4. While one waits for its next attempt another goes in its
	// place, but not in that of a stream's: it takes PartSize × Parallel of memory,
	// and from its 1,001st part on at most 1 GiB, or one part, of 1157 MiB at most.
	Parallel int
	// Stall is for how long a connection may deliver nothing before it counts as
	// broken; 0 means 30s.
	Stall time.Duration
	// MinRate is the least bytes per second that a connection must deliver,
	// averaged over 60 s of waiting for them; 0 means no limit. A slower one counts
	// as broken, and as a failed attempt though it has delivered something.
	MinRate int64

	// NoSignRequest sends all requests without credentials, for public buckets;
	// those of the aws.Config are not used.
	NoSignRequest bool
	// RequestPayer confirms with each request that its sender pays for it, which
	// the owner of a bucket may demand.
	RequestPayer bool
}

// validate returns a *retry.ConfigError about the first value out of its range.
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

// A Store moves objects. Make it with [New], once for an endpoint: it keeps
// connections. It is safe for concurrent use. The context of each method bounds
// all that the method does, with every attempt and wait.
//
// Errors are an [*Error] with the operation, the bucket and the key, and in it
// what package awsretry returns: [errors.As] finds the SDK's own types as well
// as the [*retry.Error] of an operation that was given up.
type Store struct {
	client   *s3.Client
	endpoint string       // in state files, without secrets; "": AWS's own
	signed   bool         // bodies are: nothing else protects them on plain HTTP
	customer bool         // objects have a key of the caller's, see WithCustomerKey
	policy   retry.Policy // for what is more than a request: without breaker and AttemptTimeout, which requests have
	cleanup  func(*s3.Options)
	partSize int64 // 0: by what is sent
	parallel int
	limits   stall.Limits // of the bodies that come

	copyLimit int64         // bytes that are copied in one request
	growth    source.Growth // of a stream's parts
	maxPages  int           // of a listing
}

// New returns a Store for the endpoint and credentials of cfg, which is not changed.
//
//   - Timeouts: 10 s to connect, 2 minutes from the end of a request to the head of
//     its response, Stall for either body.
//   - Protocol: HTTP/1.1, through a transport made after that of cfg, or, if cfg has
//     one, through the caller's own HTTPClient as it is.
//   - Addressing: a BaseEndpoint is addressed by path. If a bucket turns out to be in
//     another region than that of cfg, it is addressed there from then on; where that
//     does not help, the error of the method is a [*RegionError].
//
// The options are applied to the S3 client last. The error is a [*retry.ConfigError].
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
	if most := s.policy.MaxElapsed; most > 0 {
		s.limits.Window = max(min(stall.Window, most), time.Second)
	}
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
		// Every checksum is computed and compared here, over the whole object.
		so.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		so.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		// An early refusal arrives as a connection reset if the client has asked for leave to send.
		so.ContinueHeaderThresholdBytes = -1
	}
	s.client = s3.NewFromConfig(cfg, append([]func(*s3.Options){tuned}, options...)...)
	final := s.client.Options()
	s.signed = final.EndpointOptions.DisableHTTPS || strings.HasPrefix(strings.ToLower(aws.ToString(final.BaseEndpoint)), "http:")
	s.endpoint = redact.String(aws.ToString(final.BaseEndpoint))
	return s, nil
}

// cleanupOptions is an option of a request that cleans up after others: it is retried as p
// says, which has no breaker, and goes past those of the Store. None refuses it,
// takes it for a probe or has it pay from its budget: what it would drop is paid
// for as long as it stays.
func cleanupOptions(p retry.Policy) func(*s3.Options) {
	return s3.WithAPIOptions(awsretry.Option(&p))
}

// Client returns the S3 client that the Store uses, for what the Store has no
// method for.
func (s *Store) Client() *s3.Client { return s.client }

// waitRetry waits, as the policy says, after err, which is worth another attempt and
// is no request's alone: it returns nil, or the error with which the operation
// ends. The call that counts is made at the first; what failed began at start.
func (s *Store) waitRetry(ctx context.Context, call *calls.Call, start time.Time, err error) error {
	if *call == nil {
		begun, failed := calls.Begin(ctx, &s.policy)
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

// withGracePeriod returns a context that ends some time after ctx: only who gets to know
// the ID of an upload can drop it. The function must be called in the end.
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

// customerKeySize is that of a key for AES-256, in bytes.
const customerKeySize = 32

// WithCustomerKey returns a Store like s, with its connections and breakers, whose
// objects are encrypted by the server with that key of the caller's, of 32 bytes
// (SSE-C, AES-256). It is sent with each request that writes, reads or asks about
// an object, the two of a Copy included, and kept nowhere: the server forgets it,
// and no state file or error has it. So the Store is for objects of that key
// alone: what has another or none is refused by the server, and who loses the key
// has lost them.
//
// The endpoint must be https. An object's ETag is no MD5 then: against what a
// store says of it without a checksum, only the size is compared. The error is a
// [*retry.ConfigError].
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

// sending adds the key to the requests that need it.
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

// customerHeaders returns what the headers begin with in which an operation takes
// a key: for the object, and for one that it is copied from.
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
