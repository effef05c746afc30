// Package awsretry makes the clients of the AWS SDK for Go v2 outlast failures.
//
//	cfg, err := config.LoadDefaultConfig(ctx)
//	upload := retry.S3Upload()
//	awsretry.Apply(&cfg, &upload)
//	client := s3.NewFromConfig(cfg) // or any other service's
//
// The SDK has a loop of its own that retries. It stays, so that each attempt is
// signed anew, its body rewound and a wrong clock put right, but every decision
// in it is package retry's: what is retried, how often, when, and at whose
// expense. So nothing is retried twice over, and neither the environment
// (AWS_MAX_ATTEMPTS, AWS_RETRY_MODE, AWS_NEW_RETRIES_2026) nor an option of the
// SDK changes how often a request is sent.
//
// # Errors
//
// They are the SDK's: [errors.As] finds smithy.APIError, a service's own types
// as *types.NoSuchKey, and the response's error. When attempts were given up, it
// finds a [*retry.Error] as well, which says why and after how many; an error on
// the first attempt that is not worth a second comes as the SDK gives it. [Brief]
// is what the service answered, in one line.
//
// # Limits
//
// A response is limited before the SDK reads it: its header and the body of an
// error to 1 MiB, any other body that the SDK reads as a whole, as a page of a
// listing, to 64 MiB and, if it is XML, to 1,048,576 tags; what is larger is a
// [*httpretry.LimitError]. A body that is handed on as a stream has no limit. A success that cannot be the response to the
// operation of S3 is a [*NotS3Error]. Texts of a service are shown in one line, and
// without the request's secrets.
//
// # Objects
//
// Package objects, beside this one, moves whole objects to and from any
// S3-compatible store and checks that every byte has arrived.
package awsretry

import (
	"net/http"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkretry "github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/viaproxy"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Options say how the operations of AWS clients are retried. The zero Options
// retry by the zero Policy. One value serves any number of clients and
// goroutines; do not change it, or what it points to, after its first use.
type Options struct {
	// Policy decides what is retried, and when; nil is the zero Policy. If it
	// has no Name, an operation goes by the SDK's name for it, as PutObject. Its
	// Classify is asked first, and [Classify] after it. Its AttemptTimeout
	// bounds the time until the SDK returns the result; a body or a stream of
	// events that is part of it may take longer.
	// Set it for operations that send a stream of events, as StartStreamTranscription: if
	// the connection ends before the response, the SDK waits for that stream, which nobody
	// closes, until the context or the AttemptTimeout ends.
	// One that is not valid fails each operation with a [*retry.ConfigError].
	Policy *retry.Policy

	// Breakers, if set, gives each endpoint and bucket a breaker of its own, in
	// place of the Policy's, named as "s3:localhost:9000/bikes"; what has no
	// bucket goes by service and endpoint.
	Breakers *circuit.Config

	// Registry holds those breakers; nil: one for this Options' clients alone.
	Registry *circuit.Registry
}

// Apply makes all clients that are made of cfg afterwards retry as p says, in
// place of whatever the SDK would do; a nil p is the zero Policy. A second call
// takes the place of the first. The context of an operation bounds all of its
// attempts and waits.
//
// The policy decides how often and when. What is worth a retry, it and [Classify]
// decide; beyond that, what the client or the operation would have had the SDK
// retry still is retried, such as IDPCommunicationError by that of STS.
//
// When the service says that the credentials of a client have expired, they are
// fetched again and the attempt is repeated at once, once. Of operations that learn
// it at the same time, one fetches them for all.
//
// A proxy that refuses to connect to the service is a [*httpretry.ProxyError], for which Apply replaces the HTTPClient of cfg, if that
// is none, the SDK's or an [http.Client] with a net/http transport, by a copy that reports it. The clients that [Option] is for
// have theirs already: an HTTP client for them is made with [httpretry.ReportProxyErrors].
//
// Apply does not look after what an operation returns as a stream: a body of
// GetObject that breaks off is the caller's, and package objects resumes it.
func Apply(cfg *aws.Config, p *retry.Policy) { Options{Policy: p}.Apply(cfg) }

// Apply is the function [Apply] with more to say.
func (o Options) Apply(cfg *aws.Config) {
	cfg.RetryMaxAttempts = 0
	cfg.HTTPClient = reportsProxies(cfg.HTTPClient)
	cfg.APIOptions = append(slices.Clip(cfg.APIOptions), o.Middleware())
}

// reportsProxies returns a copy of a client that reports the refusals of proxies, or client if it is not known how.
func reportsProxies(client aws.HTTPClient) aws.HTTPClient {
	switch c := client.(type) {
	case nil:
		return awshttp.NewBuildableClient().WithTransportOptions(httpretry.ReportProxyErrors)
	case *awshttp.BuildableClient:
		return c.WithTransportOptions(httpretry.ReportProxyErrors)
	case *http.Client:
		base, ok := c.Transport.(*http.Transport)
		if c.Transport == nil {
			base, ok = http.DefaultTransport.(*http.Transport)
		}
		if ok {
			own := *c
			own.Transport = viaproxy.New(base, httpretry.ReportProxyErrors)
			return &own
		}
	}
	return client
}

// Option is [Apply] for one client, or for one operation, of any service:
//
//	s3.NewFromConfig(cfg, s3.WithAPIOptions(awsretry.Option(&upload)))
func Option(p *retry.Policy) func(*middleware.Stack) error { return Options{Policy: p}.Middleware() }

// Middleware is [Options.Apply] for one client, or for one operation: an
// element of the APIOptions that the options of every service have.
func (o Options) Middleware() func(*middleware.Stack) error {
	var policy retry.Policy
	if o.Policy != nil {
		policy = *o.Policy
	}
	policy.Classify = classifier(policy.Classify)
	if o.Registry == nil {
		o.Registry = new(circuit.Registry)
	}
	turn := make(refreshing, 1)
	return func(stack *middleware.Stack) error {
		op := &operation{name: stack.ID(), policy: policy, breakers: o.Breakers, registry: o.Registry, turn: turn, stack: stack}
		return op.install(stack)
	}
}

// The middleware of this package, by ID. The SDK's own are known by theirs.
const (
	idInput   = "perdure:Input"
	idEnd     = "perdure:End"
	idAttempt = "perdure:Attempt"
	idReceive = "perdure:Receive"
	idHandOn  = "perdure:HandOn"

	idLoop    = "Retry"
	idSigning = "Signing"
)

// install puts op in charge of the loop of an operation's stack. A stack without
// the loop (that of a presigned request) stays as it is.
//
// The attempt is signing and sending. What comes before it in the loop has its own
// client, which has retried and asked the breaker by itself: credentials, a token of
// the instance's metadata, a discovered endpoint. So the permit for a probe is not held
// while another is asked for. Clients differ in the order of these steps and of the
// loop, but each signs last.
func (op *operation) install(stack *middleware.Stack) error {
	found, _ := stack.Finalize.Get(idLoop)
	old, ok := found.(*sdkretry.Attempt)
	if !ok {
		return nil
	}
	loop := sdkretry.NewAttemptMiddleware(op, smithyhttp.RequestCloner, func(loop *sdkretry.Attempt) {
		loop.LogAttempts, loop.OperationMeter = old.LogAttempts, old.OperationMeter
		loop.ClientSkew, loop.DisableClockSkewCorrection = old.ClientSkew, old.DisableClockSkewCorrection
	})
	if _, err := stack.Finalize.Swap(idLoop, loop); err != nil {
		return err
	}
	op.readsXML = readsXML(stack)
	op.sdk = retryerOf(old)
	op.clockFixed = loop.ClientSkew != nil && !loop.DisableClockSkewCorrection
	// Those of an earlier Apply go. To remove what is not there is no matter.
	_, _ = stack.Initialize.Remove(idInput)
	_, _ = stack.Finalize.Remove(idEnd)
	_, _ = stack.Finalize.Remove(idAttempt)
	_, _ = stack.Deserialize.Remove(idReceive)
	_, _ = stack.Deserialize.Remove(idHandOn)

	if err := stack.Initialize.Add(middleware.InitializeMiddlewareFunc(idInput, op.input), middleware.After); err != nil {
		return err
	}
	if err := stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc(idReceive, op.receive), middleware.After); err != nil {
		return err
	}
	if err := stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc(idHandOn, op.handOn), middleware.Before); err != nil {
		return err
	}
	end := middleware.FinalizeMiddlewareFunc(idEnd, op.end)
	if err := stack.Finalize.Insert(end, idLoop, middleware.Before); err != nil {
		return err
	}
	attempt := middleware.FinalizeMiddlewareFunc(idAttempt, op.attempt)
	if steps := stack.Finalize.List(); slices.Index(steps, idSigning) > slices.Index(steps, idLoop) {
		return stack.Finalize.Insert(attempt, idSigning, middleware.Before)
	}
	return stack.Finalize.Insert(attempt, idLoop, middleware.After)
}
