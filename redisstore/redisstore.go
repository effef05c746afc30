// Package redisstore lets the processes of a fleet share their circuit
// breakers and retry budgets through a Redis or Valkey server.
//
//	store, err := redisstore.Open(redisstore.Options{URL: "rediss://cache.example.com"})
//	breaker := circuit.New("payments", circuit.Config{Store: store})
//
// What calls read is a cell of their own process, or of their host, which this
// package keeps in step with the fleet's. A call that goes well asks nobody,
// and no call ever waits for the server: what has to be told or asked is left
// to one goroutine. When enough nodes have found a service failing, it is shut
// off for all of them; when its time is up, one probe is sent for all of them.
//
// A server that is slow, gone, or has lost its memory makes no call fail and
// opens no breaker: each process goes on by what it sees itself, one warning
// says so, and they agree again when it is back.
//
// A fleet has one retry budget for each key, with one ceiling. It lends each
// process, or host, a part of it; who needs more asks for it, and the next retry
// may have it. Who cannot ask has its part, and what its own calls earn up to
// that.
//
// The server is Redis from 6.2 or Valkey, alone, behind sentinels or a cluster.
// With access lists, the user needs the keys and the channel of the prefix, and
// the commands eval, evalsha, hgetall, hset, hdel, pexpire, time, publish,
// subscribe, ping and hello; in a cluster cluster as well.
package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A Store shares breakers with a fleet. It is a [circuit.Store], safe for
// concurrent use; make it with [Open], one for a process. Breakers of one name
// must have the same settings in all processes.
type Store struct {
	seal

	process string // its ID, and at random; leases are this Store's own
	node    string
	prefix  string
	quorum  int
	sync    time.Duration
	stale   time.Duration
	local   cell.Store
	memory  cell.Memory // local, if there is no other
	server  rueidis.ClientOption

	wakes  chan struct{}      // there is something to tell; holds one
	orders chan struct{}      // there may be something to obey; holds one
	cancel context.CancelFunc // ends the goroutines
	done   chan struct{}      // closed when they have ended

	mu      sync.Mutex
	keys    map[string]*key
	news    chan struct{} // closed, and made anew, when something has been learned or done
	busy    bool          // calls are on their way
	warned  time.Time     // when it was last said that the server is away
	formats bool          // it was said that a hash has another format
	err     error         // why it is away, nil: it is not
}

type seal = cell.Seal

// cells are the Store as package circuit sees it.
type cells struct{ *Store }

// Open returns a Store. It does not wait for the server, so the error is about
// the Options alone, and names the field, its value and what is allowed.
func Open(o Options) (*Store, error) {
	o, server, err := o.filled()
	if err != nil {
		return nil, err
	}
	s := &Store{
		process: strconv.Itoa(os.Getpid()) + "-" + rand.Text(), node: o.Node, prefix: o.Prefix, quorum: o.Quorum,
		sync: o.Sync, stale: o.Stale, server: server,
		wakes: make(chan struct{}, 1), orders: make(chan struct{}, 1), done: make(chan struct{}),
		keys: make(map[string]*key), news: make(chan struct{}),
	}
	s.seal, s.local = cell.Hide(cells{s}), &s.memory
	if o.Local != nil {
		s.local = cell.Unseal(o.Local)
	}
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // the work is no caller's; Close ends it
	s.cancel = cancel
	var work sync.WaitGroup
	work.Go(func() { s.work(ctx) })
	work.Go(func() { s.obey(ctx) })
	go func() { work.Wait(); close(s.done) }()
	return s, nil
}

// Ready waits until the server has said what the fleet knows of the breakers
// that have been made, and they follow it. A process that lives for seconds
// calls it before its first call, so that this one already respects the fleet;
// where the fleet waits for a probe, the process has then asked to be the one
// to send it. The error is that of ctx, with what is wrong with the server, or
// that the Store is closed.
func (s *Store) Ready(ctx context.Context) error {
	known := func(k *key) bool {
		_, due := k.due(time.Now())
		return (k.mirror.known || k.foreign != nil) && !k.telling && !k.obeying && !due
	}
	if err := s.await(ctx, func() bool { return s.all(known) }); err != nil {
		return err
	}
	asked := false
	s.mu.Lock()
	for _, k := range s.keys {
		if m := &k.mirror; m.needsLease(time.Now()) {
			m.want, k.ask, asked = true, s.sync, true
			s.wake()
		}
	}
	s.mu.Unlock()
	err := s.await(ctx, func() bool {
		return !s.busy && s.all(func(k *key) bool { return known(k) && k.ask == 0 })
	})
	if err == nil && asked {
		select { // a breaker that was told to open until now rounds that up to a millisecond
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return err
}

// Reset closes the breaker of that name in the whole fleet, even where this
// process's own is closed, which its Reset would not tell anybody. It must
// have been made with this Store.
func (s *Store) Reset(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[name]; k != nil {
		k.byHand(job{state: circuit.Closed})
		s.wake()
	}
}

// A Status is what the fleet has agreed on about one breaker, as far as this
// process knows.
type Status struct {
	State  circuit.State // Closed, Open or Isolated
	Until  time.Time     // of open: when the first probe may go
	Holder string        // the node that may send it, "" for none
	PID    int           // the ID of the process there
	Lease  time.Time     // when that leave ends
	Age    time.Duration // since the server last answered
}

// Status returns the status of the breaker of that name, and whether the
// server has said anything of it.
func (s *Store) Status(name string) (Status, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	if k == nil || !k.mirror.known {
		return Status{}, false
	}
	st := k.mirror.view.status()
	st.Age = time.Since(k.contact)
	return st, true
}

// status is what v says.
func (v *view) status() Status {
	st := Status{State: v.state}
	if v.state == circuit.Open {
		st.Until = v.until
	}
	if v.process != "" {
		pid, _, _ := strings.Cut(v.process, "-")
		st.PID, _ = strconv.Atoi(pid) // 0 for an instance that is none of ours
		st.Holder, st.Lease = v.node, v.lease
	}
	return st
}

// Err returns why breakers, or one of them, are not shared at present, or nil if
// they are.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.err
	for _, k := range s.keys {
		if err == nil && k.foreign != nil {
			err = fmt.Errorf("redisstore: %w", k.foreign)
		}
	}
	return err
}

// Close tells the server what it has not been told yet, gives back a lease
// that is not used, for at most a second, and ends the connection. Breakers
// that use the Store go on working, each process by itself.
func (s *Store) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) //nolint:forbidigo // it is its own limit
	defer cancel()
	s.mu.Lock()
	for _, k := range s.keys {
		k.release = k.mirror.token != 0 && !k.mirror.used
		k.purse.ends = s.local == &s.memory && k.ref.Load().Budget.Lent() // else others spend what is in the cell
	}
	s.wake()
	s.mu.Unlock()
	_ = s.await(ctx, func() bool { return !s.busy && s.all(func(k *key) bool { return !k.waits() }) })
	s.cancel()
	select {
	case <-s.done:
	case <-ctx.Done(): // it is connecting, and ends when that has failed
	}
}

// errClosed says why nothing more will be learned.
var errClosed = errors.New("redisstore: the Store is closed")

// all reports whether every key is as told. s.mu is held.
func (s *Store) all(is func(*key) bool) bool {
	for _, k := range s.keys {
		if !is(k) {
			return false
		}
	}
	return true
}

// await waits until what holds, which is asked with s.mu held.
func (s *Store) await(ctx context.Context, what func() bool) error {
	for {
		s.mu.Lock()
		ok, news, why := what(), s.news, s.err
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-news:
		case <-s.done:
			return errClosed
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), why)
		}
	}
}

// announce wakes who awaits something. s.mu is held.
func (s *Store) announce() {
	close(s.news)
	s.news = make(chan struct{})
}

// wake has the goroutine that talks to the server look what there is to tell.
func (s *Store) wake() { signal(s.wakes) }

// signal leaves a note in c, unless there is one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
