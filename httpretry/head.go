package httpretry

import (
	"context"
	"sync"
	"time"
)

// A headContext ends when the time to the head of a response is over, counted from the last byte of the caller's body that was
// read for the first time: while the caller sends, the server cannot respond. It also ends with the context of the request.
type headContext struct {
	context.Context //nolint:containedctx // it is a context

	limit  time.Duration
	done   chan struct{}
	timer  *time.Timer
	detach func() bool // from the context of the request

	mu   sync.Mutex
	end  time.Time
	err  error
	over bool // stopped: the head has arrived
}

func newHeadContext(ctx context.Context, limit time.Duration) *headContext {
	h := &headContext{Context: ctx, limit: limit, done: make(chan struct{}), end: time.Now().Add(limit)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = time.AfterFunc(limit, h.fire)
	h.detach = context.AfterFunc(ctx, func() { h.finish(ctx.Err()) })
	return h
}

// fire ends the context, unless extend has moved its end.
func (h *headContext) fire() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if left := time.Until(h.end); left > 0 {
		if !h.over {
			h.timer.Reset(left)
		}
		return
	}
	h.finishLocked(context.DeadlineExceeded)
}

func (h *headContext) finish(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.finishLocked(err)
}

func (h *headContext) finishLocked(err error) {
	if h.err == nil && !h.over {
		h.err = err
		close(h.done)
	}
}

// extend moves the end to the limit from now. A nil context is never extended.
func (h *headContext) extend() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.end = time.Now().Add(h.limit)
}

// stop releases the timer. From then on the context does not end.
func (h *headContext) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	h.timer.Stop()
	h.detach()
}

// expired reports whether the context has ended because the time is over.
func (h *headContext) expired() bool {
	return h != nil && h.Err() == context.DeadlineExceeded && h.Context.Err() == nil //nolint:errorlint // it is that error itself
}

// Deadline returns the present end, or that of the request's context if it is earlier.
func (h *headContext) Deadline() (time.Time, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if own, ok := h.Context.Deadline(); ok && own.Before(h.end) {
		return own, true
	}
	return h.end, true
}

// Done returns a channel that is closed when the context ends.
func (h *headContext) Done() <-chan struct{} { return h.done }

// Err returns nil until Done is closed.
func (h *headContext) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.Context.Err(); err != nil { // before the AfterFunc has run
		h.finishLocked(err)
	}
	return h.err
}
