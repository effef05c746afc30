package copying

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/place"
	"github.com/seed-0f2c7998/perdure/httpretry"
)

// An input is a source that has been opened.
type input struct {
	io.ReadCloser

	size int64    // in bytes; -1: not known before the end
	kind string   // the content type; "" is not known
	seek *os.File // the source, if it can be read again and at any place

	modified time.Time // of seek
}

// A readError is an error of the source rather than of the destination.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// errMoving is a source that can't be sent because it does not stay the same.
var errMoving = errors.New("it has changed while it was sent")

// open opens the source.
func (c *copier) open(ctx context.Context) (*input, error) {
	switch c.from.Kind {
	case place.Stream:
		return &input{ReadCloser: interruptible(ctx, c.Stdin), size: -1}, nil
	case place.Web:
		return c.openWeb(ctx)
	case place.Object:
		r, err := c.download.Open(ctx, c.from.Bucket, c.from.Key, objects.GetOptions{})
		if err != nil {
			return nil, err
		}
		o := r.Object()
		return &input{ReadCloser: r, size: o.Size, kind: o.ContentType}, nil
	default:
		return openFile(ctx, c.from.Path)
	}
}

func openFile(ctx context.Context, path string) (*input, error) {
	f, err := await(ctx, func() (*os.File, error) { return os.Open(path) })
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = errDirectory
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() == 0 { // a pipe, a device, or perhaps one of the kernel's files
		return &input{ReadCloser: interruptible(ctx, f), size: -1}, nil
	}
	return &input{ReadCloser: f, size: info.Size(), kind: mime.TypeByExtension(filepath.Ext(path)), seek: f, modified: info.ModTime()}, nil
}

// await returns what do returns, or the cause of ctx if that ends first: to open
// a pipe, or to write to one, takes until somebody is at its other end.
func await[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := do()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done(): // and with it, soon, the process
		return *new(T), context.Cause(ctx)
	}
}

// readable reports, as nil, that there is a file to read. Only a regular one is
// opened: another may not be the same afterwards.
func readable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return errDirectory
	case !info.Mode().IsRegular():
		return nil
	}
	f, err := os.Open(path)
	if err == nil {
		_ = f.Close()
	}
	return err
}

var errDirectory = errors.New("is a directory, want a file; what is in a directory goes to s3:// with -r")

// interruptible returns a reader of r whose Read ends with ctx, as that of a
// pipe or a terminal does not.
func interruptible(ctx context.Context, r io.Reader) io.ReadCloser {
	pr, pw := io.Pipe()
	stop := context.AfterFunc(ctx, func() { pw.CloseWithError(context.Cause(ctx)) })
	go func() {
		defer stop()
		_, err := io.CopyBuffer(pw, plainReader{r}, make([]byte, chunk))
		pw.CloseWithError(err)
	}()
	return pr
}

// plainReader hides the other methods of a reader.
type plainReader struct{ io.Reader }

// openWeb sends the request. What package httpretry has given up on is an error.
func (c *copier) openWeb(ctx context.Context) (*input, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.from.Text, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "perdure")
	res, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	err = httpretry.Ended(res)
	switch {
	case err != nil:
	case res.StatusCode != http.StatusOK:
		err = errors.New(res.Status)
	case httpretry.Unverifiable(res):
		err = errEndless
	}
	if err != nil {
		_ = res.Body.Close()
		return nil, err
	}
	return &input{ReadCloser: res.Body, size: res.ContentLength, kind: res.Header.Get("Content-Type")}, nil
}

// A watched reader reads for as long as its context lasts, tells how far it has
// come, and marks its errors as those of the source. It ends well only where
// the source was said to end.
type watched struct {
	ctx      context.Context //nolint:containedctx // of one copy
	in       io.Reader
	size     int64 // -1: not known
	done     int64
	progress func(done, total int64)
	sum      hash.Hash // of what has come; nil: nobody asks
	want     checksum.Sum
}

// errSize is a source that ended too early, or a destination that got less.
var errSize = errors.New("the size is not what it was said to be")

func (c *copier) watch(ctx context.Context, in *input) io.Reader {
	var r io.Reader = in
	if in.seek != nil { // a file that grows is as long as it was
		r = io.LimitReader(in, in.size)
	}
	w := &watched{ctx: ctx, in: r, size: in.size, progress: c.progress, want: c.want}
	if !c.want.IsZero() {
		w.sum = c.want.New()
	}
	return w
}

func (w *watched) Read(p []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	n, err := w.in.Read(p)
	w.done += int64(n)
	w.progress(w.done, w.size)
	if w.sum != nil {
		w.sum.Write(p[:n])
	}
	if errors.Is(err, io.EOF) && w.size >= 0 && w.done != w.size {
		err = fmt.Errorf("%w: %d bytes, want %d", errSize, w.done, w.size)
	}
	if err == io.EOF && w.sum != nil { //nolint:errorlint // the end itself, as below
		if wrong := w.want.Check(w.sum); wrong != nil {
			err = wrong
		}
	}
	if err != nil && err != io.EOF { //nolint:errorlint // the end itself, as readers give it
		err = &readError{err}
	}
	return n, err
}
