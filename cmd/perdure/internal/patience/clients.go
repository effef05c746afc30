package patience

import (
	"context"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
)

// A Transport waits for leave to send, outside of the attempts.
type Transport struct {
	http.RoundTripper

	Patience *Patience
	Breakers func() []*circuit.Breaker
}

// RoundTrip sends req when it may.
func (t Transport) RoundTrip(req *http.Request) (res *http.Response, err error) {
	waited := t.Patience.Do(req.Context(), t.Breakers, func(ctx context.Context) error {
		if res != nil {
			_ = res.Body.Close() // it only said when to come back
		}
		if res, err = t.RoundTripper.RoundTrip(req.WithContext(ctx)); err != nil { //nolint:bodyclose // the caller's to close
			return err
		}
		return httpretry.GaveUp(res)
	})
	if err != nil {
		return nil, waited
	}
	return res, nil
}

// Apply makes the operations of an S3 client wait like a Transport.
func (p *Patience) Apply(o *s3.Options, breakers func() []*circuit.Breaker) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("perdure:Wait", func(
			ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
		) (out middleware.InitializeOutput, metadata middleware.Metadata, err error) {
			rewind := bodyOf(in.Parameters)
			err = p.Do(ctx, breakers, func(ctx context.Context) error {
				if err := rewind(); err != nil {
					return err
				}
				out, metadata, err = next.HandleInitialize(ctx, in)
				return err
			})
			return out, metadata, err
		}), middleware.Before)
	})
}

// bodyOf returns what puts the body of an operation back to where it begins:
// an earlier attempt may have sent it.
func bodyOf(parameters any) (rewind func() error) {
	var body io.Reader
	switch in := parameters.(type) {
	case *s3.PutObjectInput:
		body = in.Body
	case *s3.UploadPartInput:
		body = in.Body
	}
	seeker, ok := body.(io.Seeker)
	if !ok {
		return func() error { return nil }
	}
	begin, failed := seeker.Seek(0, io.SeekCurrent)
	return func() error {
		if failed == nil {
			_, failed = seeker.Seek(begin, io.SeekStart)
		}
		return failed
	}
}
