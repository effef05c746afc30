package policy

import (
	"context"
	"time"
)

// Watch reloads the file whenever it has changed, and returns when ctx ends. It looks at the
// file at that interval, and at its content only if its size, its time of modification or
// the file itself is another one. Log receives one line for each change: Info if the new
// policies apply, Warn with the error if the old ones stay. Run Watch on a goroutine of its
// own:
//
//	go set.Watch(ctx, 5*time.Second)
//
// A program that would rather reload on a signal calls [Set.Reload] instead. An interval
// of 0 or less means 5 s.
func (s *Set) Watch(ctx context.Context, every time.Duration) {
	if every <= 0 {
		every = 5 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s.unchanged() {
			continue
		}
		if err := s.Reload(); err != nil {
			s.options.Log.Warn("policies not reloaded, the old ones stay: "+err.Error(), "file", s.where())
			continue
		}
		s.options.Log.Info("policies reloaded", "file", s.where())
	}
}

// unchanged reports whether the file is the one that was read last.
func (s *Set) unchanged() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read.is(identify(s.where()))
}
