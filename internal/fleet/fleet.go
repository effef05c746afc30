// Package fleet keeps the circuit breakers and retry budgets of the processes of
// a fleet in step: votes to open, one probe for all, what a person sets, and
// shares of one budget.
//
// What calls read is a cell of their own process, or of their host. A [Store] has
// the [Server] told of what happens to it, and has it follow what the fleet has
// agreed on, on goroutines of its own: no call waits. The package knows nothing
// of how a Server is reached; package redisstore has one.
package fleet

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A Config says how a [Store] behaves. All fields are needed, but for Local.
type Config struct {
	Name    string // of the package that has the carrier, which errors begin with
	Where   string // the server is, for messages
	Node    string // this process's host
	Quorum  int    // nodes that must agree, at least 1
	Local   cell.Store
	Sync    time.Duration // between two reads of the server
	Stale   time.Duration // without an answer, after which the process goes on alone; more than Sync
	Connect func(context.Context, Member) (Server, error)
	Log     *slog.Logger // receives warnings; nil means slog.Default()
}

// A Store shares breakers with a fleet. It is safe for concurrent use.
type Store struct {
	config  Config
	process string // its ID, and at random; leases are this Store's own
	node    string
	quorum  int
	sync    time.Duration
	stale   time.Duration
	local   cell.Store
	memory  cell.Memory // local, if there is no other

	toSend  chan struct{}      // there is something to tell; holds one
	toApply chan struct{}      // there may be something to obey; holds one
	cancel  context.CancelFunc // ends the goroutines
	done    chan struct{}      // closed when they have ended

	mu           sync.Mutex
	keys         map[string]*key
	changed      chan struct{} // closed, and made anew, when something has been learned or done
	inFlight     bool          // calls are on their way
	warnedAt     time.Time     // when it was last said that the server is away
	formatWarned bool          // it was said that a record has another format
	err          error         // why it is away, nil: it is not
}

// cells are the Store as package circuit sees it.
type cells struct{ *Store }

// Cells returns s as package circuit sees it.
func (s *Store) Cells() cell.Store { return cells{s} }

// Start returns a Store that works until Close. It does not wait for the server.
func Start(c Config) *Store {
	c.Log = cmp.Or(c.Log, slog.Default())
	s := &Store{
		config: c, process: strconv.Itoa(os.Getpid()) + "-" + rand.Text(), node: c.Node, quorum: c.Quorum,
		sync: c.Sync, stale: c.Stale, local: c.Local,
		toSend: make(chan struct{}, 1), toApply: make(chan struct{}, 1), done: make(chan struct{}),
		keys: make(map[string]*key), changed: make(chan struct{}),
	}
	if s.local == nil {
		s.local = &s.memory
	}
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // the work is no caller's; Close ends it
	s.cancel = cancel
	var work sync.WaitGroup
	work.Go(func() { s.work(ctx) })
	work.Go(func() { s.applyAll(ctx) })
	go func() { work.Wait(); close(s.done) }()
	return s
}

// Ready waits until the server has said what the fleet knows of the breakers
// that have been made, and they follow it. A process that lives for seconds
// calls it before its first call, so that this one already respects the fleet;
// where the fleet waits for a probe, the process has then asked to be the one
// to send it. The error is that of ctx, with what is wrong with the server, or
// that the Store is closed.
func (s *Store) Ready(ctx context.Context) error {
	known := func(k *key) bool {
		_, due := k.pendingState(time.Now())
		return (k.remote.known || k.unshared != nil) && !k.reporting && !k.applying && !due
	}
	if err := s.await(ctx, func() bool { return s.all(known) }); err != nil {
		return err
	}
	asked := false
	s.mu.Lock()
	for _, k := range s.keys {
		if m := &k.remote; !m.openByGate() && m.needsLease(time.Now()) {
			m.wantsLease, k.leaseFor, asked = true, s.sync, true
			s.wake()
		}
	}
	s.mu.Unlock()
	err := s.await(ctx, func() bool {
		return !s.inFlight && s.all(func(k *key) bool { return known(k) && k.leaseFor == 0 })
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
		k.setOverride(report{state: circuit.Closed})
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

// StatusOf returns what v says at now.
func StatusOf(v View, now time.Time) Status {
	seen := v.at(now)
	return seen.status()
}

// Status returns the status of the breaker of that name, and whether the
// server has said anything of it.
func (s *Store) Status(name string) (Status, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	if k == nil || !k.remote.known {
		return Status{}, false
	}
	st := k.remote.view.status()
	st.Age = time.Since(k.respondedAt)
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
		if err == nil && k.unshared != nil {
			err = fmt.Errorf("%s: %w", s.config.Name, k.unshared)
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
		k.releaseDue = k.remote.token != 0 && !k.remote.leaseUsed
		k.budget.returning = s.local == &s.memory && k.ref.Load().Budget.IsShared() // else others spend what is in the cell
	}
	s.wake()
	s.mu.Unlock()
	_ = s.await(ctx, func() bool { return !s.inFlight && s.all(func(k *key) bool { return !k.hasPending() }) })
	s.cancel()
	select {
	case <-s.done:
	case <-ctx.Done(): // it is connecting, and ends when that has failed
	}
}

// errClosed says why nothing more will be learned.
var errClosed = errors.New("the Store is closed")

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
		ok, news, why := what(), s.changed, s.err
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-news:
		case <-s.done:
			return fmt.Errorf("%s: %w", s.config.Name, errClosed)
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), why)
		}
	}
}

// broadcast wakes who awaits something. s.mu is held.
func (s *Store) broadcast() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// wake has the goroutine that talks to the server look what there is to tell.
func (s *Store) wake() { signal(s.toSend) }

// signal leaves a note in c, unless there is one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
