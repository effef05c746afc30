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
// A rate ([circuit.Config.Rate]) is that of the fleet: a call waits until the server
// has reserved its instant, or, if it does not wait, is refused until the server has
// one for it. When the server is away, each host has an equal part of the rate.
//
// The server is Redis from 6.2 or Valkey, alone, behind sentinels or a cluster.
// With access lists, the user needs the keys and the channel of the prefix, and
// the commands eval, evalsha, hgetall, hset, hdel, pexpire, time, publish,
// subscribe, ping and hello; in a cluster cluster as well.
package redisstore

import (
	"context"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/fleet"
)

// A Store shares breakers with a fleet. It is a [circuit.Store], safe for
// concurrent use; make it with [Open], one for a process. Breakers of one name
// must have the same settings in all processes.
type Store struct {
	seal

	fleet *fleet.Store
}

type seal = cell.Seal

// Open returns a Store. It does not wait for the server, so the error is about
// the Options alone, and names the field, its value and what is allowed.
func Open(o Options) (*Store, error) {
	o, server, err := o.filled()
	if err != nil {
		return nil, err
	}
	c := fleet.Config{
		Name: "redisstore", Where: strings.Join(server.InitAddress, ", "), Node: o.Node, Quorum: o.Quorum, Sync: o.Sync, Stale: o.Stale, Log: o.Log,
		Connect: func(_ context.Context, m fleet.Member) (fleet.Server, error) { return connect(server, o.Prefix, m) },
	}
	if o.Local != nil {
		c.Local = cell.Unseal(o.Local)
	}
	s := fleet.Start(c)
	return &Store{cell.Hide(s.Cells()), s}, nil
}

// Ready waits until the server has said what the fleet knows of the breakers
// that have been made, and they follow it. A process that lives for seconds
// calls it before its first call, so that this one already respects the fleet;
// where the fleet waits for a probe, the process has then asked to be the one
// to send it. The error is that of ctx, with what is wrong with the server, or
// that the Store is closed.
func (s *Store) Ready(ctx context.Context) error { return s.fleet.Ready(ctx) }

// Reset closes the breaker of that name in the whole fleet, even where this
// process's own is closed, which its Reset would not tell anybody. It must
// have been made with this Store.
func (s *Store) Reset(name string) { s.fleet.Reset(name) }

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
	st, ok := s.fleet.Status(name)
	return Status(st), ok
}

// Err returns why breakers, or one of them, are not shared at present, or nil if
// they are.
func (s *Store) Err() error { return s.fleet.Err() }

// Close tells the server what it has not been told yet, gives back a lease
// that is not used, for at most a second, and ends the connection. Breakers
// that use the Store go on working, each process by itself.
func (s *Store) Close() { s.fleet.Close() }
