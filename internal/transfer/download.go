package transfer

import (
	"context"
	"errors"
	"io"
	"sync"
)

// orderedWindow is how many pieces ahead ranges are requested, for each parallel request, if a checksum needs the
// bytes in order.
const orderedWindow = 4

// errWhole reports a source that sent the whole resource when a range was requested.
var errWhole = errors.New("the source announced support for ranges, but sent the whole resource")

// A download is one pass over the missing bytes of a File.
//
// The first response describes the resource and delivers pieces from the first gap on. If enough are missing,
// parallel requests fetch pieces from the end until both meet: a small resource takes one request, and no byte of a
// large one is requested twice.
type download struct {
	*File

	getter Getter
	ctx    context.Context //nolint:containedctx // of one pass
	fail   func(error)     // as of Together
	window int64

	mu      sync.Mutex
	missing set // guarded by mu
}

// fetch makes one pass.
func fetch(ctx context.Context, f *File, g Getter) error {
	if f.complete != nil {
		return nil
	}
	ctx, fail, end := Together(ctx)
	defer func() { _ = end() }()
	d := &download{File: f, getter: g, ctx: ctx, fail: fail}
	res, err := d.first()
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	d.missing = f.out.missing()
	if !f.out.version.Resumable() {
		err = f.out.write(res.Body, Range{0, f.out.version.Size})
	} else {
		d.ranges(res)
		err = end()
	}
	if err != nil {
		return err
	}
	return f.finish()
}

// first requests the bytes from the first gap on: of the kept version, or else of the present one.
func (d *download) first() (*Response, error) {
	if d.out.bytes == 0 || !d.out.version.Resumable() {
		return d.startOver()
	}
	r := Range{max(d.out.version.Size-1, 0), d.out.version.Size} // if nothing is missing, the last byte checks the version
	if missing := d.out.missing(); len(missing) > 0 {
		r = Range{missing[0].From, -1}
	}
	res, err := d.getter.Get(d.ctx, r, &d.out.version)
	if errors.Is(err, ErrChanged) {
		return d.startOver()
	}
	if err != nil {
		return nil, err
	}
	same := res.Version.Same(d.out.version)
	d.notifyResumed(same)
	if same && res.From == r.From {
		return res, nil
	}
	return d.beginWith(res) // without support for ranges the kept bytes come again
}

// startOver requests the present version from scratch.
func (d *download) startOver() (*Response, error) {
	d.notifyResumed(false)
	res, err := d.getter.Get(d.ctx, Range{0, -1}, nil)
	if err != nil {
		return nil, err
	}
	return d.beginWith(res)
}

// beginWith begins from scratch with the version of res, or closes res.
func (d *download) beginWith(res *Response) (*Response, error) {
	err := errWhole
	if res.From == 0 {
		err = wrapWrite(d.begin(res.Version))
	}
	if err != nil {
		return nil, errors.Join(err, res.Body.Close())
	}
	return res, nil
}

// notifyResumed calls Resumed once, if an earlier process has left bytes, which are kept if the version is the same.
func (d *download) notifyResumed(same bool) {
	if d.found.Bytes > 0 && !same {
		d.found = Resumption{Reason: "the resource has changed since the earlier run"}
	}
	if d.found != (Resumption{}) && d.o.Resumed != nil {
		d.found.Size = d.out.version.Size
		d.o.Resumed(d.found)
	}
	d.found = Resumption{}
}

// ranges writes the first response, and pieces from parallel requests.
func (d *download) ranges(res *Response) {
	others := 0
	if res.Ranges && d.o.Parallel > 1 {
		pieces := int64(0)
		for _, gap := range d.missing {
			pieces += (gap.To - gap.From + d.o.Piece - 1) / d.o.Piece
		}
		others = int(min(int64(d.o.Parallel), pieces)) - 1
	}
	d.out.ordered.inline = others <= 0
	d.out.grew = make(chan struct{}, 1)
	var writers, follower sync.WaitGroup
	if others > 0 && len(d.out.ordered.hashes) > 0 {
		d.window = orderedWindow * int64(d.o.Parallel) * d.o.Piece
		follower.Go(func() {
			for range d.out.grew { // until it is closed
				d.fail(d.out.catchUp(d.ctx.Err))
			}
		})
	}
	for range others {
		writers.Go(func() { d.fail(d.fetchPieces()) })
	}
	d.fail(d.copySequential(res.Body, res.From))
	_ = res.Body.Close() // a Getter may delay all other requests until then
	d.fail(d.fetchPieces())
	writers.Wait()
	d.fail(d.fetchRest())
	close(d.out.grew)
	follower.Wait()
	d.out.grew = nil
}

// copySequential writes pieces from a body at offset at, until another goroutine has claimed the next piece.
func (d *download) copySequential(body io.Reader, at int64) error {
	for d.ctx.Err() == nil {
		r, ok := d.claim(func() (Range, bool) { return d.missing.first(at, d.o.Piece) })
		if !ok {
			return nil
		}
		if err := d.out.write(body, r); err != nil {
			return err
		}
		at = r.To
	}
	return nil
}

// fetchRest writes pieces that the source refused to send as ranges, from one response with the whole resource.
func (d *download) fetchRest() error {
	if len(d.missing) == 0 || d.ctx.Err() != nil {
		return nil
	}
	res, err := d.request(Range{0, -1})
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	at := int64(0)
	for _, r := range d.missing {
		if _, err := io.CopyN(io.Discard, res.Body, r.From-at); err != nil {
			return errors.Join(io.ErrUnexpectedEOF, err)
		}
		if err := d.out.write(res.Body, r); err != nil {
			return err
		}
		at = r.To
	}
	return nil
}

// fetchPieces requests pieces from the end until none is missing, or until the source sends a whole resource instead
// of a range.
func (d *download) fetchPieces() error {
	for d.ctx.Err() == nil {
		r, ok := d.claim(func() (Range, bool) { return d.missing.last(d.o.Piece, d.window) })
		if !ok {
			return nil
		}
		err := d.fetchPiece(r)
		if errors.Is(err, errWhole) { // left to the first response, or to fetchRest
			d.mu.Lock()
			d.missing.add(r)
			d.mu.Unlock()
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// claim removes a range from missing by next, which returns it, while no other goroutine does.
func (d *download) claim(next func() (Range, bool)) (Range, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return next()
}

// fetchPiece requests and writes one piece.
func (d *download) fetchPiece(r Range) error {
	res, err := d.request(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	return d.out.write(res.Body, r)
}

// request requests r of the version of this download.
func (d *download) request(r Range) (*Response, error) {
	res, err := d.getter.Get(d.ctx, r, &d.out.version)
	switch {
	case err != nil:
		return nil, err
	case !res.Version.Same(d.out.version):
		err = ErrChanged
	case res.From != r.From:
		err = errWhole
	default:
		return res, nil
	}
	_ = res.Body.Close()
	return nil, err
}
