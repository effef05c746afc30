// Package watchdog ends reads that take too long, for readers that know no deadline.
package watchdog

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// A Kennel lends out dogs, so that a body which is read in a moment does not cost a timer. The zero Kennel is ready for
// use, by many goroutines at once.
type Kennel struct{ dogs sync.Pool }

// A Dog closes what is not finished in time. It watches one thing at a time, for one goroutine.
type Dog struct {
	timer *time.Timer

	mu     sync.Mutex
	target io.Closer // nil: nothing to watch
	due    time.Time
	barked atomic.Bool
}

// Get returns a dog that watches nothing yet.
func (k *Kennel) Get() *Dog {
	if d, ok := k.dogs.Get().(*Dog); ok {
		return d
	}
	d := new(Dog)
	d.timer = time.AfterFunc(time.Hour, d.bark)
	d.timer.Stop()
	return d
}

// Put takes back a dog that watches nothing.
func (k *Kennel) Put(d *Dog) { k.dogs.Put(d) }

// Watch makes d close target if Leave does not come within limit.
func (d *Dog) Watch(target io.Closer, limit time.Duration) {
	d.barked.Store(false)
	d.mu.Lock()
	d.target, d.due = target, time.Now().Add(limit)
	d.mu.Unlock()
	d.timer.Reset(limit)
}

// Leave ends the watch. It reports whether the target has been closed, or is about to be.
func (d *Dog) Leave() (barked bool) {
	d.timer.Stop()
	d.mu.Lock()
	d.target = nil
	d.mu.Unlock()
	return d.barked.Load()
}

// bark closes the target. The timer may have fired for an earlier one: then it is not due yet.
func (d *Dog) bark() {
	d.mu.Lock()
	target := d.target
	if target == nil || time.Now().Before(d.due) {
		d.mu.Unlock()
		return
	}
	d.target = nil
	d.barked.Store(true)
	d.mu.Unlock()
	_ = target.Close() // the one who reads from it hears of it
}
