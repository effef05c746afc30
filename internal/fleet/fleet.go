// Package fleet shares circuit breakers, retry budgets and rates among the processes
// of a fleet: votes to open, one probe for the whole fleet, manual overrides, shares of
// one budget, and instants of one rate.
//
// Calls read a cell of their own process, or of their host. A [Store] reports the
// transitions of that cell to the [Server], and applies the fleet's state to the cell,
// on goroutines of its own: no call waits for the server, except for an instant of a
// rate. The package does not know how to reach a Server; package redisstore does.
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

// A Config configures a [Store]. All fields but Local and Log are required.
type Config struct {
	Name    string        // package that implements Server; errors begin with it
	Where   string        // address of the server, for messages
	Node    string        // this process's host
	Quorum  int           // nodes that must vote to open, at least 1
	Local   cell.Store    // holds the cells that calls read; nil means memory of the Store
	Sync    time.Duration // between two reads of the server
	Stale   time.Duration // without a response, after which the process decides alone; more than Sync
	Connect func(context.Context, Member) (Server, error)
	Log     *slog.Logger // receives warnings; nil means slog.Default()
}

// A Store shares breakers with a fleet. It is safe for concurrent use.
type Store struct {
	config  Config
	process string // process ID and a random part; owns leases
	node    string
	quorum  int
	sync    time.Duration
	stale   time.Duration
	local   cell.Store
	memory  cell.Memory // local, unless the Config has one

	toSend  chan struct{}      // signals that calls are pending; capacity 1
	toApply chan struct{}      // signals that a remote state may be pending; capacity 1
	cancel  context.CancelFunc // ends the goroutines
	done    chan struct{}      // closed when the goroutines have ended

	mu           sync.Mutex
	keys         map[string]*key
	changed      chan struct{} // closed and replaced with each change of the fields below and in keys
	inFlight     bool          // calls are in flight
	warnedAt     time.Time     // when the last warning about an unreachable server was logged
	formatWarned bool          // the warning about another format was logged
	err          error         // why the server is unreachable, nil if it is not
}

// cells implements [cell.Store] for package circuit.
type cells struct{ *Store }

// Cells returns the store for package circuit.
func (s *Store) Cells() cell.Store { return cells{s} }

// Start returns a Store that runs until Close. It does not wait for the server.
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
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // it outlives every call; Close ends it
	s.cancel = cancel
	var work sync.WaitGroup
	work.Go(func() { s.work(ctx) })
	work.Go(func() { s.applyAll(ctx) })
	go func() { work.Wait(); close(s.done) }()
	return s
}

// Ready waits until all breakers of this Store are in the fleet's state. A process that
// lives for seconds calls Ready before its first call, which then already respects
// the fleet. Where the fleet waits for a probe, Ready also requests the lease. Ready
// returns the error of ctx joined with the last error of the server, or an error if
// the Store is closed.
func (s *Store) Ready(ctx context.Context) error {
	synced := func(k *key) bool {
		_, due := k.pendingState(time.Now())
		return (k.remote.known || k.unshared != nil) && !k.reporting && !k.applying && !due
	}
	if err := s.await(ctx, func() bool { return s.all(synced) }); err != nil {
		return err
	}
	requested := false
	s.mu.Lock()
	for _, k := range s.keys {
		if r := &k.remote; !r.openByGate() && r.needsLease(time.Now()) {
			r.wantsLease, k.leaseFor, requested = true, s.sync, true
			s.wake()
		}
	}
	s.mu.Unlock()
	err := s.await(ctx, func() bool {
		return !s.inFlight && s.all(func(k *key) bool { return synced(k) && k.leaseFor == 0 })
	})
	if err == nil && requested {
		select { // a breaker that opens until now rounds that up to a millisecond
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return err
}

// Reset closes the named breaker in the whole fleet, even if it is closed in this
// process: the breaker's own Reset would then report nothing. A name without a
// breaker in this Store is ignored.
func (s *Store) Reset(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[name]; k != nil {
		k.setOverride(report{state: circuit.Closed})
		s.wake()
	}
}

// A Status is the fleet's state of one breaker, as this process knows it.
type Status struct {
	State  circuit.State // Closed, Open or Isolated
	Until  time.Time     // if Open: when the first probe may be sent
	Holder string        // node that holds the lease, "" if no node does
	PID    int           // ID of the process that holds the lease; 0 if unknown
	Lease  time.Time     // when the lease ends
}

// StatusOf returns the status in v at now.
func StatusOf(v View, now time.Time) Status {
	seen := v.at(now)
	return seen.status()
}

// Status returns the last status of the named breaker that the server has sent, and when
// the server last responded: the zero time if it has not sent a status.
func (s *Store) Status(name string) (Status, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	if k == nil || !k.remote.known {
		return Status{}, time.Time{}
	}
	return k.remote.view.status(), k.respondedAt
}

// status returns the status in v.
func (v *view) status() Status {
	st := Status{State: v.state}
	if v.state == circuit.Open {
		st.Until = v.until
	}
	if v.process != "" {
		pid, _, _ := strings.Cut(v.process, "-")
		st.PID, _ = strconv.Atoi(pid) // 0 if it is not in our form
		st.Holder, st.Lease = v.node, v.lease
	}
	return st
}

// Err returns why breakers, or one of them, are not shared at present, or nil if all
// are shared.
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

// Close sends pending reports, returns unused leases and tokens, for at most a second,
// and ends the connection. Breakers that use the Store continue to work, each process
// on its own.
func (s *Store) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) //nolint:forbidigo // the limit of Close itself
	defer cancel()
	s.mu.Lock()
	for _, k := range s.keys {
		k.releaseDue = k.remote.token != 0 && !k.remote.leaseUsed
		k.budget.returning = s.local == &s.memory && k.ref.Load().Budget.IsShared() // with a Local store, other processes still spend the tokens of the cell
	}
	s.wake()
	s.mu.Unlock()
	_ = s.await(ctx, func() bool { return !s.inFlight && s.all(func(k *key) bool { return !k.hasPending() }) })
	s.cancel()
	select {
	case <-s.done:
	case <-ctx.Done(): // the goroutines end when connecting has failed
	}
}

// errClosed is the error of a wait after Close.
var errClosed = errors.New("the Store is closed")

// all reports whether is returns true for every key. s.mu is held.
func (s *Store) all(is func(*key) bool) bool {
	for _, k := range s.keys {
		if !is(k) {
			return false
		}
	}
	return true
}

// await waits until holds returns true. It calls holds with s.mu held.
func (s *Store) await(ctx context.Context, holds func() bool) error {
	for {
		s.mu.Lock()
		ok, changed, err := holds(), s.changed, s.err
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-s.done:
			return fmt.Errorf("%s: %w", s.config.Name, errClosed)
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// broadcast wakes all goroutines in await. s.mu is held.
func (s *Store) broadcast() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// wake has the goroutine in serve send the pending calls.
func (s *Store) wake() { signal(s.toSend) }

// signal sends to c, unless c is full.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
