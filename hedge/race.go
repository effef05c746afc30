package hedge

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/notify"
)

// A call is the attempts of one call of Value.
type call[T any] struct {
	hedge  *Hedge[T]
	f      func(context.Context) (T, error)
	ctx    context.Context //nolint:containedctx // that of all attempts, which end with the call
	caller context.Context //nolint:containedctx // that of the events
	cancel context.CancelCauseFunc
	delay  time.Duration
	timer  *time.Timer

	mu      sync.Mutex
	changed sync.Cond // armed or running has changed
	armed   bool      // the timer may yet call next
	sent    int       // attempts that were made, the first included
	running int       // hedges that have not returned
	closed  bool      // no hedge follows: an attempt has ended
	decided bool      // value and err are those of the call
	winner  int       // the number of the attempt that value and err are of
	value   T
	err     error
	lost    []T // successes to discard
	panics  bool
	panic   any // what a hedge panicked with; nil means that it called runtime.Goexit
}

// race makes the attempts of one call, with delay between them.
func race[T any](ctx context.Context, h *Hedge[T], delay time.Duration, f func(context.Context) (T, error)) (T, error) {
	c := call[T]{hedge: h, f: f, caller: ctx, delay: delay, sent: 1, armed: true}
	c.changed.L = &c.mu
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	c.mu.Lock() // next reads timer
	c.timer = time.AfterFunc(delay, c.next)
	c.mu.Unlock()
	returned := false
	defer func() { // even if f panics
		if !returned {
			c.cancel(ErrLost)
			c.wait()
			c.discard(true)
		}
	}()
	v, err := f(c.ctx)
	returned = true
	c.end(1, v, err)
	c.wait()
	c.cancel(ErrLost)
	c.discard(c.panics)
	if c.panics && c.panic == nil {
		runtime.Goexit()
	} else if c.panics {
		panic(c.panic)
	}
	if c.winner > 1 && c.err == nil {
		h.report(ctx, Won, c.winner, delay)
	}
	return c.value, c.err
}

// next makes the next attempt, on the timer's goroutine, if the call still waits and the budget pays for it.
func (c *call[T]) next() {
	c.mu.Lock()
	c.armed = false
	if c.closed || c.ctx.Err() != nil || !c.hedge.meter.Withdraw() {
		c.changed.Broadcast()
		c.mu.Unlock()
		return
	}
	c.sent++
	c.running++
	attempt := c.sent
	if attempt <= max(c.hedge.Max, 1) {
		c.armed = true
		c.timer.Reset(c.delay)
	}
	c.mu.Unlock()
	returned := false
	defer func() {
		if !returned {
			c.fail(recover())
		}
		c.mu.Lock()
		c.running--
		c.changed.Broadcast()
		c.mu.Unlock()
	}()
	c.hedge.report(c.caller, Sent, attempt, c.delay)
	v, err := c.f(c.ctx)
	returned = true
	c.end(attempt, v, err)
}

// end records the result of an attempt, and cancels the others if the call is decided.
func (c *call[T]) end(attempt int, v T, err error) {
	decides := decides(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.decided {
		if err == nil {
			c.lost = append(c.lost, v)
		}
		return
	}
	c.value, c.err, c.winner, c.decided = v, err, attempt, decides
	if decides && (c.running > 0 || attempt > 1) {
		c.cancel(ErrLost)
	}
}

// fail records that a hedge did not return, and cancels the others.
func (c *call[T]) fail(v any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed, c.panics, c.panic = true, true, v
	c.cancel(ErrLost)
}

// wait waits until no hedge runs and none can begin.
func (c *call[T]) wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.armed && c.timer.Stop() {
		c.armed = false
	}
	for c.armed || c.running > 0 {
		c.changed.Wait()
	}
}

// discard discards the values that are not returned. No attempt runs any more.
func (c *call[T]) discard(all bool) {
	if c.hedge.Discard == nil {
		return
	}
	if all && c.winner > 0 && c.err == nil {
		c.lost = append(c.lost, c.value)
	}
	for _, v := range c.lost {
		notify.Call(c.caller, "hedge: Hedge.Discard", func(_ context.Context, v T) { c.hedge.Discard(v) }, v)
	}
}
