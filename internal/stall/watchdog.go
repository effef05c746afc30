package stall

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// A Pool keeps timers for reuse, so that a short body does not allocate one. The zero Pool is ready for use. It is safe for
// concurrent use.
type Pool struct{ watchdogs sync.Pool }

func (p *Pool) get() *watchdog {
	if d, ok := p.watchdogs.Get().(*watchdog); ok {
		return d
	}
	return newWatchdog()
}

// A watchdog closes a target that is not stopped in time. It watches one target at a time, for one goroutine.
type watchdog struct {
	timer *time.Timer

	mu     sync.Mutex
	target io.Closer // nil if stopped
	due    time.Time
	fired  atomic.Bool
}

// newWatchdog returns a stopped watchdog.
func newWatchdog() *watchdog {
	d := new(watchdog)
	d.timer = time.AfterFunc(time.Hour, d.fire)
	d.timer.Stop()
	return d
}

// watch closes target after limit, unless stop is called before.
func (d *watchdog) watch(target io.Closer, limit time.Duration) {
	d.fired.Store(false)
	d.mu.Lock()
	d.target, d.due = target, time.Now().Add(limit)
	d.mu.Unlock()
	d.timer.Reset(limit)
}

// stop ends the watch. It reports whether the target has been closed, or is about to be closed.
func (d *watchdog) stop() (fired bool) {
	d.timer.Stop()
	d.mu.Lock()
	d.target = nil
	d.mu.Unlock()
	return d.fired.Load()
}

// fire closes the target. If the timer has fired for an earlier target, the current one is not due yet.
func (d *watchdog) fire() {
	d.mu.Lock()
	target := d.target
	if target == nil || time.Now().Before(d.due) {
		d.mu.Unlock()
		return
	}
	d.target = nil
	d.fired.Store(true)
	d.mu.Unlock()
	_ = target.Close() // the reader gets an error
}
