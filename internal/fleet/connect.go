package fleet

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/seed-0f2c7998/perdure/retry"
)

// work keeps a connection to the server, and makes a new one when it fails.
func (s *Store) work(ctx context.Context) {
	backoff := retry.Policy{BaseDelay: s.stale / 60, MaxDelay: s.stale / 6, JitterMode: retry.EqualJitter}
	for attempt := 1; ; attempt++ {
		began := time.Now()
		err := s.connect(ctx)
		if ctx.Err() != nil {
			return
		}
		s.failed(err)
		if s.reached(began) {
			attempt = 1
		}
		pause := backoff.Backoff(attempt, retry.ClassTransient, rand.Float64())
		if denied(err) {
			pause = max(pause, 3*s.stale) // to ask again will not help before somebody has acted
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// reached reports whether the server has answered since then.
func (s *Store) reached(then time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.all(func(k *key) bool { return !k.contact.After(then) })
}

// connect makes a connection and uses it until it fails or ctx ends.
func (s *Store) connect(ctx context.Context) error {
	server, err := s.config.Connect(ctx, Member{Process: s.process, Node: s.node, Alive: 5 * s.sync})
	if err != nil {
		return err
	}
	defer func() { go server.Close() }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	subscribed := make(chan struct{}, 1)
	go s.listen(ctx, server, cancel, subscribed)
	// What is read after the subscription cannot be overtaken by a change.
	select {
	case <-subscribed:
	case <-time.After(s.stale / 2):
		return errors.New("the server does not answer")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return s.serve(ctx, server)
}

// listen learns what is published until the connection fails or ctx ends.
func (s *Store) listen(ctx context.Context, server Server, fail context.CancelCauseFunc, subscribed chan struct{}) {
	err := server.Subscribe(ctx, func() {
		signal(subscribed)
		s.readAll()
	}, s.pushed)
	if denied(err) { // by an access list; then it is only read, a little later
		slog.Default().Warn("Changes of shared circuit breakers arrive late: the server lets us not subscribe", "error", err)
		signal(subscribed)
		return
	}
	if err == nil {
		err = errors.New("the subscription has ended")
	}
	fail(err)
}

// denied reports whether err is the server's refusal of who we are.
func denied(err error) bool {
	_, is := errors.AsType[*DeniedError](err)
	return is
}

// failed notes that the server is away, and says so unless that has been said
// lately.
func (s *Store) failed(err error) {
	if err == nil {
		err = errors.New("the connection has ended")
	}
	s.mu.Lock()
	first := s.err == nil && (s.warned.IsZero() || time.Since(s.warned) > time.Minute)
	why := s.config.Where + ": " + err.Error()
	failed := errors.New(s.config.Name + ": " + why)
	s.err = failed
	if first {
		s.warned = time.Now()
	}
	s.announce()
	s.mu.Unlock()
	if first {
		slog.Default().Warn("Circuit breakers are not shared with the fleet for the time being: "+why, "error", failed)
	}
}

// mended notes that the server answers.
func (s *Store) mended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = nil
}
