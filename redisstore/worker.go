package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// serve tells and asks what there is to tell and ask, until it fails or ctx
// ends.
func (s *Store) serve(ctx context.Context, client rueidis.Client) error {
	s.readAll()
	timer := time.NewTimer(s.pause())
	defer timer.Stop()
	for {
		if err := s.batch(ctx, client); err != nil {
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
func (s *Store) batch(ctx context.Context, client rueidis.Client) error {
	calls := s.take()
	if len(calls) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.stale/2)
	defer cancel()
	sent := time.Now()
	answered, failed := s.answers(calls, s.ask(ctx, client, calls), sent)
	switch {
	case failed == nil:
		s.mended()
	case answered > 0, foreign(failed): // it concerns some keys alone, which are tried again in a while
		s.failed(failed)
	default:
		return failed
	}
	return nil
}

// answers learns from the answers to calls that were sent at that time. It
// returns how many there were, and what went wrong with the last of the others.
func (s *Store) answers(calls []call, answers []rueidis.RedisResult, sent time.Time) (answered int, failed error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range calls {
		c.key.telling = false
		text, err := answers[i].ToString()
		if err == nil {
			err = s.answer(c, text, sent)
		}
		if e, ok := errors.AsType[*formatError](err); ok {
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

// foreign reports whether err is that a key belongs to somebody else.
func foreign(err error) bool {
	e, ok := rueidis.IsRedisErr(err)
	return ok && strings.HasPrefix(e.Error(), "WRONGTYPE")
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

// ask makes the calls. Those of a script that the server does not have, and
// what follows on the same key, are made again with its text.
func (s *Store) ask(ctx context.Context, client rueidis.Client, calls []call) []rueidis.RedisResult {
	answers := s.send(ctx, client, calls, false)
	again, places, unknown := []call{}, []int{}, map[*key]bool{}
	for i, c := range calls {
		if e, ok := rueidis.IsRedisErr(answers[i].Error()); ok && e.IsNoScript() {
			unknown[c.key] = true
		}
		if unknown[c.key] {
			again, places = append(again, c), append(places, i)
		}
	}
	if len(again) > 0 {
		for i, answer := range s.send(ctx, client, again, true) {
			answers[places[i]] = answer
		}
	}
	return answers
}

// send makes the calls in one round trip. If one of them would go to a part of
// a cluster that has lost its node, the client makes none; then each goes alone.
func (s *Store) send(ctx context.Context, client rueidis.Client, calls []call, whole bool) []rueidis.RedisResult {
	commands := make([]rueidis.Completed, len(calls))
	for i, c := range calls {
		commands[i] = s.run(client.B(), c, whole)
	}
	answers := client.DoMulti(ctx, commands...)
	if errors.Is(answers[0].Error(), rueidis.ErrNoSlot) {
		for i, c := range calls {
			answers[i] = client.Do(ctx, s.run(client.B(), c, whole))
		}
	}
	return answers
}

// answer learns from the answer to a call that was sent at that time. s.mu is
// held.
func (s *Store) answer(c call, text string, sent time.Time) error {
	r, v, err := s.parse(text, sent, time.Now())
	if want := s.prefix + c.key.name; r.Key != "" && r.Key != want {
		return bad("key", r.Key, strconv.Quote(want))
	}
	if err != nil {
		return err
	}
	if c.key.foreign != nil {
		c.key.foreign = nil
		s.wake() // there may be something to tell
	}
	if c.script == "budget" {
		c.key.borrowed(r.loan)
	}
	j, _ := c.job.(*job)
	s.learn(c.key, v, sent, j)
	return nil
}

// leave has k work alone, since its hash has another format, and warns the first
// time that a hash does. s.mu is held.
func (s *Store) leave(k *key, e *formatError) {
	if !s.formats {
		s.formats = true
		slog.Default().Warn(fmt.Sprintf("Circuit breaker %q is not shared with the fleet: %v; hashes of other formats are left alone", k.name, e), "error", e)
	}
	k.foreign, k.read = e, false
	k.mirror.known, k.mirror.token = false, 0
}

// pushed learns from what has been published.
func (s *Store) pushed(text string) {
	now := time.Now()
	r, v, err := s.parse(text, time.Time{}, now)
	name, ours := strings.CutPrefix(r.Key, s.prefix)
	if err != nil || !ours {
		return // from somebody else; what matters is also read
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[name]; k != nil && k.foreign == nil {
		s.learn(k, v, time.Time{}, nil)
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
}

// due returns what the local breaker has to be told, if anything. While the
// server has not heard of its latest transitions, what is known of the fleet is
// from before them: the answer to them will say. s.mu is held.
func (k *key) due(now time.Time) (cell.Order, bool) {
	if k.telling || k.hand != nil || k.own != nil {
		return cell.Order{}, false
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
			k.obey(func() (cell.Order, bool) { return s.order(k) })
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
func (s *Store) order(k *key) (cell.Order, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, due := k.due(time.Now())
	if due {
		k.mirror.follow(o)
		k.obeying = true
	}
	return o, due
}
