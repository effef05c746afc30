// Package places limits how many calls of a key are in flight at a time: each
// holds one of so many places.
package places

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/queue"
)

// Most is the most callers of one key that can wait in a process.
const Most = 10_000

// How often the first in line looks for a place that another process has freed:
// at random between half of the interval and all of it. The interval grows while
// there is none.
const (
	shortestLook = 5 * time.Millisecond
	longestLook  = 100 * time.Millisecond
)

// longestHold is the longest time between two places that are free which is measured.
const longestHold = time.Hour

// Places are those of one key in this process. The zero Places have no limit yet,
// see [Places.Limit]. They are safe for concurrent use.
type Places struct {
	mu    sync.Mutex
	limit int // 0: none yet
	taken int
	line  queue.Queue[*waiter]
	freed time.Time     // when the last place became free, while callers wait; zero: none did
	held  time.Duration // how long one is held on average; 0: not known

	locks Locks // nil: the process is alone
	timer *time.Timer
	look  time.Duration // the interval of the next look
}

// Locks are the places of a key that the processes of a host share. Its methods
// are called one at a time and do not block.
type Locks interface {
	// Lock takes one of the places and reports whether one was free.
	Lock() bool
	// Unlock frees one of those that this process has taken.
	Unlock()
	// Wait says whether callers of this process wait.
	Wait(bool)
	// Contended reports whether callers of another process wait.
	Contended() bool
}

// A waiter is a caller in the line.
type waiter struct {
	queue.Entry

	place chan struct{} // closed when it has one
}

// Limit sets the number of places. Of several limits the lowest holds, and Limit
// returns it. locks is called once to share the places with other processes,
// which it does not if it returns nil; a nil locks never does.
func (p *Places) Limit(n int, locks func(n int) Locks) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit == 0 || n < p.limit {
		p.limit = n
	}
	if p.locks == nil && locks != nil {
		p.locks = locks(n)
	}
	return p.limit
}

// Take takes a place if one is free and nobody waits for it.
func (p *Places) Take() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.line.Len() == 0 && (p.locks == nil || !p.locks.Contended()) && p.take()
}

// take takes a place if one is free. p.mu is locked.
func (p *Places) take() bool {
	if p.taken >= p.limit || p.locks != nil && !p.locks.Lock() {
		return false
	}
	p.taken++
	return true
}

// Wait takes a place after [Places.Take] has found none, and waits for it until the
// instant given, until ctx ends, or until stop is closed, which nil never is.
// Of those who wait, the one that must stop first has the next place that is
// free. Wait reports whether it has taken one.
func (p *Places) Wait(ctx context.Context, until time.Time, stop <-chan struct{}) bool {
	w, taken := p.join(until)
	if w == nil {
		return taken
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-w.place:
		return true
	case <-timer.C:
	case <-stop:
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.line.Leave(w) {
		p.lookLater()
		return false
	}
	if ctx.Err() != nil { // it has got one meanwhile
		p.free()
		return false
	}
	return true
}

// join takes a place, or returns the waiter that is now in line; nil and false if
// it cannot wait.
func (p *Places) join(until time.Time) (w *waiter, taken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.line.Len() == 0
	contended := first && p.locks != nil && p.locks.Contended()
	if first && !contended && p.take() {
		return nil, true
	}
	if !time.Now().Before(until) || p.line.Len() >= Most {
		return nil, first && contended && p.take() // it has no time to let others go first
	}
	w = &waiter{place: make(chan struct{})}
	p.line.Join(w, until.UnixNano())
	if first && p.locks != nil {
		p.look = shortestLook
		if contended {
			p.look = rand.N(longestLook) + 1
		}
		p.locks.Wait(true)
		p.lookLater()
	}
	return w, false
}

// Free frees a place that was taken.
func (p *Places) Free() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free()
}

// free is Free. p.mu is locked.
func (p *Places) free() {
	p.measure()
	p.taken--
	if p.locks != nil {
		p.locks.Unlock()
		if p.line.Len() > 0 && p.locks.Contended() {
			return // callers of other processes have the same chance, see again
		}
	}
	p.give()
}

// measure measures how long a place is held, when one is about to be free: while callers
// wait, all are taken, and each is free once in that time. p.mu is locked.
func (p *Places) measure() {
	if p.line.Len() == 0 {
		p.freed = time.Time{}
		return
	}
	now := time.Now()
	if !p.freed.IsZero() {
		took := min(now.Sub(p.freed), longestHold) * time.Duration(p.taken)
		p.held += (took - p.held) / time.Duration(4*p.taken)
	}
	p.freed = now
}

// Held returns how long a place is held on average, as far as that is known from times in
// which callers waited; 0 means not known.
func (p *Places) Held() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held
}

// give gives the places that are free to those who wait. p.mu is locked.
func (p *Places) give() {
	waited := p.line.Len() > 0
	for p.line.Len() > 0 && p.take() {
		w := p.line.Head()
		p.line.Leave(w)
		close(w.place)
		if p.locks != nil && p.locks.Contended() {
			break
		}
	}
	if waited {
		p.lookLater()
	}
}

// again looks for a place that another process has freed.
func (p *Places) again() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.look = min(p.look*3/2, longestLook)
	if p.line.Len() > 0 {
		p.give()
	}
}

// lookLater sets the timer for another look if somebody waits. p.mu is locked.
func (p *Places) lookLater() {
	switch {
	case p.locks == nil:
	case p.line.Len() == 0:
		p.locks.Wait(false)
		if p.timer != nil {
			p.timer.Stop()
		}
	default:
		d := p.look/2 + rand.N(p.look/2+1)
		if p.timer == nil {
			p.timer = time.AfterFunc(d, p.again)
		} else {
			p.timer.Reset(d)
		}
	}
}

// A Status is what [Places] are like at one moment.
type Status struct {
	Limit   int // the number of places; 0: none was set
	Taken   int // by this process
	Waiting int // callers of this process
}

// Status returns what the places are like now.
func (p *Places) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Status{Limit: p.limit, Taken: p.taken, Waiting: p.line.Len()}
}
