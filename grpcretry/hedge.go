package grpcretry

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/meter"
	"github.com/seed-0f2c7998/perdure/retry"
)

// hedges are the attempts of a hedged call. One goroutine uses them.
type hedges struct {
	op      *operation
	ctx     context.Context //nolint:containedctx // of all attempts
	reply   any             // the caller's
	send    func(context.Context, any, *result) error
	ends    chan hedgeEnd
	next    *time.Timer // fires when the next attempt is due
	sent    int
	running int
	stopped bool     // no more attempts begin
	last    hedgeEnd // of the attempt that ended last
}

// A hedgeEnd is the end of an attempt.
type hedgeEnd struct {
	attempt int // its number, from 1
	reply   any
	err     error
	got     result
}

// hedged makes the attempts of a hedged call, and waits for the end of each. attempt is the
// context of all. Hedges take the place of retries, so that the error is final.
func (op *operation) hedged(caller, attempt context.Context, reply any, send func(context.Context, any, *result) error) error {
	ctx, cancel := context.WithCancel(attempt)
	h := hedges{
		op: op, ctx: ctx, reply: reply, send: send,
		ends: make(chan hedgeEnd, op.route.hedge.MaxAttempts), next: time.NewTimer(op.route.hedge.Delay),
	}
	defer func() {
		h.next.Stop()
		cancel()
		for ; h.running > 0; h.running-- {
			<-h.ends
		}
	}()
	h.begin()
	for !h.over() {
		h.step()
	}
	if h.last.err == nil {
		if s := op.route.series(); s != nil && h.last.attempt > 1 {
			s.HedgesWon.Add(1)
		}
		setReply(reply, h.last.reply)
		return nil
	}
	return retry.Final(op.failed(caller, attempt, h.last.err, &h.last.got))
}

// begin begins an attempt.
func (h *hedges) begin() {
	h.sent++
	h.running++
	attempt := h.sent
	ctx, reply := h.op.context(h.ctx, attempt), newReply(h.reply)
	go func() {
		end := hedgeEnd{attempt: attempt, reply: reply}
		end.err = h.send(ctx, reply, &end.got)
		h.ends <- end
	}()
}

// step waits for the next event: an attempt is due, or has ended.
func (h *hedges) step() {
	select {
	case <-h.ctx.Done():
		h.stopped = true
		h.await()
	case <-h.next.C:
		if h.stopped || !h.mayFollow() || !breakers.Withdraw(h.op.policy.Breaker, circuit.Token) {
			h.stopped = true
			h.await()
			return
		}
		if s := h.op.route.series(); s != nil {
			s.Hedges.Add(1)
		}
		h.begin()
		h.next.Reset(h.op.route.hedge.Delay)
	case end := <-h.ends:
		h.ended(end)
	}
}

// await waits for the end of an attempt once no more attempts begin.
func (h *hedges) await() {
	if h.running > 0 {
		h.ended(<-h.ends)
	}
}

// ended records the end of an attempt. A failure makes the next attempt due at once, or when
// the server says.
func (h *hedges) ended(end hedgeEnd) {
	h.running--
	h.last = end
	if end.err == nil {
		h.stopped = true
		return
	}
	wait, _ := pushback(end.got.trailer)
	if wait > 0 && h.op.policy.IgnoreRetryAfter {
		wait = 0
	}
	h.stopped = h.stopped || wait < 0 || h.isTooLong(wait) || !h.mayFollow()
	if !h.stopped {
		h.next.Reset(wait)
	}
}

// isTooLong reports whether the policy or the deadline does not allow a wait that a server asked for.
func (h *hedges) isTooLong(wait time.Duration) bool {
	deadline, ok := h.ctx.Deadline()
	return wait > cmp.Or(h.op.policy.MaxRetryAfter, time.Minute) || ok && wait > time.Until(deadline)
}

// over reports whether last decides the call.
func (h *hedges) over() bool {
	if h.sent == h.running {
		return false // none has ended
	}
	return h.last.err == nil || !h.isNonFatal() || h.stopped && h.running == 0
}

// series returns what counts the calls of r; nil without Policy.Metrics.
func (r *route) series() *meter.Series {
	return meter.For(r.policy.Metrics, &r.policy, r.policy.Name, r.policy.Breaker)
}

func (h *hedges) isNonFatal() bool {
	return slices.Contains(h.op.route.hedge.NonFatal, newAttemptError(h.last.err).status.Code())
}

// mayFollow reports whether another attempt may begin.
func (h *hedges) mayFollow() bool {
	return h.sent < h.op.route.hedge.MaxAttempts && h.op.policy.Breaker.State() == circuit.Closed
}

// newReply returns a new message of the type of reply.
func newReply(reply any) any {
	if m, ok := reply.(proto.Message); ok {
		return m.ProtoReflect().New().Interface()
	}
	return reflect.New(reflect.TypeOf(reply).Elem()).Interface()
}

// setReply sets reply to the message of the attempt that succeeded.
func setReply(reply, from any) {
	if to, ok := reply.(proto.Message); ok {
		if from, ok := from.(proto.Message); ok {
			proto.Reset(to)
			proto.Merge(to, from)
			return
		}
	}
	reflect.ValueOf(reply).Elem().Set(reflect.ValueOf(from).Elem())
}
