package wait

import (
	"context"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
)

// A Transport is an [http.RoundTripper] whose requests wait as Waiter says, outside of
// their attempts.
type Transport struct {
	RoundTripper http.RoundTripper
	Waiter       *Waiter
	Breakers     func() []*circuit.Breaker
}

// RoundTrip sends req, again if it was refused and the wait was not in vain.
func (t Transport) RoundTrip(req *http.Request) (res *http.Response, err error) {
	again := false
	waited := t.Waiter.Do(req.Context(), t.Breakers, func(ctx context.Context) error {
		if res != nil {
			_ = res.Body.Close() // an earlier attempt's, which said when to come back
		}
		sent := req.WithContext(ctx)
		if again && req.GetBody != nil { // an earlier attempt has read the body
			if sent.Body, err = req.GetBody(); err != nil {
				return err
			}
		}
		again = true
		if res, err = t.RoundTripper.RoundTrip(sent); err != nil { //nolint:bodyclose // the caller's to close
			return err
		}
		return httpretry.GaveUp(res)
	})
	if err != nil {
		return nil, waited
	}
	return res, nil
}

// Apply makes the operations of an S3 client wait as w says, like a [Transport].
func (w *Waiter) Apply(o *s3.Options, breakers func() []*circuit.Breaker) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("perdure:Wait", func(
			ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
		) (out middleware.InitializeOutput, metadata middleware.Metadata, err error) {
			rewind := rewinder(in.Parameters)
			err = w.Do(ctx, breakers, func(ctx context.Context) error {
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

// rewinder returns a function that rewinds the body of an operation to its beginning:
// an earlier attempt may have sent it.
func rewinder(parameters any) (rewind func() error) {
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
