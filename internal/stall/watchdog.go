package stall

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// A Pool lends out timers, so that a body which is read in a moment does not cost one. The zero Pool is ready for use,
// by many goroutines at once.
type Pool struct{ watchdogs sync.Pool }

func (p *Pool) get() *watchdog {
	if d, ok := p.watchdogs.Get().(*watchdog); ok {
		return d
	}
	return newWatchdog()
}

// A watchdog closes what is not finished in time. It watches one thing at a time, for one goroutine.
type watchdog struct {
	timer *time.Timer

	mu     sync.Mutex
	target io.Closer // nil: nothing to watch
	due    time.Time
	fired  atomic.Bool
}

// newWatchdog returns one that watches nothing yet.
func newWatchdog() *watchdog {
	d := new(watchdog)
	d.timer = time.AfterFunc(time.Hour, d.fire)
	d.timer.Stop()
	return d
}

// watch makes d close target if leave does not come within limit.
func (d *watchdog) watch(target io.Closer, limit time.Duration) {
	d.fired.Store(false)
	d.mu.Lock()
	d.target, d.due = target, time.Now().Add(limit)
	d.mu.Unlock()
	d.timer.Reset(limit)
}

// leave ends the watch. It reports whether the target has been closed, or is about to be.
func (d *watchdog) leave() (fired bool) {
	d.timer.Stop()
	d.mu.Lock()
	d.target = nil
	d.mu.Unlock()
	return d.fired.Load()
}

// fire closes the target. The timer may have fired for an earlier one: then it is not due yet.
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
	_ = target.Close() // the one who reads from it hears of it
}
