package livestorm

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// A request is 8 bytes, its number on the connection. A response is 16, in any order: the number of its request, the
// status, the wait that the backend asks for, and the time that a worker took. HTTP/1.1 would lose a connection with each
// attempt that is given up, 8,000 a second in a storm: making new ones would take more CPU than everything else.
const (
	requestSize  = 8
	responseSize = 16
)

// A response is the reply of the backend.
type response struct {
	status     int
	retryAfter time.Duration // to the millisecond
	took       time.Duration // to the microsecond; 0 means that no worker had it
}

func (r response) encode(number uint64) []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, responseSize), number)
	b = binary.LittleEndian.AppendUint16(b, uint16(r.status))                    //nolint:gosec // an HTTP status
	b = binary.LittleEndian.AppendUint16(b, uint16(r.retryAfter.Milliseconds())) //nolint:gosec // a second
	return binary.LittleEndian.AppendUint32(b, uint32(r.took.Microseconds()))    //nolint:gosec // milliseconds
}

func decode(b []byte) (number uint64, r response) {
	r.status = int(binary.LittleEndian.Uint16(b[8:]))
	r.retryAfter = time.Duration(binary.LittleEndian.Uint16(b[10:])) * time.Millisecond
	r.took = time.Duration(binary.LittleEndian.Uint32(b[12:])) * time.Microsecond
	return binary.LittleEndian.Uint64(b), r
}

// A StatusError is a response that is no success. Package retry classifies it by its methods.
type StatusError struct {
	Status int
	After  time.Duration // that the backend asks to wait; 0 means nothing
}

func (e StatusError) Error() string { return fmt.Sprintf("status %d", e.Status) }

// HTTPStatusCode returns Status.
func (e StatusError) HTTPStatusCode() int { return e.Status }

// RetryAfter returns After.
func (e StatusError) RetryAfter() (time.Duration, bool) { return e.After, e.After > 0 }

// A Link sends all requests to a Backend over one connection, made at the first request, and again after a crash. It is
// safe for concurrent use. When the Backend ends, so does the connection.
type Link struct {
	Socket string
	Worked func(took time.Duration, wasted bool) // if not nil, called with each response of a worker

	mu      sync.Mutex
	conn    net.Conn
	next    uint64
	pending map[uint64]chan result // who waits for a response on conn
}

type result struct {
	response

	err error
}

// Do makes one attempt. It returns a [StatusError] if the response is no success.
func (l *Link) Do(ctx context.Context) error {
	number, done, err := l.send(ctx)
	if err != nil {
		return err
	}
	select {
	case r := <-done:
		switch {
		case r.err != nil:
			return r.err
		case r.status != 200:
			return StatusError{r.status, r.retryAfter}
		default:
			return nil
		}
	case <-ctx.Done():
		l.mu.Lock()
		delete(l.pending, number)
		l.mu.Unlock()
		return ctx.Err()
	}
}

// send sends a request and returns its number and the channel of its response.
func (l *Link) send(ctx context.Context) (uint64, <-chan result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", l.Socket)
		if err != nil {
			return 0, nil, err
		}
		l.conn, l.pending = conn, map[uint64]chan result{}
		go l.receive(conn, l.pending)
	}
	l.next++
	done := make(chan result, 1)
	l.pending[l.next] = done
	if _, err := l.conn.Write(binary.LittleEndian.AppendUint64(make([]byte, 0, requestSize), l.next)); err != nil {
		delete(l.pending, l.next)
		return 0, nil, err
	}
	return l.next, done, nil
}

// receive delivers the responses of conn until it ends.
func (l *Link) receive(conn net.Conn, pending map[uint64]chan result) {
	defer conn.Close()
	buffered := bufio.NewReader(conn)
	var b [responseSize]byte
	for {
		if _, err := io.ReadFull(buffered, b[:]); err != nil {
			l.mu.Lock()
			for _, done := range pending {
				done <- result{err: io.ErrUnexpectedEOF}
			}
			clear(pending)
			if l.conn == conn {
				l.conn = nil
			}
			l.mu.Unlock()
			return
		}
		number, r := decode(b[:])
		l.mu.Lock()
		done, waiting := pending[number]
		delete(pending, number)
		l.mu.Unlock()
		if r.took > 0 && l.Worked != nil {
			l.Worked(r.took, !waiting)
		}
		if waiting {
			done <- result{response: r}
		}
	}
}
