package copying

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/partial"
	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A remnant is a draft with which another run may go on.
type remnant struct {
	*draft

	kept *partial.File // the draft's file; nil: nothing is kept for another run
}

// newRemnant makes the draft's file that of an earlier run, if nobody else has
// that, or else a new one.
func (c *copier) newRemnant(d *draft, claim func() (*partial.File, error), mode fs.FileMode) (*remnant, error) {
	r := &remnant{draft: d}
	kept, err := claim()
	switch {
	case err == nil && !c.NoResume:
		r.kept, d.file = kept, kept.File
		return r, nil
	case err == nil:
		kept.Discard()
	}
	d.file, err = os.OpenFile(besides(d.path), os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	return r, err
}

// finish reads the file that is complete, for its checksum and for the ones that
// it is to have; forget makes the next attempt begin anew.
func (r *remnant) finish(ctx context.Context, size int64, store checksum.Sum, forget func() error) (outcome, error) {
	c := r.copier
	if err := r.file.Truncate(size); err != nil {
		return outcome{}, retry.Permanent(c.explain("write", c.to, err))
	}
	sum, wanted, stored := sha256.New(), c.want.New(), store.New()
	all := &watched{ctx: ctx, in: io.NewSectionReader(r.file, 0, size), size: size, progress: func(int64, int64) {}}
	if _, err := io.CopyBuffer(io.MultiWriter(sum, wanted, stored), all, make([]byte, chunk)); err != nil {
		return outcome{}, retry.Permanent(c.explain("read", c.to, err))
	}
	if err := store.Check(stored); err != nil {
		return outcome{}, retry.Permanent(c.explain("read", c.to, errors.Join(err, forget())))
	}
	if err := c.want.Check(wanted); err != nil {
		return outcome{}, retry.Permanent(c.explain("read", c.from, errors.Join(err, forget())))
	}
	o := outcome{bytes: size, checksum: checksum.Sum{Name: "sha256", Value: sum.Sum(nil)}.String(), verified: "size"}
	if !c.want.IsZero() {
		o.verified = c.want.Name
	}
	return o, nil
}

// commit gives the file its name, when it is on the disk. The name is given
// while the file is still ours alone, where the system allows that.
func (r *remnant) commit() error {
	if err := r.install(runtime.GOOS == "windows"); err != nil || r.kept == nil {
		return err
	}
	return r.kept.Forget()
}

// leave leaves so many bytes to another run, or nothing.
func (r *remnant) leave(bytes, size int64) {
	switch {
	case r.done:
		_ = r.file.Close()
	case r.kept == nil:
		r.close()
	case bytes == 0:
		r.kept.Discard()
	default:
		_ = r.file.Close()
		r.copier.left = fmt.Sprintf("%d of %d bytes are kept in %s: the same command goes on with them", bytes, size, r.file.Name())
	}
}

// goingOn tells that so many bytes are there of an earlier run, or attempt.
func (c *copier) goingOn(with place, bytes, size int64) {
	if c.tries == 1 {
		c.earlier = bytes
	}
	c.note("continued", fmt.Sprintf("Going on with %s: %d of %d bytes are there", with, bytes, size))
}

// renewed tells that nothing of that is of use.
func (c *copier) renewed(text string) {
	c.earlier = 0
	c.note("renewed", text)
}

// A pull is an object that becomes a file: in parallel ranges if it is large,
// and in several runs if one is not enough.
type pull struct {
	*remnant

	recalled bool // what an earlier run has left has been looked at
}

// newPull opens the file that d is written to.
func (c *copier) newPull(d *draft, mode fs.FileMode) (target, error) {
	r, err := c.newRemnant(d, func() (*partial.File, error) { return partial.Claim(d.path, mode) }, mode)
	return &pull{remnant: r}, err
}

// attempt fetches what is missing, and compares what is there then.
func (p *pull) attempt(ctx context.Context) (outcome, error) {
	c := p.copier
	object, err := p.get(ctx, c.progress)
	if err != nil {
		return outcome{}, p.failed(err)
	}
	o, err := p.finish(ctx, object.Size, checksumOf(object), p.forget)
	if err == nil && c.want.IsZero() {
		o.verified = object.Verified
	}
	return o, err
}

// get fetches what is missing.
func (p *pull) get(ctx context.Context, progress func(done, total int64)) (objects.Object, error) {
	c := p.copier
	options := objects.GetOptions{Progress: progress, Resumed: func(bytes, size int64) { p.resumed(bytes, size, progress) }}
	if p.kept != nil {
		if err := p.recall(); err != nil {
			return objects.Object{}, err
		}
		options.State = p.kept.Sidecar()
	}
	return c.download.GetTo(ctx, c.from.bucket, c.from.key, p.file, options)
}

// checksumOf returns the checksum of all bytes by which an object was verified;
// zero: it has another kind.
func checksumOf(o objects.Object) checksum.Sum {
	text := o.Checksum
	if o.Verified == "md5" {
		text = "md5:" + strings.Trim(o.ETag, `"`)
	}
	sum, err := checksum.Parse(text)
	if err != nil || sum.Name != o.Verified {
		return checksum.Sum{}
	}
	return sum
}

// recall looks at what an earlier run has left, and forgets what is of another
// object.
func (p *pull) recall() error {
	if p.recalled {
		return nil
	}
	p.recalled = true
	c := p.copier
	s, err := objects.ReadState(p.kept.Sidecar())
	if err == nil && s.Upload == "" && s.Bucket == c.from.bucket && s.Key == c.from.key && s.Endpoint == c.endpoint {
		if info, err := p.file.Stat(); err == nil && info.Size() > 0 {
			return nil
		}
	}
	return p.kept.Renew()
}

// resumed tells what is there.
func (p *pull) resumed(bytes, size int64, progress func(done, total int64)) {
	c := p.copier
	if bytes == 0 {
		c.renewed(c.from.String() + " has changed since the earlier run: it is fetched anew")
		return
	}
	c.goingOn(c.from, bytes, size)
	progress(bytes, size)
}

// failed says what an error means for the next attempt. What has changed or has
// come spoilt has been fetched anew already.
func (p *pull) failed(err error) error {
	c := p.copier
	if broken, ok := errors.AsType[*fs.PathError](err); ok && strings.HasPrefix(broken.Path, p.file.Name()) {
		return retry.Permanent(c.explain("write", c.to, broken))
	}
	if !errors.Is(err, objects.ErrChecksum) && mayRestart(err) {
		return retry.Transient(c.explain("read", c.from, err))
	}
	return retry.Permanent(c.explain("read", c.from, err))
}

// forget makes the next run begin anew.
func (p *pull) forget() error {
	if p.kept == nil {
		return nil
	}
	return p.kept.Renew()
}

// close leaves what another run can go on with, or nothing.
func (p *pull) close() {
	if p.kept == nil || p.done {
		p.leave(0, 0)
		return
	}
	s, _ := objects.ReadState(p.kept.Sidecar()) // what can't be read is not kept
	p.leave(s.Bytes, s.Size)
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
	options.State, options.Resumed = u.State(), func(bytes, size int64) { c.resumedUpload(bytes, size, options.Progress) }
	return func(err error) {
		c.leave(ctx, u, err)
		u.Close()
	}, nil
}

// openUpload claims what is known of the upload, and makes it if it is worth
// that; nil: another process has it, or nothing can be kept here.
func (c *copier) openUpload(in *input) *partial.Upload {
	dir, err := uploads()
	path, unknown := filepath.Abs(c.from.path)
	if errors.Join(err, unknown) != nil {
		return nil
	}
	there := c.NoResume || in.size <= resumable
	if !there {
		partial.Prune(dir)
	}
	u, err := partial.OpenUpload(dir, partial.Address{Endpoint: c.endpoint, Bucket: c.to.bucket, Key: c.to.key},
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

// Forget drops what copies of this user have left of uploads to keys that begin
// with prefix, if they were begun more than age ago and no process goes on with
// them.
func (c *Connection) Forget(ctx context.Context, bucket, prefix string, age time.Duration) error {
	dir, err := uploads()
	if err != nil {
		return nil //nolint:nilerr // there is no directory to have them
	}
	var failed error
	partial.Uploads(dir, func(u *partial.Upload) {
		s, err := objects.ReadState(u.State())
		if err == nil && failed == nil && s.Endpoint == c.copier.endpoint && s.Bucket == bucket && strings.HasPrefix(s.Key, prefix) && time.Since(u.Begun()) >= age {
			failed = c.Abandon(ctx, u.State())
		}
	})
	return failed
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
