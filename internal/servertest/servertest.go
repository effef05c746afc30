// Package servertest finds ports for the servers that tests start, and polls
// what sends no event: whether a server listens, or any other condition.
package servertest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// FreePort returns a TCP port of 127.0.0.1 on which no server listens; neither does
// one on the port 10,000 above it, the bus of a Redis cluster. Both are below the
// ports that systems assign to connections, which could be taken before the server
// listens. No other call of FreePort, in any process, returns either of them until this
// process ends.
func FreePort() (int, error) {
	var last error
	for range 1000 {
		port := 10_000 + rand.IntN(12_000)
		if last = reserve(port, port+10_000); last == nil {
			return port, nil
		}
	}
	return 0, last
}

// ClosedPort returns an address of 127.0.0.1 that refuses connections until this
// process ends, as of [FreePort]. The port of a listener that was closed may be
// another server's at once.
func ClosedPort(tb testing.TB) string {
	tb.Helper()
	port, err := FreePort()
	if err != nil {
		tb.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// reserved are UDP sockets on the TCP ports that FreePort has returned.
var reserved struct { //nolint:gochecknoglobals // of the process
	mu    sync.Mutex
	ports []net.PacketConn
}

// reserve binds the UDP ports of these numbers until the process ends. It returns an error if one is bound, or a server
// listens on the TCP port.
func reserve(ports ...int) error {
	var bound []net.PacketConn
	for _, port := range ports {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		conn, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp", address) //nolint:forbidigo // it does not wait
		if err == nil {
			bound = append(bound, conn)
			var l net.Listener
			if l, err = new(net.ListenConfig).Listen(context.Background(), "tcp", address); err == nil { //nolint:forbidigo // it does not wait
				err = l.Close()
			}
		}
		if err != nil {
			for _, conn := range bound {
				_ = conn.Close()
			}
			return err
		}
	}
	reserved.mu.Lock()
	defer reserved.mu.Unlock()
	reserved.ports = append(reserved.ports, bound...)
	return nil
}

// Limit is more than any server takes for one step, on a machine under load:
// the longest that [Await] and [Until] wait.
const Limit = 2 * time.Minute

// interval is the time between two polls: short compared with the start of a
// process, and long compared with a poll.
const interval = 2 * time.Millisecond

// Until polls holds until it returns true, and fails the test with the text what
// after [Limit]. Use Until for events in another process; in the test's own process
// wait for an event, or use testing/synctest. It calls holds on the caller's
// goroutine, the first time at once.
func Until(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	end := time.Now().Add(Limit)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(end) {
			tb.Fatalf("not within %v: %s", Limit, what)
		}
		<-tick.C
	}
}

// Repeat calls f again and again until ctx is done, with a pause after each call that
// leaves the processor to the server that f is a load on. It calls f on the caller's
// goroutine.
func Repeat(ctx context.Context, f func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		f()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// Await returns nil once a server listens at the address. It returns an error
// if none does within [Limit], when ctx is done, and when ended is closed,
// which reports that the server's process has ended. If nil, ended is ignored.
func Await(ctx context.Context, address string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-ended:
			return errors.New("the server has ended by itself")
		case <-ctx.Done():
			return err
		}
	}
}
