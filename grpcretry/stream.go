package grpcretry

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/calls"
	"github.com/seed-0f2c7998/perdure/retry"
)

// ErrBuffer reports that a stream was not repeated because a message was sent that was
// not kept: see [Options.BufferLimit].
var ErrBuffer = errors.New("grpcretry: not repeated: the messages sent were not all kept")

// Stream is a [grpc.StreamClientInterceptor]. Like [Interceptor.Unary], alone it does
// not switch gRPC's own retries off. The context limits the operation: all attempts, all
// waits, and the stream.
func (i *Interceptor) Stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
	streamer grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	r, err := i.routeOf(cc.Target(), method)
	if err != nil {
		return nil, err
	}
	s := &stream{
		operation: operation{route: r, policy: r.policy, counter: i.options.Counter},
		ctx:       ctx, oneReply: !desc.ServerStreams, oneRequest: !desc.ClientStreams,
	}
	s.open = func(ctx context.Context, to *result) (grpc.ClientStream, error) {
		return streamer(ctx, desc, cc, method, to.options(opts)...)
	}
	if s.left = max(i.options.BufferLimit, 0); i.options.BufferLimit == 0 {
		s.left = defaultBufferLimit
	}
	if s.call, err = calls.Begin(ctx, &s.policy); err != nil {
		return nil, public(ctx, err)
	}
	if err := s.begin(nil); err != nil {
		return nil, public(ctx, err)
	}
	s.stopEnd = context.AfterFunc(ctx, s.abandon)
	return s, nil
}

// A stream is the ClientStream of a caller, with all its attempts. One goroutine may send
// while another receives.
type stream struct {
	operation // its policy is changed with mu held, which abandon reads

	ctx        context.Context //nolint:containedctx // the caller's
	open       func(context.Context, *result) (grpc.ClientStream, error)
	oneReply   bool                          // the server sends one message
	oneRequest bool                          // the caller sends one message
	current    atomic.Pointer[streamAttempt] // set under sending and mu
	stopEnd    func() bool                   // removes what records the end of ctx

	sending sync.Mutex // held while a message is sent; locked before mu
	closed  bool       // CloseSend was called; guarded by sending

	mu        sync.Mutex
	call      calls.Call     // guarded by mu
	admitted  bool           // an attempt is under way that has no result yet; guarded by mu
	live      *streamAttempt // the open attempt, until it has a result; guarded by mu
	ended     error          // with which the operation ends since ctx ended in an attempt; guarded by mu
	committed bool           // the stream is not repeated any more; guarded by mu
	kept      []any          // the messages sent; guarded by mu
	left      int            // bytes that may still be kept, less than 0 if a message was not kept; guarded by mu
	place     func()         // frees the place of the breaker's concurrency; may be nil; guarded by mu
}

// A streamAttempt is one attempt.
type streamAttempt struct {
	grpc.ClientStream

	ctx      context.Context //nolint:containedctx // of the attempt
	cancel   context.CancelFunc
	timer    *time.Timer // ends the attempt without a message; nil if there is no timeout
	timedOut atomic.Bool
	got      result
}

// begin opens the first attempt or, after the failure err, the next, and repeats until one
// is open. It returns the error with which the operation ends.
func (s *stream) begin(err error) error {
	for {
		if err != nil {
			if stop := s.wait(err); stop != nil {
				return stop
			}
		}
		if stop := s.admit(); stop != nil {
			return stop
		}
		if err = s.attempt(); err == nil {
			return nil
		}
	}
}

// wait decides about the failure of an attempt, and waits for the next.
func (s *stream) wait(err error) error {
	delay, stop := s.decide(err)
	if stop != nil || delay <= 0 {
		return stop
	}
	if pass := calls.Waits(s.ctx); pass != nil {
		pass(delay)
		return nil
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done(): // admit returns the error
	}
	return nil
}

// decide records the failure of an attempt, and decides.
func (s *stream) decide(err error) (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return 0, s.ended
	}
	s.live, s.admitted = nil, false
	return s.call.Failed(s.ctx, err)
}

// abandon records the end of ctx, for a caller that does not receive any more.
func (s *stream) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.admitted {
		s.live, s.admitted = nil, false
		_, s.ended = s.call.Failed(s.ctx, newAttemptError(status.FromContextError(s.ctx.Err()).Err()))
	}
	s.free()
}

// admit waits for permission to make an attempt, and begins it. Of the other users of mu, abandon waits for
// the same end of ctx, and a sender waits for the permission.
func (s *stream) admit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.call.Admit(s.ctx)
	if s.admitted = err == nil; s.admitted {
		s.operation.begin()
	}
	return err
}

// attempt opens a stream and sends it what was sent before.
func (s *stream) attempt() error {
	a := new(streamAttempt)
	a.ctx, a.cancel = context.WithCancel(s.call.Context(s.ctx))
	a.ctx = calls.Number(a.ctx, s.attempts)
	if timeout := s.policy.AttemptTimeout; timeout > 0 {
		a.timer = time.AfterFunc(timeout, func() {
			a.timedOut.Store(true)
			a.cancel()
		})
	}
	var err error
	a.ClientStream, err = s.open(s.context(a.ctx, s.attempts), &a.got)
	if err != nil {
		a.end()
		return s.failure(a, err)
	}
	s.sending.Lock() // not before: a sender keeps its messages meanwhile, and does not wait
	defer s.sending.Unlock()
	for _, m := range s.messages() {
		if err := a.SendMsg(m); err != nil {
			break // the error is that of RecvMsg
		}
	}
	if s.closed {
		_ = a.CloseSend() // as above
	}
	s.current.Store(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = a
	return nil
}

// end ends the attempt.
func (a *streamAttempt) end() {
	if a.timer != nil {
		a.timer.Stop()
	}
	a.cancel()
}

func (s *stream) messages() []any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept
}

// failure returns the error of an attempt for the policy.
func (s *stream) failure(a *streamAttempt, err error) error {
	e := newAttemptError(err)
	e.awaitEnd(s.ctx)
	if a.timedOut.Load() && e.isEnd() {
		e = newAttemptError(s.tooLate())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	failure := s.obey(e, &a.got)
	if s.left < 0 {
		e.note = ErrBuffer
		failure = retry.Final(failure)
	}
	return failure
}

func (s *stream) tooLate() error {
	return status.Errorf(codes.DeadlineExceeded, "no message within the attempt timeout of %v", s.policy.AttemptTimeout)
}

// keep keeps m for a retry, and reports whether the stream can be repeated.
func (s *stream) keep(m any) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.committed || s.left < 0 {
		return false
	}
	size := -1
	switch m := m.(type) {
	case proto.Message:
		size = proto.Size(m)
	case []byte:
		size = len(m)
	case *[]byte:
		size = len(*m)
	}
	if size < 0 || size > s.left {
		s.left, s.kept = -1, nil
		return false
	}
	s.left -= size
	s.kept = append(s.kept, clone(m))
	return true
}

// clone copies m: callers often use a message again.
func clone(m any) any {
	switch m := m.(type) {
	case proto.Message:
		return proto.Clone(m)
	case []byte:
		return slices.Clone(m)
	case *[]byte:
		c := slices.Clone(*m)
		return &c
	}
	return m
}

// SendMsg sends m. If the attempt has failed and m is kept, SendMsg returns nil: RecvMsg
// makes the next attempt.
func (s *stream) SendMsg(m any) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	kept := s.keep(m)
	err := s.current.Load().SendMsg(m)
	switch {
	case err == nil, (kept || s.oneRequest) && errors.Is(err, io.EOF):
		return nil
	case !errors.Is(err, io.EOF): // m cannot be sent
		s.finish(s.current.Load())
	}
	return err
}

// CloseSend ends the caller's side of the stream.
func (s *stream) CloseSend() error {
	s.sending.Lock()
	defer s.sending.Unlock()
	s.closed = true
	return s.current.Load().CloseSend()
}

// RecvMsg receives the next message. Until the first, it repeats attempts that fail.
func (s *stream) RecvMsg(m any) error {
	for {
		a := s.current.Load()
		err := a.RecvMsg(m)
		if err == nil || errors.Is(err, io.EOF) {
			err = s.received(a, m, err)
		}
		if err == nil || s.isCommitted() {
			if err != nil || s.oneReply {
				s.finish(a)
			}
			return err
		}
		if err := s.again(a, err); err != nil {
			s.finish(a)
			return public(s.ctx, err)
		}
	}
}

// again replaces the attempt a, which failed with err.
func (s *stream) again(a *streamAttempt, err error) error {
	a.end() // a sender that is blocked returns
	return s.begin(s.failure(a, err))
}

// received commits the stream to the attempt a, and returns err, which is nil after a message and
// io.EOF at the end. If the attempt's timeout has ended the attempt before the first message m
// came, received returns that error.
func (s *stream) received(a *streamAttempt, m any, err error) error {
	if err == nil && !s.oneReply && s.isLate(a) {
		a.cancel()
		for a.RecvMsg(m) == nil { // gRPC fills a.got at the end of the attempt
		}
		return s.tooLate()
	}
	s.commit(a)
	return err
}

// isLate stops the timeout of the attempt a, and reports whether it has ended the attempt before the stream was committed.
func (s *stream) isLate(a *streamAttempt) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.committed && a.timer != nil && !a.timer.Stop()
}

// commit records that the caller gets a message, the header or the end of the attempt a.
func (s *stream) commit(a *streamAttempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live != a {
		return
	}
	if a.timer != nil {
		a.timer.Stop()
	}
	s.live, s.committed, s.admitted, s.kept = nil, true, false, nil
	s.place = breakers.KeepPlace(a.ctx, s.ctx, s.policy.Breaker)
	s.call.Succeeded(s.ctx)
}

func (s *stream) isCommitted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.committed
}

// finish frees what the stream holds.
func (s *stream) finish(a *streamAttempt) {
	s.stopEnd()
	a.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live, s.admitted = nil, false
	s.call.Cancel()
	s.free()
}

// free frees the place of the breaker's concurrency.
func (s *stream) free() {
	if s.place != nil {
		s.place()
		s.place = nil
	}
}

// Header returns the header of the current attempt. If there is one, the stream is not
// repeated any more.
func (s *stream) Header() (metadata.MD, error) {
	a := s.current.Load()
	header, err := a.Header()
	if err == nil && header != nil {
		s.commit(a)
	}
	return header, err
}

// Trailer returns the trailer of the last attempt.
func (s *stream) Trailer() metadata.MD { return s.current.Load().Trailer() }

// Context returns the context of the last attempt.
func (s *stream) Context() context.Context { return s.current.Load().Context() }
