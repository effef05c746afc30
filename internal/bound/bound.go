// Package bound limits the responses of servers.
package bound

import (
	"io"
	"sync/atomic"
)

// The limits, in bytes.
const (
	ErrorBody = 1 << 20  // the body of an error response
	Body      = 64 << 20 // any other body that is read as a whole, such as a page of a listing
	Header    = 1 << 20  // all header fields of a response
)

// HeaderSize returns the size of a header in HTTP/1.1, in bytes.
func HeaderSize(header map[string][]string) int {
	size := 0
	for name, values := range header {
		for _, value := range values {
			size += len(name) + len(value) + len(": \r\n")
		}
	}
	return size
}

// A Reader reads at most a number of bytes, and then fails. Make one with [NewReader].
type Reader struct {
	io.ReadCloser

	left   int64
	err    error // of a Read beyond the limit
	lifted atomic.Bool
}

// NewReader returns body with a limit; tooLarge is the error of a Read beyond limit bytes in all.
func NewReader(body io.ReadCloser, limit int64, tooLarge error) *Reader {
	return &Reader{ReadCloser: body, left: limit, err: tooLarge}
}

// Lift removes the limit. It may be called while another goroutine reads.
func (r *Reader) Lift() { r.lifted.Store(true) }

// Read reads from the body, until the limit.
func (r *Reader) Read(p []byte) (int, error) {
	if r.lifted.Load() {
		return r.ReadCloser.Read(p)
	}
	if r.left < 0 {
		return 0, r.err
	}
	n, err := r.ReadCloser.Read(p[:min(int64(len(p)), r.left+1)])
	if r.left -= int64(n); r.left < 0 {
		return n - 1, r.err
	}
	return n, err
}
