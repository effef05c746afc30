// Package awsretry retries the operations of AWS SDK for Go v2 clients by the policies of package retry.
//
//	cfg, err := config.LoadDefaultConfig(ctx)
//	upload := retry.S3Upload()
//	awsretry.Apply(&cfg, &upload)
//	client := s3.NewFromConfig(cfg) // or the client of any other service
//
// The SDK's own retry loop remains: it signs each attempt, rewinds the body and corrects a wrong clock. Package retry
// makes every decision in the loop: what is retried, how often, when, and from which budget. So no request is retried
// twice over, and neither the environment (AWS_MAX_ATTEMPTS, AWS_RETRY_MODE, AWS_NEW_RETRIES_2026) nor an option of
// the SDK changes how often a request is sent.
//
// # Errors
//
// Errors are the SDK's: [errors.As] finds smithy.APIError, the types of a service such as *types.NoSuchKey, and the
// error of the response. If the operation was given up, errors.As also finds a [*retry.Error] with the reason and the
// number of attempts. An error on the first attempt that is not retried is returned as the SDK returns it. [Brief] returns the
// error of the service in one line.
//
// # Limits
//
// A response is limited before the SDK reads it. Its header and the body of an error may have 1 MiB. Any other body
// that the SDK reads as a whole, such as a page of a listing, may have 64 MiB and, if it is XML, 1,048,576 tags. A
// larger response is a [*httpretry.LimitError]. Such a body must arrive at 1 KiB/s, averaged over a minute, or over
// MaxElapsed if that is less; the rate of those to which S3 adds spaces while it works, of CompleteMultipartUpload and
// copies, is limited only after MaxElapsed, or an hour. A body that the caller reads as a stream has no limit. A success
// that cannot be the response to the requested operation of S3 is a [*NotS3Error]. Texts of a service are shown in one
// line, without the request's secrets.
//
// # Objects
//
// Package objects, beside this one, uploads and downloads whole objects and verifies every byte.
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

// Options configures how AWS clients retry. The zero Options retries by the zero Policy. An Options may serve any
// number of clients and goroutines; do not change it, or what it points to, after its first use.
type Options struct {
	// Policy decides what is retried, and when. If nil, the zero Policy. A Policy without a Name has the SDK's name
	// of the operation, such as PutObject. Its Classify is called before [Classify].
	//
	// Its AttemptTimeout bounds the time until the SDK returns the result, and not the reading of a body or an event
	// stream in that result. Set AttemptTimeout for operations that send an event stream, such as
	// StartStreamTranscription: if the connection ends before the response, the SDK waits for that stream, which no
	// code closes, until the context or the AttemptTimeout ends.
	//
	// An invalid Policy fails each operation with a [*retry.ConfigError].
	Policy *retry.Policy

	// Breakers, if not nil, configures a breaker for each endpoint and bucket, such as "s3:localhost:9000/bikes", in
	// place of the Policy's Breaker. Operations without a bucket share the breaker of their service and endpoint.
	Breakers *circuit.Config

	// Registry holds the breakers of Breakers. If nil, the clients of this Options share a new Registry.
	Registry *circuit.Registry
}

// Apply makes all clients that are created from cfg afterwards retry by p, instead of as the SDK would. If p is nil, the
// zero Policy is used. A second call replaces the first. The context of an operation limits all its attempts and waits.
//
// The policy decides how often and when an operation is retried; the policy and [Classify] decide which errors are
// retried. Errors that a client or an operation adds to those that the SDK retries, such as IDPCommunicationError of
// STS, are still retried.
//
// If the service reports expired credentials, they are fetched again and the attempt is repeated at once, once. Of
// concurrent operations with the same expired credentials, one fetches them for all.
//
// A proxy that refuses to connect to the service is a [*httpretry.ProxyError]. To report it, Apply replaces
// cfg.HTTPClient by a copy if it is nil, the SDK's, or an [http.Client] with a net/http transport. [Option] and
// [Options.Middleware] cannot replace it: with these, call [httpretry.ReportProxyErrors] for the transport.
//
// A broken body of GetObject is the caller's to handle; package objects resumes it.
func Apply(cfg *aws.Config, p *retry.Policy) { Options{Policy: p}.Apply(cfg) }

// Apply is the function [Apply] with the configuration of o.
func (o Options) Apply(cfg *aws.Config) {
	cfg.RetryMaxAttempts = 0
	cfg.HTTPClient = reportsProxies(cfg.HTTPClient)
	cfg.APIOptions = append(slices.Clip(cfg.APIOptions), o.Middleware())
}

// reportsProxies returns a copy of client that reports the refusals of proxies, or client itself if its type is
// unknown.
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

// Middleware is [Options.Apply] for one client or one operation: an element of APIOptions in the options of every
// service.
func (o Options) Middleware() func(*middleware.Stack) error {
	var policy retry.Policy
	if o.Policy != nil {
		policy = *o.Policy
	}
	policy.Classify = classifier(policy.Classify)
	if o.Registry == nil {
		o.Registry = new(circuit.Registry)
	}
	lock := make(refreshing, 1)
	return func(stack *middleware.Stack) error {
		op := &operation{name: stack.ID(), policy: policy, breakers: o.Breakers, registry: o.Registry, refreshLock: lock, stack: stack}
		return op.install(stack)
	}
}

// The IDs of the middleware, of this package and of the SDK.
const (
	idInput   = "perdure:Input"
	idEnd     = "perdure:End"
	idAttempt = "perdure:Attempt"
	idReceive = "perdure:Receive"
	idLift    = "perdure:Lift"

	idLoop    = "Retry"
	idSigning = "Signing"
)

// install replaces the loop in the stack of an operation. It leaves a stack without the loop (that of a presigned
// request) unchanged.
//
// An attempt is signing and sending. The steps before it in the loop have their own clients, which retry and ask the
// breaker themselves: credentials, a token of the instance metadata, a discovered endpoint. So a probe's permit is
// not held while another one is acquired. Clients differ in the order of these steps and of the loop, but each signs
// last.
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
	// Remove the steps of an earlier Apply, if any.
	_, _ = stack.Initialize.Remove(idInput)
	_, _ = stack.Finalize.Remove(idEnd)
	_, _ = stack.Finalize.Remove(idAttempt)
	_, _ = stack.Deserialize.Remove(idReceive)
	_, _ = stack.Deserialize.Remove(idLift)

	if err := stack.Initialize.Add(middleware.InitializeMiddlewareFunc(idInput, op.input), middleware.After); err != nil {
		return err
	}
	if err := stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc(idReceive, op.receive), middleware.After); err != nil {
		return err
	}
	if err := stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc(idLift, op.liftLimits), middleware.Before); err != nil {
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
