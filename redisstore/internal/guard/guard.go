// Package guard protects a Redis client from a server that is hostile or broken, or that
// is no Redis server.
//
// The client, rueidis, trusts what it reads. It panics on a goroutine of its own, which
// ends the process, if a length is negative, a reply has no request, a redirection has
// no address, or an event of a sentinel lacks a word; and it allocates any length that
// is announced. A guarded connection checks the bytes first, and fails before the client
// reads a byte that would do harm.
package guard

import (
	"fmt"
	"net"
	"sync"
)

// An Error reports a reply that no Redis server sends.
type Error struct{ What string }

// Error returns what is wrong with the reply.
func (e *Error) Error() string { return "invalid reply: " + e.What }

// Conn guards c, a new connection to a Redis server. It is safe for use by one
// reader and one writer at the same time, as c is. After an [Error] it is closed.
func Conn(c net.Conn) net.Conn { return &conn{Conn: c} }

type conn struct {
	net.Conn

	requests scanner // used by the writer only

	mu       sync.Mutex
	exchange exchange

	replies scanner // used by the reader only
	err     error   // used by the reader only
}

// Write records the requests in b, then sends b, so a request is recorded before its
// reply arrives.
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

// Read reads from the server. If any of the bytes read is not allowed, it returns none
// of them.
func (c *conn) Read(b []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.Conn.Read(b)
	if bad := c.check(b[:n]); bad != nil {
		c.err = &Error{bad.Error()}
		_ = c.Close() // the first error is more useful
		return 0, c.err
	}
	return n, err
}

// check returns an error about the first thing in b that is not allowed.
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
