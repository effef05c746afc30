package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/uploads"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// A put is an object that is not complete yet.
type put struct {
	copy *Copy
	to   *Object
	left string
	got  Stored
}

func (p *put) File() *transfer.File    { return nil }
func (p *put) Commit() (Stored, error) { return p.got, nil }
func (p *put) Close() string           { return p.left }

// Put stores all bytes. It does not send parts of a file again that an earlier run has sent.
func (p *put) Put(ctx context.Context, in *Input) (stored Stored, err error) {
	if most := maxObject(in); in.Size > most {
		return stored, &transfer.SizeError{Size: in.Size, Limit: most, What: "an object"}
	}
	settings := &p.copy.Session.Settings
	o := objects.PutOptions{Attributes: in.Override(settings.Attributes), ACL: types.ObjectCannedACL(settings.ACL)}
	if p.copy.Session.ModTimes && in.File != nil {
		o.Metadata = withModTime(o.Metadata, in.Modified)
	}
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

// maxObject returns how many bytes of an input fit into the 10,000 parts of an object, which have 5 GiB at most; those of a
// stream grow so that 5 TiB fit.
func maxObject(in *Input) int64 {
	if in.File == nil {
		return 5 << 40
	}
	return 10_000 * 5 << 30
}

func (p *put) send(ctx context.Context, in *Input, body io.Reader, o objects.PutOptions) (Stored, error) {
	object, err := p.to.store.Put(ctx, p.to.bucket, p.to.key, body, o)
	if err == nil && in.Size >= 0 && object.Size != in.Size {
		err = fmt.Errorf("%w: the store has %d bytes, want %d", ErrSize, object.Size, in.Size)
	}
	if err == nil {
		p.got = Stored{object.Size, object.Checksum, string(object.Verified), object.ETag}
	}
	return p.got, err
}

// compare reads all of a file and returns an error if its checksum is not the wanted one. Other inputs are verified while
// they are sent.
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

// errMoving is the error of an upload that failed because the file changed.
var errMoving = errors.New("source changed during upload")

// steady returns errMoving in place of a permanent error if the file has changed since it was opened. If there is no error,
// it notes the change.
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

// EventChanged is the event of a source that changed while it was read: the copy may be a mixture.
const EventChanged = "changed"

// moved notes that a file has changed while it was read.
func (c *Copy) moved(in *Input, done string) {
	if in.changed() {
		c.Session.note(EventChanged, c.From.String()+" changed while it was "+done+": the copy may mix old and new content")
	}
}

// resumable is the size in bytes above which a file is sent in parts, so that another run can resume the upload.
const resumable = 8 << 20

// recall looks for the upload of an earlier run. If the source is a large file, o resumes that upload. Otherwise recall
// aborts the upload. For a source that cannot be read twice it records the new upload, so that the next run can abort it if
// this process is killed. done must be called with the error of the put.
func (p *put) recall(ctx context.Context, in *Input, o *objects.PutOptions) (done func(error), err error) {
	c := p.copy
	small := in.File != nil && (c.Session.NoResume || in.Size <= resumable)
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
		c.restarted(outdated + p.orphans(u))
	}
	if small || outdated != "" || in.File == nil {
		if err := p.to.abandon(ctx, u); err != nil {
			u.Close()
			return nil, fmt.Errorf("aborting the upload of an earlier run: %w", err)
		}
	}
	if small || u.Begin() != nil {
		u.Close()
		return done, nil //nolint:nilerr // an upload without a record cannot be resumed
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

// orphans returns a clause about parts in the store that this run cannot abort, or "".
func (p *put) orphans(u *uploads.Upload) string {
	if !u.Lost() {
		return ""
	}
	return fmt.Sprintf("; the parts that it sent stay in the store: remove them with \"perdure s3 clean %v\"", p.to)
}

// upload claims the record of the upload of a file. It creates the record, unless there is set. It returns nil if another
// process has claimed the record, or if none can be kept.
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

// abandon aborts an upload that is not to be resumed. If the store refuses that, the upload is left to "perdure s3 clean".
func (o *Object) abandon(ctx context.Context, u *uploads.Upload) error {
	err := o.store.AbortUpload(ctx, u.State())
	if err != nil && exit.Code(err) != exit.Failed {
		return err
	}
	return u.Forget()
}

// Settle aborts the upload of an earlier run from a file that is stored by now.
func (o *Object) Settle(ctx context.Context, from Endpoint) {
	if u := o.upload(from, &Input{}, true); u != nil {
		_ = o.abandon(ctx, u) // the next run tries again
		u.Close()
	}
}

// resumed notes what of an earlier upload is resumed, or why nothing is.
func (p *put) resumed(r objects.Resumption) {
	p.copy.resumed(p.to, transfer.Resumption(r))
	if r.Bytes > 0 {
		p.copy.progress(r.Bytes, r.Size)
	}
}

// leave keeps the upload of a file for another run, unless that would fail, too.
func (p *put) leave(ctx context.Context, u *uploads.Upload, in *Input, err error) {
	s, unread := objects.ReadState(u.State())
	switch {
	case err == nil:
		return
	case in.File == nil:
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		_ = p.to.abandon(late, u) // after an error, the next run aborts it
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
	p.left = part(s.Bytes, s.Size) + " are kept in the store; run the same command to resume"
}
