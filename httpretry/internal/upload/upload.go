// Package upload lets the body of a request be sent as often as it takes.
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

// ErrGone is returned when the body can be read once only, and more of it was read than is kept.
var ErrGone = errors.New("the request's body can't be sent again")

var (
	errStale  = errors.New("httpretry: body read by an attempt that is over")
	errLength = errors.New("httpretry: the request's body is not as long as its ContentLength")
)

// A Body is the body of a request. Each attempt reads it through a pass of its own, and only the newest pass gets
// anything: a transport may still be reading for an attempt that has failed. A nil Body is none.
type Body struct {
	turn   chan struct{}                 // holds a token: who takes it may use reopen, reader and kept
	reopen func() (io.ReadCloser, error) // makes a new reader, by GetBody or Seek; nil if the reader can't be rewound
	reader io.Reader
	kept   spool.Spool // of a reader that can't be rewound, what was read so far

	length  int64 // that the request declares; <= 0: unknown
	newest  atomic.Pointer[pass]
	failure atomic.Pointer[error] // of the reader itself: no fault of the service

	mu     sync.Mutex
	source io.Closer // the caller's body, or what GetBody returned last; nil once closed
	over   bool      // no pass will follow
	closed atomic.Bool
	lost   atomic.Bool // what was read is not kept
	held   atomic.Bool // see Hold
}

// New returns the Body of req, which has one. Of a reader that can't be rewound, at most memory bytes are kept
// in memory, and at most limit in all.
func New(req *http.Request, memory, limit int64) *Body {
	u := &Body{turn: make(chan struct{}, 1), reader: req.Body, source: req.Body, length: req.ContentLength}
	u.kept = spool.Spool{Memory: memory, Limit: limit}
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

// Next returns a pass over the whole body. It fails if that can't be had again, or ctx ends before the pass before it
// has let go of the reader.
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
		return p, nil // nobody has read anything yet
	}
	if err := u.rewind(); err != nil {
		p.closed.Store(true)
		return nil, err
	}
	return p, nil
}

// rewind makes the reader start again. The caller has the turn.
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

// replace goes on with what GetBody has returned. The caller has the turn.
func (u *Body) replace(reader io.ReadCloser) {
	u.reader = reader
	u.mu.Lock()
	old := u.source
	u.source = reader
	u.mu.Unlock()
	if old != nil {
		old.Close() // what it says of its end concerns nobody any more
	}
}

// Finish says that no pass will follow: the caller's body is closed when the newest pass is.
func (u *Body) Finish() {
	if u == nil {
		return
	}
	u.mu.Lock()
	u.over = true
	p := u.newest.Load()
	u.mu.Unlock()
	if p == nil || p.closed.Load() {
		_ = u.close() // nobody is left to tell
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

// release gives the turn back.
func (u *Body) release() {
	u.turn <- struct{}{}
	if u.closed.Load() {
		u.forget()
	}
}

// forget frees what is kept, unless somebody has the turn: then they do it when they release it.
func (u *Body) forget() {
	select {
	case <-u.turn:
		_ = u.kept.Close() // a temporary file: nobody can do anything about it
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

// read reads on at offset. The caller has the turn.
func (u *Body) read(b []byte, offset int64) (int, error) {
	if u.reopen == nil && offset < u.kept.Len() {
		return u.kept.ReadAt(b, offset)
	}
	n, err := u.reader.Read(b)
	if u.reopen == nil {
		u.keep(b[:n])
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

// keep keeps what was read for the next pass, or forgets all of it if that is too much.
func (u *Body) keep(b []byte) {
	if u.lost.Load() || len(b) == 0 {
		return
	}
	if _, err := u.kept.Write(b); err != nil {
		u.lost.Store(true)
		_ = u.kept.Close() // as in forget
	}
}

// A pass is the body as one attempt reads it.
type pass struct {
	body   *Body
	offset int64 // read so far; changed by who has the turn
	closed atomic.Bool
}

// Read reads on, unless another pass has taken over.
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

// Spent reports whether the body has been read so far that it can't be sent again.
func (u *Body) Spent() bool { return u != nil && u.lost.Load() }

// Once reports whether the body is likely to be sent once only: it can't be rewound, and is not known to be so short
// that all of it is kept.
func (u *Body) Once() bool {
	return u != nil && u.reopen == nil && (u.length <= 0 || u.length > u.kept.Limit)
}

// Hold makes reads of the body fail while on is true: what they would be for is not sent.
func (u *Body) Hold(on bool) {
	if u != nil {
		u.held.Store(on)
	}
}
