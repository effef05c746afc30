// Package slots limits how many requests of a transfer are under way at a time.
package slots

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
)

// Slots are what requests need to be under way. They are safe for concurrent use.
type Slots struct {
	taken   chan struct{}
	yielded chan struct{}
}

// New returns n slots, of which so many may be yielded at a time: by requests
// that wait for their next attempt, to others. So one failure does not hold up a
// transfer; and where everything fails, few others are begun.
func New(n, yielded int) *Slots {
	return &Slots{taken: make(chan struct{}, n), yielded: make(chan struct{}, yielded)}
}

// Take waits for a slot. Release it in the end.
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

// A Slot is one of them, and for one goroutine. Nil is one of any number.
type Slot struct {
	of      *Slots
	yielded bool
}

// Yield lets another have the slot, unless too many others have it already, until
// a request with Attempts makes its next.
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

// regain waits for a slot if this one was yielded.
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

// Release gives the slot back.
func (s *Slot) Release() {
	switch {
	case s == nil:
	case s.yielded:
		<-s.of.yielded
	default:
		<-s.of.taken
	}
}

// Attempts is an option of an operation: the slot is yielded between its attempts.
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
