package httpretry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// ErrBody is why a request whose body is gone is not repeated: its reader can be read once only (there is no GetBody,
// and no Seek that works), and more than Options.BufferLimit of it was read.
var ErrBody = errors.New("the request's body can't be sent again")

var (
	errStaleBody  = errors.New("httpretry: body read by an attempt that is over")
	errBodyLength = errors.New("httpretry: the request's body is not as long as its ContentLength")
)

// An upload is the body of a request, to be sent as often as it takes. Each attempt reads it through a pass of its
// own, and only the newest pass gets anything: a transport may still be reading for an attempt that has failed.
type upload struct {
	turn   chan struct{}                 // holds a token: who takes it may use reopen, reader, kept and lost
	reopen func() (io.ReadCloser, error) // makes a new reader, by GetBody or Seek; nil if the reader can't be rewound
	reader io.Reader
	kept   []byte // of a reader that can't be rewound, what was read so far
	limit  int    // of kept
	lost   bool   // what was read is not kept

	length  int64 // that the request declares; <= 0: unknown
	newest  atomic.Pointer[pass]
	failure atomic.Pointer[error] // of the reader itself: no fault of the service

	mu     sync.Mutex
	source io.Closer // the caller's body, or what GetBody returned last; nil once closed
	over   bool      // no pass will follow
}

// newUpload returns the upload of req's body, or nil if it has none.
// Of a reader that can't be rewound, at most limit bytes are kept.
func newUpload(req *http.Request, limit int) *upload {
	if req.Body == nil || req.Body == http.NoBody {
		return nil
	}
	u := &upload{turn: make(chan struct{}, 1), reader: req.Body, source: req.Body, limit: limit, length: req.ContentLength}
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

// next returns a pass over the whole body. It fails if that can't be had again, or ctx ends before the pass before it
// has let go of the reader.
func (u *upload) next(ctx context.Context) (*pass, error) {
	p := &pass{upload: u}
	before := u.newest.Swap(p)
	select {
	case <-u.turn:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { u.turn <- struct{}{} }()
	if before == nil || before.offset == 0 {
		return p, nil // nobody has read anything yet
	}
	if u.reopen == nil {
		if u.lost {
			return nil, ErrBody
		}
		return p, nil
	}
	reader, err := u.reopen()
	if err != nil {
		return nil, errors.Join(ErrBody, err)
	}
	if reader != nil {
		u.replace(reader)
	}
	return p, nil
}

// replace goes on with what GetBody has returned. The caller has the turn.
func (u *upload) replace(reader io.ReadCloser) {
	u.reader = reader
	u.mu.Lock()
	old := u.source
	u.source = reader
	u.mu.Unlock()
	if old != nil {
		old.Close() // what it says of its end concerns nobody any more
	}
}

// finish says that no pass will follow: the caller's body is closed when the newest pass is.
func (u *upload) finish() {
	u.mu.Lock()
	u.over = true
	p := u.newest.Load()
	u.mu.Unlock()
	if p == nil || p.closed.Load() {
		_ = u.close() // nobody is left to tell
	}
}

func (u *upload) close() error {
	u.mu.Lock()
	source := u.source
	u.source = nil
	u.mu.Unlock()
	if source == nil {
		return nil
	}
	return source.Close()
}

// broken returns the error of the caller's reader, if it has failed.
func (u *upload) broken() error {
	if u == nil {
		return nil
	}
	if err := u.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// read reads on at offset. The caller has the turn.
func (u *upload) read(b []byte, offset int64) (int, error) {
	if u.reopen == nil && offset < int64(len(u.kept)) {
		return copy(b, u.kept[offset:]), nil
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
		u.failure.Store(&errBodyLength)
	}
	return n, err
}

func (u *upload) keep(b []byte) {
	if u.lost || len(b) == 0 {
		return
	}
	if len(u.kept)+len(b) > u.limit {
		u.lost, u.kept = true, nil
		return
	}
	u.kept = append(u.kept, b...)
}

// A pass is the body as one attempt reads it.
type pass struct {
	upload *upload
	offset int64 // read so far; changed by who has the turn
	closed atomic.Bool
}

// Read reads on, unless another pass has taken over.
func (p *pass) Read(b []byte) (int, error) {
	u := p.upload
	<-u.turn
	defer func() { u.turn <- struct{}{} }()
	if p.closed.Load() || u.newest.Load() != p {
		return 0, errStaleBody
	}
	n, err := u.read(b, p.offset)
	p.offset += int64(n)
	return n, err
}

// Close ends the pass, without waiting for a Read. The caller's body is closed with the last pass only.
func (p *pass) Close() error {
	p.closed.Store(true)
	u := p.upload
	u.mu.Lock()
	last := u.over && u.newest.Load() == p
	u.mu.Unlock()
	if last {
		return u.close()
	}
	return nil
}

// spent reports whether the body has been read so far that it can't be sent again.
func (u *upload) spent() bool {
	if u == nil || u.reopen != nil {
		return false
	}
	select {
	case <-u.turn:
		defer func() { u.turn <- struct{}{} }()
		return u.lost
	default:
		return false // somebody is reading: next will see
	}
}
