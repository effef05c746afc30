package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/retry"
)

// work connects to the server, and reconnects whenever the connection fails.
func (s *Store) work(ctx context.Context) {
	backoff := retry.Policy{BaseDelay: s.stale / 60, MaxDelay: s.stale / 6, JitterMode: retry.EqualJitter}
	for attempt := 1; ; attempt++ {
		began := time.Now()
		err := s.connect(ctx)
		if ctx.Err() != nil {
			return
		}
		s.recordFailure(err)
		if s.respondedSince(began) {
			attempt = 1
		}
		pause := backoff.Backoff(attempt, retry.ClassTransient, rand.Float64())
		if isAuthError(err) {
			pause = max(pause, 3*s.stale) // access is denied until a person grants it
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// respondedSince reports whether the server has responded since then.
func (s *Store) respondedSince(then time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.all(func(k *key) bool { return !k.respondedAt.After(then) })
}

// connect makes a connection and uses it until it fails or ctx is done.
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
		return errors.New("the server does not respond")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return s.serve(ctx, server)
}

// listen applies what is published until the connection fails or ctx is done.
func (s *Store) listen(ctx context.Context, server Server, fail context.CancelCauseFunc, subscribed chan struct{}) {
	err := server.Subscribe(ctx, func() {
		s.readAll() // first, or what serve has read by then would be read again
		signal(subscribed)
	}, s.pushed)
	if isAuthError(err) { // by an access list: changes are still read
		s.config.Log.Warn("Changes of shared circuit breakers arrive late: the server does not permit this process to subscribe", "error", err)
		signal(subscribed)
		return
	}
	if err == nil {
		err = errors.New("the subscription has ended")
	}
	fail(err)
}

// isAuthError reports whether the server has denied access to this process.
func isAuthError(err error) bool {
	_, is := errors.AsType[*DeniedError](err)
	return is
}

// recordFailure records that the server is unreachable, and logs a warning, at most one
// a minute.
func (s *Store) recordFailure(err error) {
	if err == nil {
		err = errors.New("the connection has ended")
	}
	s.mu.Lock()
	first := s.err == nil && (s.warnedAt.IsZero() || time.Since(s.warnedAt) > time.Minute)
	why := s.config.Where + ": " + err.Error()
	failed := errors.New(s.config.Name + ": " + why)
	s.err = failed
	if first {
		s.warnedAt = time.Now()
	}
	s.broadcast()
	s.mu.Unlock()
	if first {
		s.config.Log.Warn("Circuit breakers are not shared with the fleet for the time being: "+why, "error", failed)
	}
}

// clearFailure records that the server responds.
func (s *Store) clearFailure() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = nil
}

// serve sends pending calls until one fails or ctx is done.
func (s *Store) serve(ctx context.Context, server Server) error {
	s.readAll()
	timer := time.NewTimer(s.readInterval())
	defer timer.Stop()
	for {
		if err := s.exec(ctx, server); err != nil {
			return err
		}
		select {
		case <-s.toSend:
		case <-timer.C:
			timer.Reset(s.readInterval())
			s.readAll()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// readInterval returns the time until the next read of the server: Sync, less a random
// fifth at most, so that processes which start together do not read together.
func (s *Store) readInterval() time.Duration {
	return s.sync - time.Duration(rand.Int64N(int64(s.sync/5)))
}

// readAll has the views of all keys read.
func (s *Store) readAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		k.readDue = true
	}
	s.wake()
}

// exec executes the pending calls in one round trip, and applies the responses. It
// returns only errors that end the connection.
func (s *Store) exec(ctx context.Context, server Server) error {
	calls := s.drainAll()
	if len(calls) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.stale/2)
	defer cancel()
	sent := time.Now()
	requests := make([]Call, len(calls))
	for i := range calls {
		requests[i] = calls[i].Call
	}
	responded, failed := s.applyResponses(calls, server.Run(ctx, requests), sent)
	switch {
	case failed == nil:
		s.clearFailure()
	case responded > 0, isKeyError(failed): // of some keys only, whose calls are repeated later
		s.recordFailure(failed)
	default:
		return failed
	}
	return nil
}

// applyResponses applies the responses to calls that were sent at sent. It returns how
// many calls succeeded, and the error of the last that failed.
func (s *Store) applyResponses(calls []call, responses []Response, sent time.Time) (responded int, failed error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range calls {
		c.key.reporting = false
		err := responses[i].Err
		if err == nil {
			s.applyResponse(c, responses[i].View, sent)
		}
		if e, ok := errors.AsType[*UnsharedError](err); ok {
			c.key.requeue(c)
			s.setUnshared(c.key, e)
			responded++
			continue
		}
		if err != nil {
			c.key.requeue(c)
			failed = err
			continue
		}
		responded++
		c.key.respondedAt = time.Now()
	}
	s.inFlight = false
	s.broadcast()
	signal(s.toApply)
	return responded, failed
}

// isKeyError reports whether err is about one key alone.
func isKeyError(err error) bool {
	_, is := errors.AsType[*KeyError](err)
	return is
}

// maxKeys is the number of keys whose calls go in one round trip: more would delay the
// calls of other keys, and take so long that the server seems unreachable.
const maxKeys = 1000

// drainAll takes the pending calls of at most maxKeys keys.
func (s *Store) drainAll() (calls []call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, taken := time.Now(), 0
	for _, k := range s.keys {
		s.requestLater(&k.rate, now)
		if !k.hasPending() {
			continue
		}
		if taken == maxKeys {
			s.wake()
			break
		}
		calls = append(calls, s.drain(k, now)...)
		taken++
	}
	s.inFlight = len(calls) > 0
	if !s.inFlight {
		s.broadcast()
	}
	return calls
}

// applyResponse applies the response to a call that was sent at sent. s.mu is held.
func (s *Store) applyResponse(c call, v View, sent time.Time) {
	seen := v.at(time.Now())
	if v.Process == s.process {
		seen.lease = sent.Add(v.Lease) // the lease ends here no later than at the server
	}
	if c.key.unshared != nil {
		c.key.unshared = nil
		s.wake() // reports may be pending
	}
	switch c.Op {
	case ShareBudget:
		c.key.applyBudget(v.Budget)
	case Reserve:
		s.applyRate(c.key, v.Rate)
	default:
	}
	j, _ := c.report.(*report)
	s.applyView(c.key, seen, sent, j)
}

// setUnshared stops sharing k, whose record has another format, and logs a warning for
// the first such key. s.mu is held.
func (s *Store) setUnshared(k *key, e *UnsharedError) {
	if !s.formatWarned {
		s.formatWarned = true
		s.config.Log.Warn(fmt.Sprintf("Circuit breaker %q is not shared with the fleet: %v; a hash of another format is not changed", k.name, e), "error", e)
	}
	k.unshared, k.readDue = e, false
	k.remote.known, k.remote.token = false, 0
}

// pushed applies a view that was published.
func (s *Store) pushed(v View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[v.Key]; k != nil && k.unshared == nil {
		s.applyView(k, v.at(time.Now()), time.Time{}, nil)
		signal(s.toApply)
	}
}

// applyView applies a view to k: from the response to a call that was sent at sent and
// reported j, or, with neither, from a push. s.mu is held.
func (s *Store) applyView(k *key, v view, sent time.Time, j *report) {
	now, r := time.Now(), &k.remote
	if l, ok := r.update(v, sent, now); ok {
		k.restore = &l
		s.wake()
	}
	if j != nil && r.acknowledge(j) && j.kind == manual {
		k.ackOverride(now) // it is not to be applied as a remote one
	}
	s.reconcileOverride(k, now)
	s.reportGateSuccess(k, now)
}

// pendingState returns the state that the local breaker must apply, and false if there
// is no such state. While reports of its transitions are pending, the fleet's state is
// from before them, and their response decides. s.mu is held.
func (k *key) pendingState(now time.Time) (cell.RemoteState, bool) {
	if k.reporting || k.override != nil || k.transition != nil {
		return cell.RemoteState{}, false
	}
	return k.remote.pendingState(now)
}

// applyAll has the local breakers apply the fleet's state. It runs on a goroutine of
// its own, since an observer of a breaker may block.
func (s *Store) applyAll(ctx context.Context) {
	for {
		select {
		case <-s.toApply:
		case <-ctx.Done():
			return
		}
		for k := s.nextToApply(); k != nil; k = s.nextToApply() {
			k.onRemote(func() (cell.RemoteState, bool) { return s.stateToApply(k) })
			s.mu.Lock()
			if k.applying {
				k.storeAck()
			}
			k.applying = false
			s.broadcast()
			s.mu.Unlock()
		}
	}
}

// nextToApply returns a key whose breaker has a state to apply, nil if no key has.
func (s *Store) nextToApply() *key {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, k := range s.keys {
		if _, due := k.pendingState(now); due && k.onRemote != nil {
			return k
		}
	}
	return nil
}

// stateToApply returns the state that the breaker of k must apply, if that is still
// pending, and marks it as applied.
func (s *Store) stateToApply(k *key) (cell.RemoteState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, due := k.pendingState(time.Now())
	if due {
		k.remote.markApplied(o)
		k.applying = true
	}
	return o, due
}
