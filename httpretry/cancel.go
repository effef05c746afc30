package httpretry

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// ended returns why the caller of req waits no longer: its context has ended, or its Cancel channel is closed, with which
// an http.Client has a transport that it does not know observe its Timeout, beside a deadline. It returns nil if neither
// is the case.
func ended(req *http.Request) error {
	ctx := req.Context()
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-req.Cancel: //nolint:staticcheck // deprecated, and still honored by net/http
	default:
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return context.Canceled
}

// withCancel returns a context that ends as ended says. The caller calls release when it is no longer needed.
func withCancel(req *http.Request) (ctx context.Context, release func()) {
	if req.Cancel == nil { //nolint:staticcheck // as above
		return req.Context(), func() {}
	}
	c := &cancelContext{Context: req.Context(), req: req}
	return c, c.release
}

// A cancelContext is the context of a request with a Cancel channel. It costs a goroutine once someone waits for its end.
type cancelContext struct {
	context.Context //nolint:containedctx // it is one

	req  *http.Request
	once sync.Once
	both context.Context //nolint:containedctx // ends with the first of the two; nil before someone waits
	stop context.CancelFunc
	over atomic.Bool // released
}

// Err returns what ended does, and never nil once Done is closed.
func (c *cancelContext) Err() error {
	if err := ended(c.req); err != nil || !c.over.Load() {
		return err
	}
	return context.Canceled
}

// Done returns a channel that is closed when the context or the channel ends.
func (c *cancelContext) Done() <-chan struct{} {
	c.once.Do(func() {
		c.both, c.stop = context.WithCancel(c.Context)
		go func() {
			select {
			case <-c.req.Cancel: //nolint:staticcheck // as above
				c.stop()
			case <-c.both.Done():
			}
		}()
	})
	return c.both.Done()
}

func (c *cancelContext) release() {
	c.over.Store(true)
	c.once.Do(func() { c.both, c.stop = c.Context, func() {} })
	c.stop()
}
