// Package upload sends the body of a request several times.
package upload

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/seed-0f2c7998/perdure/internal/spool"
)

// ErrGone reports that the body can be read only once, and that more of it was read than is kept.
var ErrGone = errors.New("the request's body can't be sent again")

var (
	errStale  = errors.New("httpretry: body read by an attempt that is over")
	errLength = errors.New("httpretry: the request's body is not as long as its ContentLength")
)

// A Body is the body of a request. Each attempt reads it through a pass of its own, and only the newest pass can read: a
// transport may still be reading for an attempt that has failed. A nil Body means that the request has no body.
type Body struct {
	turn   chan struct{}                 // holds a token: its holder may use reopen, reader and kept
	reopen func() (io.ReadCloser, error) // makes a new reader, by GetBody or Seek; nil if the reader cannot be rewound
	reader io.Reader
	kept   spool.Spool // what was read so far of a reader that cannot be rewound

	// OnNew, if set, is called after bytes were read that no pass has read before. It must be set before the first pass.
	OnNew func()
	most  int64 // bytes that any pass has read; changed by the holder of the turn

	length  int64 // the ContentLength of the request; 0 or less means unknown
	newest  atomic.Pointer[pass]
	failure atomic.Pointer[error] // the error of the caller's reader; nil if it has not failed

	mu     sync.Mutex
	source io.Closer // the caller's body, or what GetBody returned last; nil once closed
	over   bool      // no pass follows
	closed atomic.Bool
	lost   atomic.Bool // the bytes read were not kept
	held   atomic.Bool // see Hold
}

// New returns the Body of req, which must have one. What is read of a reader that cannot be rewound is kept in a Spool like
// kept, within its limits.
func New(req *http.Request, kept spool.Spool) *Body {
	u := &Body{turn: make(chan struct{}, 1), reader: req.Body, source: req.Body, length: req.ContentLength}
	u.kept = kept
	u.turn <- struct{}{}
	if req.GetBody != nil {
		u.reopen = req.GetBody
	} else if seeker, ok := req.Body.(io.Seeker); ok {
		if start, err := seeker.Seek(0, io.SeekCurrent); err == nil {
			u.reopen = func() (io.ReadCloser, error) {
				_, err := seeker.Seek(start, io.SeekStart)
				return nil, err
			}
		}
	}
	return u
}

// Next returns a new pass over the whole body. It returns an error if the body cannot be read again, or if ctx ends before
// the pass before has released the reader.
func (u *Body) Next(ctx context.Context) (io.ReadCloser, error) {
	p := &pass{body: u}
	before := u.newest.Swap(p)
	select {
	case <-u.turn:
	case <-ctx.Done():
		p.closed.Store(true)
		return nil, context.Cause(ctx)
	}
	defer u.release()
	if before == nil || before.offset == 0 {
		return p, nil // nothing has been read yet
	}
	if err := u.rewind(); err != nil {
		p.closed.Store(true)
		return nil, err
	}
	return p, nil
}

// rewind restarts the reader. The caller must hold the turn.
func (u *Body) rewind() error {
	if u.reopen == nil {
		if u.lost.Load() {
			return ErrGone
		}
		return nil // what was read is kept
	}
	reader, err := u.reopen()
	if err != nil {
		return errors.Join(ErrGone, err)
	}
	if reader != nil {
		u.replace(reader)
	}
	return nil
}

// replace uses the reader that GetBody has returned. The caller must hold the turn.
func (u *Body) replace(reader io.ReadCloser) {
	u.reader = reader
	u.mu.Lock()
	old := u.source
	u.source = reader
	u.mu.Unlock()
	if old != nil {
		old.Close() // an error makes no difference any more
	}
}

// Finish ends the Body: the caller's body is closed when the newest pass is closed.
func (u *Body) Finish() {
	if u == nil {
		return
	}
	u.mu.Lock()
	u.over = true
	p := u.newest.Load()
	u.mu.Unlock()
	if p == nil || p.closed.Load() {
		_ = u.close() // no caller is left to return the error to
	}
}

func (u *Body) close() error {
	u.mu.Lock()
	source := u.source
	u.source = nil
	u.mu.Unlock()
	if source == nil {
		return nil
	}
	err := source.Close()
	u.closed.Store(true)
	u.forget()
	return err
}

// release returns the turn.
func (u *Body) release() {
	u.turn <- struct{}{}
	if u.closed.Load() {
		u.forget()
	}
}

// forget frees the kept bytes. If the turn is taken, its release does so.
func (u *Body) forget() {
	select {
	case <-u.turn:
		_ = u.kept.Close() // a temporary file: an error cannot be handled
		u.turn <- struct{}{}
	default:
	}
}

// Broken returns the error of the caller's reader, if it has failed.
func (u *Body) Broken() error {
	if u == nil {
		return nil
	}
	if err := u.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// read reads at offset. The caller must hold the turn.
func (u *Body) read(b []byte, offset int64) (int, error) {
	if u.reopen == nil && offset < u.kept.Len() {
		return u.kept.ReadAt(b, offset)
	}
	n, err := u.reader.Read(b)
	if u.reopen == nil {
		u.keep(b[:n])
	}
	if end := offset + int64(n); end > u.most && u.OnNew != nil {
		u.most = end
		u.OnNew()
	}
	ended := err == io.EOF
	switch end := offset + int64(n); {
	case err != nil && !ended:
		u.failure.Store(&err)
	case u.length > 0 && (end > u.length || ended && end < u.length):
		u.failure.Store(&errLength)
	}
	return n, err
}

// keep stores the bytes for the next pass, or drops all stored bytes if they exceed the limit.
func (u *Body) keep(b []byte) {
	if u.lost.Load() || len(b) == 0 {
		return
	}
	if _, err := u.kept.Write(b); err != nil {
		u.lost.Store(true)
		_ = u.kept.Close() // as in forget
	}
}

// A pass reads the body for one attempt.
type pass struct {
	body   *Body
	offset int64 // bytes read so far; changed by the holder of the turn
	closed atomic.Bool
}

// Read reads the next bytes, unless a newer pass exists.
func (p *pass) Read(b []byte) (int, error) {
	u := p.body
	<-u.turn
	defer u.release()
	if p.closed.Load() || u.newest.Load() != p || u.held.Load() {
		return 0, errStale
	}
	n, err := u.read(b, p.offset)
	p.offset += int64(n)
	return n, err
}

// Close ends the pass, without waiting for a Read. The caller's body is closed with the last pass only.
func (p *pass) Close() error {
	p.closed.Store(true)
	u := p.body
	u.mu.Lock()
	last := u.over && u.newest.Load() == p
	u.mu.Unlock()
	if last {
		return u.close()
	}
	return nil
}

// Spent reports whether the body can no longer be sent again.
func (u *Body) Spent() bool { return u != nil && u.lost.Load() }

// Once reports whether the body can probably be sent only once: it cannot be rewound, and is not known to be short enough
// to be kept.
func (u *Body) Once() bool {
	return u != nil && u.reopen == nil && (u.length <= 0 || u.length > u.kept.Limit)
}

// Hold makes reads of the body fail while on is true: the request is not sent.
func (u *Body) Hold(on bool) {
	if u != nil {
		u.held.Store(on)
	}
}
