// Package slots limits the concurrent requests of a transfer.
package slots

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
)

// Slots is a semaphore of requests. It is safe for concurrent use.
type Slots struct {
	taken   chan struct{}
	yielded chan struct{}
}

// New returns n slots. Requests that wait for their next attempt yield theirs to others, at most yielded at a time.
// So one failure does not delay a transfer, and if everything fails, few other requests begin.
func New(n, yielded int) *Slots {
	return &Slots{taken: make(chan struct{}, n), yielded: make(chan struct{}, yielded)}
}

// Take waits for a slot. The caller must release it.
func (s *Slots) Take(ctx context.Context) (*Slot, error) {
	if err := s.take(ctx); err != nil {
		return nil, err
	}
	return &Slot{of: s}, nil
}

func (s *Slots) take(ctx context.Context) error {
	select {
	case s.taken <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A Slot is the permission for one request, for one goroutine. The methods of a nil Slot do nothing.
type Slot struct {
	of      *Slots
	yielded bool
}

// Yield frees the slot, unless too many are yielded already, until a request with Attempts makes its next attempt.
func (s *Slot) Yield() {
	if s == nil || s.yielded {
		return
	}
	select {
	case s.of.yielded <- struct{}{}:
		s.yielded = true
		<-s.of.taken
	default:
	}
}

// regain waits for a slot if this one is yielded.
func (s *Slot) regain(ctx context.Context) error {
	if !s.yielded {
		return nil
	}
	if err := s.of.take(ctx); err != nil {
		return err
	}
	s.yielded = false
	<-s.of.yielded
	return nil
}

// Release frees the slot.
func (s *Slot) Release() {
	switch {
	case s == nil:
	case s.yielded:
		<-s.of.yielded
	default:
		<-s.of.taken
	}
}

// Attempts is an option of an operation that yields the slot between its attempts.
func (s *Slot) Attempts(o *s3.Options) {
	if s == nil {
		return
	}
	each := middleware.FinalizeMiddlewareFunc("perdure:Slot", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (middleware.FinalizeOutput, middleware.Metadata, error) {
		if err := s.regain(ctx); err != nil {
			return middleware.FinalizeOutput{}, middleware.Metadata{}, err
		}
		out, metadata, err := next.HandleFinalize(ctx, in)
		if err != nil {
			s.Yield()
		}
		return out, metadata, err
	})
	o.APIOptions = append(slices.Clip(o.APIOptions), func(stack *middleware.Stack) error {
		return stack.Finalize.Insert(each, "Retry", middleware.After)
	})
}
