package objects

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// GetOptions say which bytes are meant. The zero value asks for the object as it
// is now.
type GetOptions struct {
	VersionID string

	// Progress, if set, is told how many bytes have come, and of how many, after
	// each write. It is called on the caller's goroutine.
	Progress func(done, total int64)
}

// maxRestarts is how often a file is begun anew because the object has changed,
// or has arrived spoilt.
const maxRestarts = 2

// Get writes the object to w. If it fails, w may have got some of the bytes.
// See [Store.Open].
func (s *Store) Get(ctx context.Context, bucket, key string, w io.Writer, o GetOptions) (Object, error) {
	r, err := s.Open(ctx, bucket, key, o)
	if err != nil {
		return Object{}, err
	}
	defer func() { _ = r.Close() }()
	if o.Progress != nil {
		w = &meter{w: w, total: r.object.Size, progress: o.Progress}
	}
	_, err = io.CopyBuffer(plain{w}, r, make([]byte, 256<<10))
	if _, ours := errors.AsType[*Error](err); err != nil && !ours {
		err = wrap("get", bucket, key, err)
	}
	return r.Object(), err
}

// plain is a writer whose other methods are hidden: it is written to from one
// buffer.
type plain struct{ io.Writer }

// A meter counts what is written.
type meter struct {
	w           io.Writer
	done, total int64
	progress    func(done, total int64)
}

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.done += int64(n)
	m.progress(m.done, m.total)
	return n, err
}

// GetFile writes the object to the file of that path. It is written under
// another name in the same directory and renamed when it is whole, compared by
// checksum, and on the disk: whatever happens, the path has the new file or what
// it had before. An object that changes meanwhile is fetched anew.
func (s *Store) GetFile(ctx context.Context, bucket, key, path string, o GetOptions) (Object, error) {
	f, err := createBeside(path)
	if err != nil {
		return Object{}, wrap("get", bucket, key, err)
	}
	object, err := s.fetch(ctx, bucket, key, f, o)
	if err == nil {
		err = wrap("get", bucket, key, install(f, path))
	}
	if err != nil {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}
	return object, err
}

// fetch gets the object into f, from the start again if that is worth it.
func (s *Store) fetch(ctx context.Context, bucket, key string, f *os.File, o GetOptions) (Object, error) {
	for restarts := 0; ; restarts++ {
		object, err := s.Get(ctx, bucket, key, f, o)
		again := errors.Is(err, ErrChanged) || errors.Is(err, ErrChecksum)
		if err == nil || !again || restarts == maxRestarts || ctx.Err() != nil {
			return object, err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return object, wrap("get", bucket, key, err)
		}
		if err := f.Truncate(0); err != nil {
			return object, wrap("get", bucket, key, err)
		}
	}
}

// createBeside creates a file in the directory of path, to become it.
func createBeside(path string) (*os.File, error) {
	mode := fs.FileMode(0o666) // less the umask, as for any new file
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil, &fs.PathError{Op: "write", Path: path, Err: errors.New("is a directory")}
	case err == nil:
		mode = info.Mode().Perm()
	}
	name := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+rand.Text()[:8]+".part")
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
}

// install gives a complete file its name.
func install(f *os.File, path string) error {
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	if dir, err := os.Open(filepath.Dir(path)); err == nil { // for the name itself; not all systems can
		_ = dir.Sync()
		_ = dir.Close()
	}
	return nil
}
