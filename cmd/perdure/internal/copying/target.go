package copying

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/place"
)

// chunk is how many bytes are read at a time.
const chunk = 256 << 10

// An outcome is what a target has.
type outcome struct {
	bytes    int64
	checksum string // of all of it, as "sha256:..."
	verified string // by what
}

// A target takes the bytes. write is called again after an input that broke,
// unless the target is sequential; commit makes it there, close drops it
// otherwise.
type target interface {
	write(ctx context.Context, in *input) (outcome, error)
	commit() error
	close()
	sequential() bool
}

// A fetcher is a target that asks for what it lacks, rather than being written
// to. Its error says whether there may be another attempt.
type fetcher interface {
	attempt(ctx context.Context) (outcome, error)
}

// receive copies in to w and returns the SHA-256 of what it was.
func (c *copier) receive(ctx context.Context, in *input, w io.Writer) (outcome, error) {
	sum := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(w, sum), c.watch(ctx, in), make([]byte, chunk))
	return outcome{bytes: n, checksum: "sha256:" + hex.EncodeToString(sum.Sum(nil)), verified: "sha256"}, err
}

// A sink is written to as the bytes come: standard output, a pipe, a device.
type sink struct {
	copier *copier
	file   *os.File
}

func (s sink) write(ctx context.Context, in *input) (outcome, error) {
	return s.copier.receive(ctx, in, interruptibleWriter{ctx, s.file})
}

// An interruptibleWriter is a writer whose Write ends with its context.
type interruptibleWriter struct {
	ctx context.Context //nolint:containedctx // of one copy
	w   io.Writer
}

func (w interruptibleWriter) Write(p []byte) (int, error) {
	return await(w.ctx, func() (int, error) { return w.w.Write(p) })
}

func (s sink) commit() error    { return nil }
func (s sink) close()           {}
func (s sink) sequential() bool { return true }

// A draft is a file that becomes another when it is complete.
type draft struct {
	copier *copier
	path   string // of the file that it becomes
	file   *os.File
	made   fs.FileMode // to be made with
	mode   fs.FileMode // to have in the end; 0: as it was made
	sum    string
	done   bool
}

// newDraft creates the file beside the one that it becomes, so that what can't
// be written is known before anything is asked for.
func (c *copier) newDraft(ctx context.Context) (target, error) {
	d, stream, err := c.locate(ctx)
	switch {
	case err != nil:
		return nil, err
	case stream != nil:
		return device{sink{c, stream}}, nil
	case c.from.Kind == place.Web:
		return c.newFetch(d, d.made)
	case c.from.Kind == place.Object:
		return c.newPull(d, d.made)
	}
	d.file, err = os.OpenFile(besides(d.path), os.O_RDWR|os.O_CREATE|os.O_EXCL, d.made)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// locate finds out what there is to write to: a file, of which the draft is still
// to be made, or a device or a pipe, which it opens.
func (c *copier) locate(ctx context.Context) (*draft, *os.File, error) {
	d := &draft{copier: c, path: resolve(c.to.Path), made: 0o666} // less the umask, as for any new file
	if info, err := os.Stat(c.from.Path); c.from.Kind == place.File && err == nil {
		d.made = info.Mode().Perm()
	}
	old, err := await(ctx, func() (*os.File, error) { return os.OpenFile(d.path, os.O_WRONLY, 0) })
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := old.Stat()
	if err == nil && !info.Mode().IsRegular() {
		return nil, old, nil
	}
	_ = old.Close()
	if err != nil {
		return nil, nil, err
	}
	d.made, d.mode = 0o600, info.Mode().Perm()
	return d, nil, nil
}

// resolve returns the path of the file that links lead to, which stay. There may be
// no such file yet.
func resolve(path string) string {
	if end, err := filepath.EvalSymlinks(path); err == nil {
		return end
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path // as the link to a pipe, which is no path
	}
	for range 40 { // as many as Linux follows
		next, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(next) {
			next = filepath.Join(filepath.Dir(path), next)
		}
		path = next
	}
	return path
}

// besides returns a name for a file that becomes path.
func besides(path string) string {
	name := filepath.Base(path)
	if len(name) > 200 { // most systems know no more than 255 bytes
		name = name[:200]
	}
	return filepath.Join(filepath.Dir(path), "."+name+"."+rand.Text()[:8]+".part")
}

// A device is a sink that was opened here: a device, or a pipe with a name.
type device struct{ sink }

func (d device) commit() error { return d.file.Close() }
func (d device) close()        { _ = d.file.Close() }

func (d *draft) sequential() bool { return false }

func (d *draft) write(ctx context.Context, in *input) (outcome, error) {
	if _, err := d.file.Seek(0, io.SeekStart); err != nil {
		return outcome{}, err
	}
	if err := d.file.Truncate(0); err != nil {
		return outcome{}, err
	}
	o, err := d.copier.receive(ctx, in, d.file)
	d.sum = o.checksum
	return o, err
}

// commit gives the file its name, when it reads as it was written and is on the
// disk.
func (d *draft) commit() error {
	if err := d.verify(); err != nil {
		return err
	}
	return d.install(true)
}

// install gives the file its name, when it is on the disk; closed says whether
// it is closed before.
func (d *draft) install(closed bool) error {
	if err := d.file.Sync(); err != nil {
		return err
	}
	if d.mode != 0 {
		if err := d.file.Chmod(d.mode); err != nil {
			return err
		}
	}
	if closed {
		if err := d.file.Close(); err != nil {
			return err
		}
	}
	if err := os.Rename(d.file.Name(), d.path); err != nil {
		return err
	}
	d.done = true
	if dir, err := os.Open(filepath.Dir(d.path)); err == nil { // for the name; not all systems can
		_ = dir.Sync()
		_ = dir.Close()
	}
	return nil
}

func (d *draft) verify() error {
	if _, err := d.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, plainReader{d.file}, make([]byte, chunk)); err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != d.sum {
		return fmt.Errorf("%s reads as %s, but %s was written", d.file.Name(), got, d.sum)
	}
	return nil
}

func (d *draft) close() {
	if !d.done {
		_ = d.file.Close()
		_ = os.Remove(d.file.Name())
	}
}
