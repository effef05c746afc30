package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/uploads"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// A put is an object in the making.
type put struct {
	copy *Copy
	to   *Object
	left string
	got  Stored
}

func (p *put) File() *transfer.File    { return nil }
func (p *put) Commit() (Stored, error) { return p.got, nil }
func (p *put) Close() string           { return p.left }

// Put stores all bytes. What an earlier run has sent of a file is not sent again.
func (p *put) Put(ctx context.Context, in *Input) (stored Stored, err error) {
	o := objects.PutOptions{Attributes: in.Attributes}
	var body io.Reader
	if in.File == nil {
		body = watch(ctx, in, p.copy.Want, p.copy.progress)
	} else {
		if err = p.compare(ctx, in); err != nil {
			return stored, err
		}
		o.Progress = p.copy.progress
		body = io.NewSectionReader(in.File, 0, in.Size)
	}
	done, err := p.recall(ctx, in, &o)
	if err != nil {
		return stored, err
	}
	stored, err = p.send(ctx, in, body, o)
	err = p.steady(in, err)
	done(err)
	return stored, err
}

func (p *put) send(ctx context.Context, in *Input, body io.Reader, o objects.PutOptions) (Stored, error) {
	object, err := p.to.store.Put(ctx, p.to.bucket, p.to.key, body, o)
	if err == nil && in.Size >= 0 && object.Size != in.Size {
		err = fmt.Errorf("%w: %d bytes of %d arrived", ErrSize, object.Size, in.Size)
	}
	if err == nil {
		p.got = Stored{object.Size, object.Checksum, string(object.Verified)}
	}
	return p.got, err
}

// compare reads a file that can be read again, and returns an error if it is not what is wanted. Other inputs are compared
// as they come.
func (p *put) compare(ctx context.Context, in *Input) error {
	if p.copy.Want.IsZero() {
		return nil
	}
	if _, err := io.CopyBuffer(io.Discard, watch(ctx, in, p.copy.Want, p.copy.progress), make([]byte, chunk)); err != nil {
		return err
	}
	_, err := in.File.Seek(0, io.SeekStart)
	return err
}

// errMoving is the error of a file that can't be sent because it does not stay the same.
var errMoving = errors.New("source changed during upload")

// steady looks whether the file has changed while it was sent, which explains an error that has no other reason, and is
// told if there was none.
func (p *put) steady(in *Input, err error) error {
	switch {
	case err == nil:
		p.copy.moved(in, "sent")
		return nil
	case !in.changed() || exit.Code(err) != exit.Failed:
		return err
	}
	return &ReadError{errMoving}
}

// changed reports whether a file has changed since it was opened.
func (in *Input) changed() bool {
	if in.File == nil {
		return false
	}
	now, err := in.File.Stat()
	return err == nil && (now.Size() != in.Size || !now.ModTime().Equal(in.Modified))
}

// moved tells of a file that has changed while all of it was read.
func (c *Copy) moved(in *Input, done string) {
	if in.changed() {
		c.note("changed", c.From.String()+" has changed while it was "+done+": what is there may hold some of both")
	}
}

// resumable is the size of a file, in bytes, above which it is sent in parts, so that another run may go on with it.
const resumable = 8 << 20

// recall looks for what an earlier run has sent. Of a file that is large enough o goes on with it; anything else is dropped,
// and written down again if it is a source that can't be read again: for the next run to drop, if this process is killed. The
// function must be called with how the put has ended.
func (p *put) recall(ctx context.Context, in *Input, o *objects.PutOptions) (done func(error), err error) {
	c := p.copy
	small := in.File != nil && (c.NoResume || in.Size <= resumable)
	done = func(error) {}
	u := p.to.upload(c.From, in, small)
	if u == nil {
		return done, nil
	}
	outdated := ""
	switch {
	case in.File != nil:
		outdated = u.Outdated()
	case u.Lost():
		outdated = uploads.Damaged
	}
	if outdated != "" {
		c.renewed(outdated + p.orphans(u))
	}
	if small || outdated != "" || in.File == nil {
		if err := p.to.abandon(ctx, u); err != nil {
			u.Close()
			return nil, fmt.Errorf("what an earlier run has sent: %w", err)
		}
	}
	if small || u.Begin() != nil {
		u.Close()
		return done, nil //nolint:nilerr // what can't be written down can't be gone on with
	}
	o.State = u.State()
	if in.File != nil {
		o.Resumed = p.resumed
	}
	return func(err error) {
		p.leave(ctx, u, in, err)
		u.Close()
	}, nil
}

// orphans returns what is to be said of parts in the store that this run cannot drop; "" if there are none.
func (p *put) orphans(u *uploads.Upload) string {
	if !u.Lost() {
		return ""
	}
	return fmt.Sprintf("; the parts that it sent stay in the store until \"perdure s3 clean %v\" drops them", p.to)
}

// upload claims what is known of the upload of a file, and makes it unless it has to be there; nil: another process has it,
// or nothing can be kept here.
func (o *Object) upload(from Endpoint, in *Input, there bool) *uploads.Upload {
	dir, err := uploads.Dir()
	path, unknown := filepath.Abs(from.String())
	if errors.Join(err, unknown) != nil {
		return nil
	}
	if !there {
		uploads.Prune(dir)
	}
	u, err := uploads.Open(dir, uploads.Address{Endpoint: o.endpoint, Bucket: o.bucket, Key: o.key},
		uploads.Source{Path: path, Size: in.Size, Modified: in.Modified}, there)
	if err != nil {
		return nil
	}
	return u
}

// abandon drops an upload that nothing is to go on with. One that the store will not drop is left to "perdure s3 clean".
func (o *Object) abandon(ctx context.Context, u *uploads.Upload) error {
	err := o.store.AbortUpload(ctx, u.State())
	if err != nil && exit.Code(err) != exit.Failed {
		return err
	}
	return u.Forget()
}

// Settle drops what an earlier run has left of an upload from a file that is there by now.
func (o *Object) Settle(ctx context.Context, from Endpoint) {
	if u := o.upload(from, &Input{}, true); u != nil {
		_ = o.abandon(ctx, u) // the next run tries again
		u.Close()
	}
}

// resumed tells what is there.
func (p *put) resumed(r objects.Resumption) {
	c := p.copy
	if r.Bytes == 0 {
		c.renewed(r.Reason)
		return
	}
	c.goingOn(p.to, r.Bytes, r.Size)
	c.progress(r.Bytes, r.Size)
}

// leave leaves what has been sent of a file to another run, unless that would fail as well.
func (p *put) leave(ctx context.Context, u *uploads.Upload, in *Input, err error) {
	s, unread := objects.ReadState(u.State())
	switch {
	case err == nil:
		return
	case in.File == nil:
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		_ = p.to.abandon(late, u) // else the next run does so
		return
	case unread != nil:
		_ = u.Forget()
		return
	case s.Upload == "":
		return
	}
	if s.Bytes == 0 || ctx.Err() == nil && exit.Code(err) == exit.Failed {
		if p.to.store.AbortUpload(ctx, u.State()) == nil || s.Bytes == 0 {
			return
		}
	}
	p.left = fmt.Sprintf("%d of %d bytes are kept in the store; run the same command to resume", s.Bytes, s.Size)
}
