// Package places limits the calls in flight of a key: each call holds one of a fixed
// number of places.
package places

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/queue"
)

// Most is the maximum number of callers of one key that wait in a process.
const Most = 10_000

// The interval at which the first waiter looks for a place that another process has freed,
// at random between half of the interval and all of it. The interval grows until a place
// is found.
const (
	shortestLook = 5 * time.Millisecond
	longestLook  = 100 * time.Millisecond
)

// longestHold limits the measured time between two free places.
const longestHold = time.Hour

// Places limits the calls of one key in this process. The zero Places has no limit yet: see
// [Places.Limit]. It is safe for concurrent use.
type Places struct {
	mu    sync.Mutex
	limit int // 0 means none yet
	taken int
	line  queue.Queue[*waiter]
	freed time.Time     // when the last place became free while callers waited; zero means none
	held  time.Duration // mean time that a place is held; 0 means not known

	locks Locks // nil if no other process shares the places
	timer *time.Timer
	look  time.Duration // interval of the next look
}

// Locks are the places of a key that the processes of a host share. Its methods are called
// one at a time and do not block.
type Locks interface {
	// Lock takes one of the places and reports whether one was free.
	Lock() bool
	// Unlock frees one place of this process.
	Unlock()
	// Wait records whether callers of this process wait.
	Wait(bool)
	// Contended reports whether callers of another process wait.
	Contended() bool
}

// A waiter is a caller in the line.
type waiter struct {
	queue.Entry

	place chan struct{} // closed when the caller has a place
}

// Limit sets the number of places; the lowest of several limits applies. It returns the
// limit that applies. locks, if not nil, is called once, to share the places with other
// processes; it may return nil if they are not shared.
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

// Take takes a place if one is free and no caller waits for it.
func (p *Places) Take() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.line.Len() == 0 && (p.locks == nil || !p.locks.Contended()) && p.take()
}

// take takes a place if one is free. p.mu is held.
func (p *Places) take() bool {
	if p.taken >= p.limit || p.locks != nil && !p.locks.Lock() {
		return false
	}
	p.taken++
	return true
}

// Wait waits for a place, after [Places.Take] has found none, and reports whether it has
// taken one. It stops at until, when ctx ends, or when stop is closed; a nil stop never
// is. A place that becomes free is given to the waiter that must stop first.
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
	if ctx.Err() != nil { // the place was given meanwhile
		p.free()
		return false
	}
	return true
}

// join takes a place or returns the waiter that is now in line. It returns nil and false if
// the caller cannot wait.
func (p *Places) join(until time.Time) (w *waiter, taken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.line.Len() == 0
	contended := first && p.locks != nil && p.locks.Contended()
	if first && !contended && p.take() {
		return nil, true
	}
	if !time.Now().Before(until) || p.line.Len() >= Most {
		return nil, first && contended && p.take() // no time to let others go first
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

// free is Free. p.mu is held.
func (p *Places) free() {
	p.measure()
	p.taken--
	if p.locks != nil {
		p.locks.Unlock()
		if p.line.Len() > 0 && p.locks.Contended() {
			return // give callers of other processes the same chance, see again
		}
	}
	p.give()
}

// measure updates the mean time that a place is held, before a place becomes free. While
// callers wait, all places are taken, and each becomes free once in that time. p.mu is
// held.
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

// Held returns the mean time that a place is held, measured while callers waited; 0 means not
// known.
func (p *Places) Held() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held
}

// give gives the free places to the callers that wait. p.mu is held.
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

// lookLater sets the timer for the next look if a caller waits. p.mu is held.
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

// A Status is a snapshot of [Places].
type Status struct {
	Limit   int // number of places; 0 means no limit was set
	Taken   int // places that this process holds
	Waiting int // callers of this process that wait
}

// Status returns a snapshot.
func (p *Places) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Status{Limit: p.limit, Taken: p.taken, Waiting: p.line.Len()}
}
