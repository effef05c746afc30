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

// work keeps a connection to the server, and makes a new one when it fails.
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
			pause = max(pause, 3*s.stale) // to ask again will not help before somebody has acted
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// respondedSince reports whether the server has answered since then.
func (s *Store) respondedSince(then time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.all(func(k *key) bool { return !k.respondedAt.After(then) })
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
	if isAuthError(err) { // by an access list; then it is only read, a little later
		s.config.Log.Warn("Changes of shared circuit breakers arrive late: the server lets us not subscribe", "error", err)
		signal(subscribed)
		return
	}
	if err == nil {
		err = errors.New("the subscription has ended")
	}
	fail(err)
}

// isAuthError reports whether err is the server's refusal of who we are.
func isAuthError(err error) bool {
	_, is := errors.AsType[*DeniedError](err)
	return is
}

// recordFailure notes that the server is away, and says so unless that has been said
// lately.
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

// clearFailure notes that the server answers.
func (s *Store) clearFailure() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = nil
}

// serve tells and asks what there is to tell and ask, until it fails or ctx
// ends.
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

// readInterval is the time to the next look at the server: a little less than Sync,
// by chance, so that processes that began together do not go on so.
func (s *Store) readInterval() time.Duration {
	return s.sync - time.Duration(rand.Int64N(int64(s.sync/5)))
}

// readAll has all keys read.
func (s *Store) readAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		k.readDue = true
	}
	s.wake()
}

// exec makes calls that wait, in one round trip, and learns from the
// answers. The error is one that a new connection may mend.
func (s *Store) exec(ctx context.Context, server Server) error {
	calls := s.drainAll()
	if len(calls) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.stale/2)
	defer cancel()
	sent := time.Now()
	asked := make([]Call, len(calls))
	for i := range calls {
		asked[i] = calls[i].Call
	}
	answered, failed := s.applyResponses(calls, server.Run(ctx, asked), sent)
	switch {
	case failed == nil:
		s.clearFailure()
	case answered > 0, isKeyError(failed): // it concerns some keys alone, which are tried again in a while
		s.recordFailure(failed)
	default:
		return failed
	}
	return nil
}

// applyResponses learns from the applyResponses to calls that were sent at that time. It
// returns how many there were, and what went wrong with the last of the others.
func (s *Store) applyResponses(calls []call, answers []Response, sent time.Time) (answered int, failed error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range calls {
		c.key.reporting = false
		err := answers[i].Err
		if err == nil {
			s.applyResponse(c, answers[i].View, sent)
		}
		if e, ok := errors.AsType[*UnsharedError](err); ok {
			c.key.requeue(c)
			s.setUnshared(c.key, e)
			answered++
			continue
		}
		if err != nil {
			c.key.requeue(c)
			failed = err
			continue
		}
		answered++
		c.key.respondedAt = time.Now()
	}
	s.inFlight = false
	s.broadcast()
	signal(s.toApply)
	return answered, failed
}

// isKeyError reports whether err is about one key alone.
func isKeyError(err error) bool {
	_, is := errors.AsType[*KeyError](err)
	return is
}

// maxKeys is of how many keys the calls go in one round trip: what many others wait
// for is not held up by them, and none takes as long as a server that is away.
const maxKeys = 1000

// drainAll takes the calls that wait, of so many keys.
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

// applyResponse learns from the applyResponse to a call that was sent at that time. s.mu is
// held.
func (s *Store) applyResponse(c call, v View, sent time.Time) {
	seen := v.at(time.Now())
	if v.Process == s.process {
		seen.lease = sent.Add(v.Lease) // it ends here no later than at the server
	}
	if c.key.unshared != nil {
		c.key.unshared = nil
		s.wake() // there may be something to tell
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

// setUnshared has k work alone, since its record has another format, and warns the first
// time that one has. s.mu is held.
func (s *Store) setUnshared(k *key, e *UnsharedError) {
	if !s.formatWarned {
		s.formatWarned = true
		s.config.Log.Warn(fmt.Sprintf("Circuit breaker %q is not shared with the fleet: %v; what has another format is left alone", k.name, e), "error", e)
	}
	k.unshared, k.readDue = e, false
	k.remote.known, k.remote.token = false, 0
}

// pushed learns from what has been published.
func (s *Store) pushed(v View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[v.Key]; k != nil && k.unshared == nil {
		s.applyView(k, v.at(time.Now()), time.Time{}, nil)
		signal(s.toApply)
	}
}

// applyView has k applyView v, from the answer to a call that was sent at that time and
// has told of j, or by push, with neither. s.mu is held.
func (s *Store) applyView(k *key, v view, sent time.Time, j *report) {
	now, m := time.Now(), &k.remote
	if l, ok := m.update(v, sent, now); ok {
		k.restore = &l
		s.wake()
	}
	if j != nil && m.acknowledge(j) && j.kind == manual {
		k.ackOverride(now) // or its echo would be news
	}
	s.reconcileOverride(k, now)
	s.reportGateSuccess(k, now)
}

// pendingState returns what the local breaker has to be told, if anything. While the
// server has not heard of its latest transitions, what is known of the fleet is
// from before them: the answer to them will say. s.mu is held.
func (k *key) pendingState(now time.Time) (cell.RemoteState, bool) {
	if k.reporting || k.override != nil || k.transition != nil {
		return cell.RemoteState{}, false
	}
	return k.remote.pendingState(now)
}

// applyAll tells the local breakers what the fleet has agreed on. It has a
// goroutine of its own, since what observes a breaker may take its time.
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

// nextToApply returns a key whose breaker has to be told something.
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

// stateToApply returns what the breaker of k has to be told, if it still has.
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
