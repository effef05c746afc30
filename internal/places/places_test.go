package places_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/places"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// A host is what processes share: so many places, and who waits.
type host struct {
	mu      sync.Mutex
	free    int
	waiting map[*process]bool
}

// A process is the locks of one process.
type process struct {
	host *host
	held int
}

func (h *host) process() *process { return &process{host: h} }

func (p *process) Lock() bool {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	if p.host.free == 0 {
		return false
	}
	p.host.free--
	p.held++
	return true
}

func (p *process) Unlock() {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	p.host.free++
	p.held--
}

func (p *process) Wait(on bool) {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	delete(p.host.waiting, p)
	if on {
		p.host.waiting[p] = true
	}
}

func (p *process) Contended() bool {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	return len(p.host.waiting) > 1 || len(p.host.waiting) == 1 && !p.host.waiting[p]
}

// Whatever callers of several processes do, no more than the limit have a place; each
// that waits long enough gets one; at the end all places are free and no caller
// counts as waiting.
func TestPlacesOfSeveralProcesses(t *testing.T) {
	first := testseed.Of(t, 0)
	for seed := first; seed < first+40; seed++ {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			limit, processes := 1+r.IntN(5), 1+r.IntN(4)
			shared := r.IntN(4) > 0
			h := &host{free: limit, waiting: map[*process]bool{}}
			var all sync.WaitGroup
			var mu sync.Mutex
			inside, most, refused := 0, 0, 0
			for range processes {
				p := new(places.Places)
				var locks func(int) places.Locks
				if shared {
					locks = func(int) places.Locks { return h.process() }
				}
				p.Limit(limit, locks)
				for range 1 + r.IntN(30) {
					begin, hold := time.Duration(r.IntN(2000))*time.Millisecond, time.Duration(r.IntN(50))*time.Millisecond
					patience, leaves := time.Hour, r.IntN(4) == 0
					if leaves {
						patience = time.Duration(r.IntN(200)) * time.Millisecond
					}
					byContext := r.IntN(2) == 0
					all.Go(func() {
						sleep(begin)
						ctx, until := t.Context(), time.Now().Add(patience)
						if leaves && byContext {
							var cancel context.CancelFunc
							ctx, cancel = context.WithDeadline(ctx, until)
							defer cancel()
							until = until.Add(time.Hour)
						}
						if !p.Take() && !p.Wait(ctx, until, nil) {
							mu.Lock()
							defer mu.Unlock()
							if refused++; !leaves {
								t.Errorf("seed %d: one that had an hour got no place", seed)
							}
							return
						}
						mu.Lock()
						inside++
						most = max(most, inside)
						mu.Unlock()
						sleep(hold)
						mu.Lock()
						inside--
						mu.Unlock()
						p.Free()
					})
				}
				defer func() {
					if s := p.Status(); s.Taken != 0 || s.Waiting != 0 || s.Limit != limit {
						t.Errorf("seed %d: in the end it is %+v", seed, s)
					}
				}()
			}
			all.Wait()
			if want := limit; shared && most > want || !shared && most > want*processes {
				t.Errorf("seed %d: %d had a place, of %d", seed, most, want)
			}
			if h.free != limit || len(h.waiting) > 0 {
				t.Errorf("seed %d: %d of %d are free, and %d processes wait", seed, h.free, limit, len(h.waiting))
			}
		})
	}
}

// A process with a long line leaves a share to other processes.
func TestNoProcessKeepsAllPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{free: 1, waiting: map[*process]bool{}}
		hog, other := new(places.Places), new(places.Places)
		for _, p := range []*places.Places{hog, other} {
			p.Limit(1, func(int) places.Locks { return h.process() })
		}
		ctx, end := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				for ctx.Err() == nil {
					if hog.Wait(ctx, time.Now().Add(time.Hour), nil) {
						sleep(10 * time.Millisecond)
						hog.Free()
					}
				}
			})
		}
		for range 20 {
			sleep(time.Millisecond)
			begin := time.Now()
			if !other.Take() && !other.Wait(ctx, begin.Add(5*time.Second), nil) {
				t.Errorf("no place in %v", time.Since(begin))
				continue
			}
			other.Free()
		}
		end()
		all.Wait()
	})
}

func sleep(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
}
