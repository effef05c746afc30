// Package redisstore lets the processes of a fleet share their circuit
// breakers and retry budgets through a Redis or Valkey server.
//
//	store, err := redisstore.Open(redisstore.Options{URL: "rediss://cache.example.com"})
//	breaker := circuit.New("payments", circuit.Config{Store: store})
//
// A call reads the state of its breaker in the memory of its process, or of its host: see
// Options.Local. A goroutine reports transitions of this state to the server and applies
// the state of the fleet. A call that succeeds sends nothing to the server, and only a
// call that needs an instant of a rate waits for the server. When a quorum of nodes has
// found that a service fails, its breaker opens on all nodes; after the open time, one
// node sends one probe for all of them.
//
// A server that is slow, unreachable, or has lost its data fails no call and opens no
// breaker: each process decides from its own calls, and logs one warning. When the
// server is back, the processes share their breakers again.
//
// A fleet has one retry budget for each key, with one ceiling. Each process, or host,
// has a share of the budget, and requests tokens when its share runs low; the next retry
// may then use these tokens. A process that cannot reach the server has its share, which
// its own calls refill.
//
// A rate ([circuit.Config.Rate]) is the rate of the whole fleet. A call waits until the
// server has reserved an instant for the call; a call that does not wait is refused until
// the server has an instant for it. If the server is unreachable, each host has an equal
// share of the rate.
//
// The server is Redis from 6.2 or Valkey: a single server, one behind sentinels, or a
// cluster. If the server has ACLs, the user needs the keys and the channel of the prefix,
// and the commands eval, evalsha, hgetall, hset, hdel, pexpire, time, publish,
// subscribe, ping and hello; in a cluster also the command cluster.
package redisstore

import (
	"context"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/fleet"
)

// A Store shares breakers with a fleet. It is a [circuit.Store] and safe for concurrent
// use. A process opens one Store, with [Open]; the zero Store is not usable. Breakers of
// one name must have the same settings in all processes.
type Store struct {
	seal

	fleet *fleet.Store
}

type seal = cell.Seal

// Open returns a Store that runs until Close. It does not wait for the server: an error
// is about the Options, and names the field, its value and what is allowed.
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

// Ready waits until all breakers of this Store are in the fleet's state. A process that
// lives for seconds calls Ready before its first call, which then already respects
// the fleet. Where the fleet waits for a probe, Ready also requests the permission to
// send it. Ready returns the error of ctx joined with the last error of the server, or
// an error if the Store is closed.
func (s *Store) Ready(ctx context.Context) error { return s.fleet.Ready(ctx) }

// Reset closes the named breaker in the whole fleet, even if it is closed in this
// process: the breaker's own Reset would then report nothing. A name without a
// breaker in this Store is ignored.
func (s *Store) Reset(name string) { s.fleet.Reset(name) }

// A Status is the fleet's state of one breaker.
type Status struct {
	State  circuit.State // Closed, Open or Isolated
	Until  time.Time     // if Open: when the first probe may be sent
	Holder string        // node that holds the lease, the permission to send it; "" if no node does
	PID    int           // ID of the process that holds the lease; 0 if unknown
	Lease  time.Time     // when the lease ends
}

// Err returns why breakers, or one of them, are not shared at present, or nil if all
// are shared.
func (s *Store) Err() error { return s.fleet.Err() }

// Close sends pending reports, returns unused leases and tokens, for at most a second,
// and ends the connection. Breakers that use the Store continue to work, each process
// on its own.
func (s *Store) Close() { s.fleet.Close() }
