// Package stall ends reads of a body that brings nothing, or too little, for readers that know no deadline.
package stall

import (
	"fmt"
	"io"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/unwrap"
)

// Window is the time over which a rate is averaged if Limits.Window is 0.
const Window = 60 * time.Second

// Limits is what a body must deliver. The zero Limits has no limit.
type Limits struct {
	// Timeout is how long one Read may bring nothing; 0 or less means for ever.
	Timeout time.Duration

	// MinRate is the least bytes per second, averaged over Window; 0 or less means none. Only time that is spent within
	// Read counts, so that a reader which pauses does not make its body slow. A body that becomes slow is ended after one
	// Window, or two if the first one began well.
	MinRate int64

	// Window is the time over which MinRate is averaged; 0 or less means the constant Window.
	Window time.Duration

	// From is the instant before which the rate is not judged. The zero Time means that it always is.
	From time.Time
}

// Any reports whether l has a limit.
func (l Limits) Any() bool { return l.Timeout > 0 || l.MinRate > 0 }

// need returns how many bytes a window must bring.
func (l Limits) need() float64 { return float64(l.MinRate) * l.window().Seconds() }

func (l Limits) window() time.Duration {
	if l.Window <= 0 {
		return Window
	}
	return l.Window
}

// An Error reports a body that was ended by its Limits. It is a timeout in the sense of net.Error.
type Error struct {
	Waited  time.Duration // the Timeout, or the Window
	Bytes   int64         // that came within Waited
	MinRate int64         // that was missed; 0: nothing came for the Timeout
}

// Error is like "no data for 20s" or "60 bytes in 1m0s, which is less than 1024 bytes/s".
func (e *Error) Error() string {
	if e.MinRate == 0 {
		return fmt.Sprintf("no data for %v", e.Waited)
	}
	return fmt.Sprintf("%d bytes in %v, which is less than %d bytes/s", e.Bytes, e.Waited, e.MinRate)
}

// Timeout is true.
func (*Error) Timeout() bool { return true }

// Temporary is true.
func (*Error) Temporary() bool { return true }

// IsSlow reports whether err says that a body missed its MinRate.
func IsSlow(err error) bool {
	e, ok := unwrap.As[*Error](err)
	return ok && e.MinRate > 0
}

// A Guard holds one body, or one after the other, to its Limits. It is for one goroutine at a time. The fields must not
// change after the first Read. A Guard must not be copied after its first Read.
type Guard struct {
	Limits

	// Pool lends the timers; nil means that the Guard has one of its own.
	Pool *Pool

	waited time.Duration // within Read, in the present window
	bytes  int64         // that it brought
	own    *watchdog     // if there is no Pool
}

// Reset begins a window, as the next body deserves.
func (g *Guard) Reset() { g.waited, g.bytes = 0, 0 }

// Read reads from body into p. A body that misses a limit is closed, even while its Read waits, and the error is an
// *Error, which comes with the bytes of this Read.
func (g *Guard) Read(body io.ReadCloser, p []byte) (int, error) {
	if !g.Any() {
		return body.Read(p)
	}
	began := time.Now()
	limit, slow := g.patience(began)
	dog := g.borrow()
	dog.watch(body, limit)
	n, err := body.Read(p)
	fired := dog.leave()
	g.giveBack(dog)
	g.waited += time.Since(began)
	g.bytes += int64(n)
	switch {
	case fired && !slow:
		err = &Error{Waited: g.Timeout}
	case fired:
		err = g.slow()
	case err == nil && g.missed():
		err = g.slow()
		_ = body.Close() // err says it
	}
	return n, err
}

// slow returns the Error of a window that has brought too little.
func (g *Guard) slow() error {
	if float64(g.bytes) >= g.need() { // it is the silence after them that was a window long
		return &Error{Waited: g.window(), MinRate: g.MinRate}
	}
	return &Error{Waited: g.waited, Bytes: g.bytes, MinRate: g.MinRate}
}

// patience returns how long a Read that begins now may bring nothing, and whether the rate is the reason.
func (g *Guard) patience(now time.Time) (limit time.Duration, slow bool) {
	limit = g.Timeout
	if g.MinRate <= 0 {
		return limit, false
	}
	left := g.window() - g.waited
	if float64(g.bytes) >= g.need() {
		left += g.window() // of which nothing has come
	}
	left = max(left, g.From.Sub(now), 1)
	if limit > 0 && limit <= left {
		return limit, false
	}
	return left, true
}

// missed reports whether a window has ended without the bytes that it needs, and begins the next one if it has ended.
func (g *Guard) missed() bool {
	if g.MinRate <= 0 || g.waited < g.window() {
		return false
	}
	if float64(g.bytes) < g.need() && !time.Now().Before(g.From) {
		return true
	}
	g.Reset()
	return false
}

func (g *Guard) borrow() *watchdog {
	if g.Pool != nil {
		return g.Pool.get()
	}
	if g.own == nil {
		g.own = newWatchdog()
	}
	return g.own
}

func (g *Guard) giveBack(d *watchdog) {
	if g.Pool != nil {
		g.Pool.watchdogs.Put(d)
	}
}

// NewReader returns body with limits to its reads. A body that misses one is ended by end, and so is one that is closed;
// a nil end means that body's Close is enough.
func NewReader(body io.ReadCloser, l Limits, end func()) io.ReadCloser {
	return &reader{guard: Guard{Limits: l}, body: ending{body, end}}
}

type reader struct {
	guard Guard
	body  ending
}

func (r *reader) Read(p []byte) (int, error) { return r.guard.Read(r.body, p) }
func (r *reader) Close() error               { return r.body.Close() }

// An ending is a body whose Close calls end first.
type ending struct {
	io.ReadCloser
	end func()
}

func (e ending) Close() error {
	if e.end != nil {
		e.end()
	}
	return e.ReadCloser.Close()
}
