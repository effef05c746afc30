// Package guard stands between a Redis client and a server that may be hostile,
// or broken, or no Redis server at all.
//
// The client, rueidis, trusts what it reads: a negative length, a reply that no
// request has asked for, an error that names no address, or an event of a
// sentinel that lacks a word panic on a goroutine of its own, which ends the
// process, and it allocates whatever length is announced. A guarded connection
// reads the same bytes first, and ends with an error before the client sees the
// byte that would do harm.
package guard

import (
	"fmt"
	"net"
	"sync"
)

// An Error reports a reply that no Redis server sends.
type Error struct{ What string }

// Error says what is wrong with the reply.
func (e *Error) Error() string { return "invalid reply: " + e.What }

// Conn guards c, a new connection to a Redis server. It is safe for use by one
// reader and one writer at the same time, as c is. After an [Error] it is closed.
func Conn(c net.Conn) net.Conn { return &conn{Conn: c} }

type conn struct {
	net.Conn

	requests scanner // of what is written; the writer's

	mu       sync.Mutex
	exchange exchange

	replies scanner // of what is read; the reader's, as what follows
	err     error
}

// Write notes the requests in b before they are sent, so that no reply arrives
// before its request is known.
func (c *conn) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n, ended, err := c.requests.scan(rest)
		if err != nil {
			return 0, fmt.Errorf("invalid request: %w", err)
		}
		if rest = rest[n:]; ended {
			c.mu.Lock()
			c.exchange.request(&c.requests.message)
			c.mu.Unlock()
		}
	}
	return c.Conn.Write(b)
}

// Read reads from the server. What is not allowed is not returned, nor anything
// that has come with it.
func (c *conn) Read(b []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.Conn.Read(b)
	if bad := c.check(b[:n]); bad != nil {
		c.err = &Error{bad.Error()}
		_ = c.Close() // the error at hand says more
		return 0, c.err
	}
	return n, err
}

// check reports what is not allowed in b.
func (c *conn) check(b []byte) error {
	for len(b) > 0 {
		n, ended, err := c.replies.scan(b)
		if err != nil {
			return err
		}
		if b = b[n:]; ended {
			c.mu.Lock()
			err = c.exchange.reply(&c.replies.message)
			c.mu.Unlock()
		}
		if err != nil {
			return err
		}
	}
	return nil
}
