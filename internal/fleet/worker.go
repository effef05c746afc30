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
		s.config.Log.Warn("Changes of shared circuit breakers arrive late: the server lets us not subscribe", "error", err)
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
		s.config.Log.Warn("Circuit breakers are not shared with the fleet for the time being: "+why, "error", failed)
	}
}

// mended notes that the server answers.
func (s *Store) mended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = nil
}

// serve tells and asks what there is to tell and ask, until it fails or ctx
// ends.
func (s *Store) serve(ctx context.Context, server Server) error {
	s.readAll()
	timer := time.NewTimer(s.pause())
	defer timer.Stop()
	for {
		if err := s.batch(ctx, server); err != nil {
			return err
		}
		select {
		case <-s.wakes:
		case <-timer.C:
			timer.Reset(s.pause())
			s.readAll()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pause is the time to the next look at the server: a little less than Sync,
// by chance, so that processes that began together do not go on so.
func (s *Store) pause() time.Duration {
	return s.sync - time.Duration(rand.Int64N(int64(s.sync/5)))
}

// readAll has all keys read.
func (s *Store) readAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		k.read = true
	}
	s.wake()
}

// batch makes calls that wait, in one round trip, and learns from the
// answers. The error is one that a new connection may mend.
func (s *Store) batch(ctx context.Context, server Server) error {
	calls := s.take()
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
	answered, failed := s.answers(calls, server.Run(ctx, asked), sent)
	switch {
	case failed == nil:
		s.mended()
	case answered > 0, ofKey(failed): // it concerns some keys alone, which are tried again in a while
		s.failed(failed)
	default:
		return failed
	}
	return nil
}

// answers learns from the answers to calls that were sent at that time. It
// returns how many there were, and what went wrong with the last of the others.
func (s *Store) answers(calls []call, answers []Answer, sent time.Time) (answered int, failed error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range calls {
		c.key.telling = false
		err := answers[i].Err
		if err == nil {
			s.answer(c, answers[i].View, sent)
		}
		if e, ok := errors.AsType[*UnsharedError](err); ok {
			c.key.again(c)
			s.leave(c.key, e)
			answered++
			continue
		}
		if err != nil {
			c.key.again(c)
			failed = err
			continue
		}
		answered++
		c.key.contact = time.Now()
	}
	s.busy = false
	s.announce()
	signal(s.orders)
	return answered, failed
}

// ofKey reports whether err is about one key alone.
func ofKey(err error) bool {
	_, is := errors.AsType[*KeyError](err)
	return is
}

// maxKeys is of how many keys the calls go in one round trip: what many others wait
// for is not held up by them, and none takes as long as a server that is away.
const maxKeys = 1000

// take takes the calls that wait, of so many keys.
func (s *Store) take() (calls []call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, taken := time.Now(), 0
	for _, k := range s.keys {
		s.askLater(&k.rate, now)
		if !k.waits() {
			continue
		}
		if taken == maxKeys {
			s.wake()
			break
		}
		calls = append(calls, s.calls(k, now)...)
		taken++
	}
	s.busy = len(calls) > 0
	if !s.busy {
		s.announce()
	}
	return calls
}

// answer learns from the answer to a call that was sent at that time. s.mu is
// held.
func (s *Store) answer(c call, v View, sent time.Time) {
	seen := v.at(time.Now())
	if v.Process == s.process {
		seen.lease = sent.Add(v.Lease) // it ends here no later than at the server
	}
	if c.key.foreign != nil {
		c.key.foreign = nil
		s.wake() // there may be something to tell
	}
	switch c.Op {
	case Visit:
		c.key.borrowed(v.Loan)
	case Reserve:
		s.rationed(c.key, v.Grant)
	default:
	}
	j, _ := c.job.(*job)
	s.learn(c.key, seen, sent, j)
}

// leave has k work alone, since its record has another format, and warns the first
// time that one has. s.mu is held.
func (s *Store) leave(k *key, e *UnsharedError) {
	if !s.formats {
		s.formats = true
		s.config.Log.Warn(fmt.Sprintf("Circuit breaker %q is not shared with the fleet: %v; what has another format is left alone", k.name, e), "error", e)
	}
	k.foreign, k.read = e, false
	k.mirror.known, k.mirror.token = false, 0
}

// pushed learns from what has been published.
func (s *Store) pushed(v View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[v.Key]; k != nil && k.foreign == nil {
		s.learn(k, v.at(time.Now()), time.Time{}, nil)
		signal(s.orders)
	}
}

// learn has k learn v, from the answer to a call that was sent at that time and
// has told of j, or by push, with neither. s.mu is held.
func (s *Store) learn(k *key, v view, sent time.Time, j *job) {
	now, m := time.Now(), &k.mirror
	if l, ok := m.learn(v, sent, now); ok {
		k.lost = &l
		s.wake()
	}
	if j != nil && m.heard(j) && j.kind == byHand {
		k.heeds(now) // or its echo would be news
	}
	s.hands(k, now)
	s.answered(k, now)
}

// due returns what the local breaker has to be told, if anything. While the
// server has not heard of its latest transitions, what is known of the fleet is
// from before them: the answer to them will say. s.mu is held.
func (k *key) due(now time.Time) (cell.RemoteState, bool) {
	if k.telling || k.hand != nil || k.own != nil {
		return cell.RemoteState{}, false
	}
	return k.mirror.order(now)
}

// obey tells the local breakers what the fleet has agreed on. It has a
// goroutine of its own, since what observes a breaker may take its time.
func (s *Store) obey(ctx context.Context) {
	for {
		select {
		case <-s.orders:
		case <-ctx.Done():
			return
		}
		for k := s.next(); k != nil; k = s.next() {
			k.obey(func() (cell.RemoteState, bool) { return s.order(k) })
			s.mu.Lock()
			if k.obeying {
				k.heeded()
			}
			k.obeying = false
			s.announce()
			s.mu.Unlock()
		}
	}
}

// next returns a key whose breaker has to be told something.
func (s *Store) next() *key {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, k := range s.keys {
		if _, due := k.due(now); due && k.obey != nil {
			return k
		}
	}
	return nil
}

// order returns what the breaker of k has to be told, if it still has.
func (s *Store) order(k *key) (cell.RemoteState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, due := k.due(time.Now())
	if due {
		k.mirror.follow(o)
		k.obeying = true
	}
	return o, due
}
