// Package servertest finds ports for the servers that tests start, and waits
// until these listen.
package servertest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"time"
)

// FreePort returns a TCP port of 127.0.0.1 on which nothing listens, nor on the
// one 10,000 above it, where the nodes of a Redis cluster talk. Both are below
// those that systems give to connections and to listeners without a port: such
// a one could be taken before the server listens.
func FreePort() (int, error) {
	var last error
	for range 1000 {
		port := 10_000 + rand.IntN(12_000)
		first, err := listen(port)
		if err != nil {
			last = err
			continue
		}
		second, err := listen(port + 10_000)
		first.Close()
		if err == nil {
			second.Close()
			return port, nil
		}
		last = err
	}
	return 0, last
}

func listen(port int) (net.Listener, error) {
	return new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) //nolint:forbidigo // it waits for nothing
}

// limit is more than any server takes to listen, on a machine that has much
// else to do.
const limit = 2 * time.Minute

// Await returns when something listens at the address: nil, or an error if it
// does not within two minutes, or until ctx is done or ended is closed, which
// tells that the server's process has ended; nil never is.
func Await(ctx context.Context, address string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
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
