// Package stall ends the read of a body that delivers nothing, or too little, for readers without a deadline.
package stall

import (
	"fmt"
	"io"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/unwrap"
)

// Window is the time over which a rate is averaged if Limits.Window is 0.
const Window = 60 * time.Second

// Limits are the minimum that a body must deliver. The zero Limits has no limit.
type Limits struct {
	// Timeout is how long one Read may return nothing; 0 or less means no limit.
	Timeout time.Duration

	// MinRate is the minimum rate in bytes per second, averaged over Window; 0 or less means no limit. Only time within
	// Read counts, so a reader that pauses does not make its body slow. A slow body is ended after one Window, or after two
	// if its first Window began fast enough.
	MinRate int64

	// Window is the time over which MinRate is averaged; 0 or less means the constant Window.
	Window time.Duration

	// From is the instant before which MinRate does not apply. The zero Time means that MinRate always applies.
	From time.Time
}

// Any reports whether l has a limit.
func (l Limits) Any() bool { return l.Timeout > 0 || l.MinRate > 0 }

// Within returns l with a Window of at most a time, but at least a second; 0 or less means no limit of the Window.
func (l Limits) Within(most time.Duration) Limits {
	if most > 0 {
		l.Window = max(min(l.window(), most), time.Second)
	}
	return l
}

// need returns how many bytes a window must deliver.
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
	Bytes   int64         // the bytes received within Waited
	MinRate int64         // the rate that was missed; 0 means that nothing was received for the Timeout
}

// Error is like "no data for 20s" or "60 bytes in 1m0s, which is less than 1024 bytes/s".
func (e *Error) Error() string {
	if e.MinRate == 0 {
		return fmt.Sprintf("no data for %v", e.Waited)
	}
	return fmt.Sprintf("%d bytes in %v, which is less than %d bytes/s", e.Bytes, e.Waited, e.MinRate)
}

// Timeout returns true.
func (*Error) Timeout() bool { return true }

// Temporary returns true.
func (*Error) Temporary() bool { return true }

// IsSlow reports whether err says that a body missed its MinRate.
func IsSlow(err error) bool {
	e, ok := unwrap.As[*Error](err)
	return ok && e.MinRate > 0
}

// A Guard enforces its Limits on one body, or on several in succession. It is for one goroutine at a time. Neither change
// its fields nor copy a Guard after the first Read.
type Guard struct {
	Limits

	// Pool has the timers. If nil, the Guard has a timer of its own.
	Pool *Pool

	waited time.Duration // the time within Read, in the current window
	bytes  int64         // the bytes received in the current window
	own    *watchdog     // nil with a Pool, and before the first Read
}

// Reset begins a window, for the next body.
func (g *Guard) Reset() { g.waited, g.bytes = 0, 0 }

// Read reads from body into p. If the body misses a limit, Read closes it, even while the body's Read waits, and returns an
// *Error together with the bytes read.
func (g *Guard) Read(body io.ReadCloser, p []byte) (int, error) {
	if !g.Any() {
		return body.Read(p)
	}
	began := time.Now()
	limit, slow := g.limit(began)
	dog := g.watchdog()
	dog.watch(body, limit)
	n, err := body.Read(p)
	fired := dog.stop()
	g.release(dog)
	g.waited += time.Since(began)
	g.bytes += int64(n)
	switch {
	case fired && !slow:
		err = &Error{Waited: g.Timeout}
	case fired:
		err = g.slow()
	case err == nil && g.missed():
		err = g.slow()
		_ = body.Close() // err is the error
	}
	return n, err
}

// slow returns the Error of a window with too few bytes.
func (g *Guard) slow() error {
	if float64(g.bytes) >= g.need() { // enough bytes, then nothing for a whole window
		return &Error{Waited: g.window(), MinRate: g.MinRate}
	}
	return &Error{Waited: g.waited, Bytes: g.bytes, MinRate: g.MinRate}
}

// limit returns how long a Read that begins now may return nothing, and whether MinRate is the reason.
func (g *Guard) limit(now time.Time) (limit time.Duration, slow bool) {
	limit = g.Timeout
	if g.MinRate <= 0 {
		return limit, false
	}
	left := g.window() - g.waited
	if float64(g.bytes) >= g.need() {
		left += g.window() // the next window, still empty
	}
	left = max(left, g.From.Sub(now), 1)
	if limit > 0 && limit <= left {
		return limit, false
	}
	return left, true
}

// missed reports whether a window has ended with too few bytes. If the window has ended otherwise, missed begins the next.
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

func (g *Guard) watchdog() *watchdog {
	if g.Pool != nil {
		return g.Pool.get()
	}
	if g.own == nil {
		g.own = newWatchdog()
	}
	return g.own
}

func (g *Guard) release(d *watchdog) {
	if g.Pool != nil {
		g.Pool.watchdogs.Put(d)
	}
}

// NewReader returns body with limits on its reads. If the body misses a limit, or is closed, end is called and then body's
// Close. If end is nil, only Close is called.
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
