package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

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
		if refused(err) {
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

// refused reports whether err is the server's no to who we are.
func refused(err error) bool {
	e, ok := rueidis.IsRedisErr(err)
	if !ok {
		return false
	}
	word, _, _ := strings.Cut(e.Error(), " ")
	return word == "WRONGPASS" || word == "NOAUTH" || word == "NOPERM"
}

// connect makes a connection and uses it until it fails or ctx ends.
func (s *Store) connect(ctx context.Context) error {
	client, err := rueidis.NewClient(s.server)
	if err != nil {
		return err
	}
	defer func() { go client.Close() }() // which may wait a second for a server that is silent
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	subscribed := make(chan struct{}, 1)
	go s.listen(ctx, client, cancel, subscribed)
	// What is read after the subscription cannot be overtaken by a change.
	select {
	case <-subscribed:
	case <-time.After(s.stale / 2):
		return errors.New("the server does not answer")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return s.serve(ctx, client)
}

// listen learns what is published until the connection fails or ctx ends.
func (s *Store) listen(ctx context.Context, client rueidis.Client, fail context.CancelCauseFunc, subscribed chan struct{}) {
	hook := func(e rueidis.PubSubSubscription) {
		if e.Kind == "subscribe" {
			signal(subscribed)
			s.readAll()
		}
	}
	err := client.Receive(rueidis.WithOnSubscriptionHook(ctx, hook),
		client.B().Subscribe().Channel(s.channel()).Build(),
		func(m rueidis.PubSubMessage) { s.pushed(m.Message) })
	if refused(err) { // by an access list; then it is only read, a little later
		slog.Default().Warn("Changes of shared circuit breakers arrive late: the server lets us not subscribe",
			"channel", s.channel(), "error", cleaned(err))
		signal(subscribed)
		return
	}
	if err == nil {
		err = errors.New("the subscription has ended")
	}
	fail(err)
}

// channel is where changes are published.
func (s *Store) channel() string { return s.prefix + "changes" }

// failed notes that the server is away, and says so unless that has been said
// lately.
func (s *Store) failed(err error) {
	if err == nil {
		err = errors.New("the connection has ended")
	}
	s.mu.Lock()
	first := s.err == nil && (s.warned.IsZero() || time.Since(s.warned) > time.Minute)
	why := strings.Join(s.server.InitAddress, ", ") + ": " + cleaned(err).Error()
	failed := errors.New("redisstore: " + why)
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

// Look returns what the server knows of the breakers of those names, for a
// person to see: it is no part of the fleet and changes nothing. Of a name that
// the server does not know there is no Status, nor of one whose hash has another
// format: then there are both an error and what is known of the others. Else the
// error is about the Options, the server, or ctx.
func Look(ctx context.Context, o Options, names []string) (map[string]Status, error) {
	o, server, err := o.filled()
	if err != nil || len(names) == 0 {
		return nil, err
	}
	type result struct {
		seen map[string]Status
		err  error
	}
	done := make(chan result, 1)
	go func() { // to connect takes what it takes
		var r result
		r.seen, r.err = look(ctx, server, o.Prefix, names)
		done <- r
	}()
	select {
	case r := <-done:
		return r.seen, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func look(ctx context.Context, server rueidis.ClientOption, prefix string, names []string) (map[string]Status, error) {
	client, err := rueidis.NewClient(server)
	if err != nil {
		return nil, cleaned(err)
	}
	defer client.Close()
	now, err := clock(ctx, client)
	if err != nil {
		return nil, err
	}
	var other error
	seen := make(map[string]Status)
	for some := range slices.Chunk(names, 100) { // hashes of a large fleet are large
		var commands []rueidis.Completed
		for _, name := range some {
			commands = append(commands, client.B().Hgetall().Key(prefix+name).Build())
		}
		for i, answer := range client.DoMulti(ctx, commands...) {
			hash, err := answer.AsStrMap()
			if len(hash) == 0 && err == nil {
				continue
			}
			var st Status
			if err == nil {
				st, err = status(prefix+some[i], hash, now)
			}
			if e, ok := errors.AsType[*formatError](err); ok {
				other = fmt.Errorf("redisstore: %w", e)
			} else if err != nil {
				return nil, fmt.Errorf("%s: %w", some[i], cleaned(err))
			} else {
				seen[some[i]] = st
			}
		}
	}
	return seen, other
}

// clock returns the instant of the server's clock, in milliseconds.
func clock(ctx context.Context, client rueidis.Client) (int64, error) {
	now, err := client.Do(ctx, client.B().Time().Build()).AsIntSlice()
	if err != nil {
		return 0, cleaned(err)
	}
	if len(now) != 2 || now[0] < 0 || now[0] > 1<<40 || now[1] < 0 || now[1] >= 1e6 {
		return 0, bad("time", now, "seconds and microseconds")
	}
	return now[0]*1000 + now[1]/1000, nil
}

// status is what a hash says, at that instant of the server's clock.
func status(key string, hash map[string]string, now int64) (Status, error) {
	left := func(field string) int64 {
		n, err := strconv.ParseInt(cmp.Or(hash[field], "0"), 10, 64)
		if err != nil || n < 0 {
			return -1 // which is not allowed
		}
		return max(n-now, 0)
	}
	r := reply{
		Key: key, Format: hash["format"], Epoch: hash["epoch"], State: hash["state"],
		Open: left("until"), Lease: left("lease.till"), Process: hash["lease.process"], Node: hash["lease.node"],
	}
	if r.Lease == 0 {
		r.Process, r.Node = "", ""
	}
	v, err := r.view(time.Now())
	if err != nil {
		return Status{}, err
	}
	return v.status(), nil
}
