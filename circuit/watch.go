package circuit

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/gate"
)

// watches are the attempts of a process that have no timeout of their own and are
// watched, so that one that has run for long is known before it ends: all of
// them while the gate is in trouble, and in health one now and then.
type watches struct {
	unlimited atomic.Bool // there are attempts without a timeout

	mu      sync.Mutex
	last    uint32                 // guarded by mu, as what follows
	running map[uint32]*time.Timer // by number
	sample  *time.Timer
	due     bool // the sample is
}

// samples is how long after an attempt that was timed in health another one is.
const samples = 100 * time.Millisecond

// watch watches the attempt of p, whose caller's patience is that, and returns
// its number.
func (b *Breaker) watch(ctx context.Context, c *cell.Cell, p gate.Permit, patience time.Duration) uint32 {
	w, g := &b.gate.watches, b.gateOf(c)
	w.unlimited.Store(true)
	late := g.LateAfter(patience)
	first := late
	if base := g.Base(); p.How == gate.Freely && base > 0 {
		first = min(late, 5*base)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last++; w.last == 0 {
		w.last++
	}
	if w.running == nil {
		w.running = map[uint32]*time.Timer{}
	}
	n := w.last
	isLate := func() {
		if w.stop(n) {
			b.recordOutcome(ctx, c, p, gate.Late, b.now())
		}
	}
	w.running[n] = time.AfterFunc(first, func() {
		if first == late || !w.rearm(n, late-first, isLate) {
			isLate()
			return
		}
		g.Doubt(p)
	})
	return n
}

// rearm calls f after d if the attempt n is still running, and reports that.
func (w *watches) rearm(n uint32, d time.Duration, f func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.running[n]
	if ok {
		w.running[n] = time.AfterFunc(d, f)
	}
	return ok
}

// stop reports whether the attempt n has not been late, and stops watching it. 0 is
// one that is not watched.
func (w *watches) stop(n uint32) bool {
	if n == 0 {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	timer, ok := w.running[n]
	if ok {
		timer.Stop()
		delete(w.running, n)
	}
	return ok
}

// sampleLater has an attempt of a gate in health timed after a while.
func (w *watches) sampleLater(b *Breaker) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.due {
		return
	}
	w.due = true
	if w.sample == nil {
		w.sample = time.AfterFunc(samples, func() {
			w.mu.Lock()
			w.due = false
			w.mu.Unlock()
			b.gateOf(b.cell.Load()).Sample()
		})
		return
	}
	w.sample.Reset(samples)
}
