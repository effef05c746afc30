package copying

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/partial"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/place"
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
func (c *copier) goingOn(with place.Place, bytes, size int64) {
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
	options := objects.GetOptions{Progress: progress, Resumed: func(r objects.Resumption) { p.resumed(r.Bytes, r.Size, progress) }}
	if p.kept != nil {
		if err := p.recall(); err != nil {
			return objects.Object{}, err
		}
		options.State = p.kept.Sidecar()
	}
	return c.download.GetTo(ctx, c.from.Bucket, c.from.Key, p.file, options)
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
	if err == nil && s.Upload == "" && s.Bucket == c.from.Bucket && s.Key == c.from.Key && s.Endpoint == c.endpoint {
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
