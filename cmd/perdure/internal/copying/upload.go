package copying

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/partial"
	"github.com/seed-0f2c7998/perdure/hoststore"
)

// A put is an object to be.
type put struct{ copier *copier }

func (p put) sequential() bool { return false }
func (p put) commit() error    { return nil }
func (p put) close()           {}

func (p put) write(ctx context.Context, in *input) (outcome, error) {
	c := p.copier
	options := objects.PutOptions{Attributes: objects.Attributes{ContentType: in.kind}}
	if in.seek == nil {
		return p.send(ctx, in, c.watch(ctx, in), options)
	}
	if err := c.compare(ctx, in); err != nil {
		return outcome{}, err
	}
	options.Progress = c.progress
	done, err := c.recall(ctx, in, &options)
	if err != nil {
		return outcome{}, err
	}
	o, err := p.send(ctx, in, io.NewSectionReader(in.seek, 0, in.size), options)
	err = c.steady(in, err)
	done(err)
	return o, err
}

// steady looks whether the file has changed while it was sent, which explains an
// error that has no other reason, and is told if there was none.
func (c *copier) steady(in *input, err error) error {
	now, unseen := in.seek.Stat()
	switch {
	case unseen != nil || now.Size() == in.size && now.ModTime().Equal(in.modified):
		return err
	case err == nil:
		c.note("changed", c.from.String()+" has changed while it was sent: what is there may hold some of both")
		return nil
	case exit.Code(err) != exit.Failed:
		return err
	}
	return &readError{&fs.PathError{Op: "read", Path: c.from.Path, Err: errMoving}}
}

func (p put) send(ctx context.Context, in *input, body io.Reader, options objects.PutOptions) (outcome, error) {
	c := p.copier
	o, err := c.upload.Put(ctx, c.to.Bucket, c.to.Key, body, options)
	if err == nil && in.size >= 0 && o.Size != in.size {
		err = fmt.Errorf("%w: %d bytes of %d arrived", errSize, o.Size, in.size)
	}
	return outcome{bytes: o.Size, checksum: o.Checksum, verified: o.Verified}, err
}

// compare reads a file that can be read again, and returns an error if it is
// not what it is to be. Other inputs are compared as they come.
func (c *copier) compare(ctx context.Context, in *input) error {
	if in.seek == nil || c.want.IsZero() {
		return nil
	}
	if _, err := io.CopyBuffer(io.Discard, c.watch(ctx, in), make([]byte, chunk)); err != nil {
		return err
	}
	_, err := in.seek.Seek(0, io.SeekStart)
	return err
}

// resumable is the size of a file, in bytes, above which it is sent in parts, so
// that another run may go on with it.
const resumable = 8 << 20

// recall looks for what an earlier run has sent of a file, and has options go on
// with it, or drops it. The function must be told how the put has ended.
func (c *copier) recall(ctx context.Context, in *input, options *objects.PutOptions) (done func(error), err error) {
	nothing := func(error) {}
	u := c.openUpload(in)
	if u == nil {
		return nothing, nil
	}
	anew := c.NoResume || in.size <= resumable
	if u.Changed() {
		c.renewed(c.from.String() + " has changed since the earlier run: it is sent anew")
	}
	if anew || u.Changed() {
		if err := c.abandon(ctx, u); err != nil {
			u.Close()
			return nil, fmt.Errorf("what an earlier run has sent: %w", err)
		}
	}
	if anew || u.Begin() != nil {
		u.Close()
		return nothing, nil //nolint:nilerr // what can't be written down can't be gone on with
	}
	options.State, options.Resumed = u.State(), func(r objects.Resumption) { c.resumedUpload(r.Bytes, r.Size, options.Progress) }
	return func(err error) {
		c.leave(ctx, u, err)
		u.Close()
	}, nil
}

// openUpload claims what is known of the upload, and makes it if it is worth
// that; nil: another process has it, or nothing can be kept here.
func (c *copier) openUpload(in *input) *partial.Upload {
	dir, err := uploads()
	path, unknown := filepath.Abs(c.from.Path)
	if errors.Join(err, unknown) != nil {
		return nil
	}
	there := c.NoResume || in.size <= resumable
	if !there {
		partial.Prune(dir)
	}
	u, err := partial.OpenUpload(dir, partial.Address{Endpoint: c.endpoint, Bucket: c.to.Bucket, Key: c.to.Key},
		partial.Source{Path: path, Size: in.size, Modified: in.modified}, there)
	if err != nil {
		return nil
	}
	return u
}

// uploads returns the directory with what is known of uploads.
func uploads() (string, error) {
	cells, err := hoststore.Path()
	return filepath.Join(filepath.Dir(cells), "uploads"), err
}

// abandon drops an upload that nobody is to go on with. One that the store will
// not drop is left to "perdure s3 clean".
func (c *copier) abandon(ctx context.Context, u *partial.Upload) error {
	err := c.upload.Abandon(ctx, u.State())
	if err != nil && exit.Code(err) != exit.Failed {
		return err
	}
	return u.Forget()
}

// resumedUpload tells what is there.
func (c *copier) resumedUpload(bytes, size int64, progress func(done, total int64)) {
	if bytes == 0 {
		c.renewed("The store does not have what the earlier run has sent any more: " + c.from.String() + " is sent anew")
		return
	}
	c.goingOn(c.to, bytes, size)
	progress(bytes, size)
}

// leave leaves what has been sent to another run, unless that would fail as well.
func (c *copier) leave(ctx context.Context, u *partial.Upload, err error) {
	s, unread := objects.ReadState(u.State())
	switch {
	case err == nil:
		return
	case unread != nil:
		_ = u.Forget()
		return
	case s.Upload == "":
		return
	}
	if s.Bytes == 0 || ctx.Err() == nil && exit.Code(err) == exit.Failed {
		if c.upload.Abandon(ctx, u.State()) == nil || s.Bytes == 0 {
			return
		}
	}
	c.left = fmt.Sprintf("%d of %d bytes are kept in the store: the same command goes on with them", s.Bytes, s.Size)
}
