package promtext

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/private"
	"github.com/seed-0f2c7998/perdure/metrics"
)

// MaxSize is the maximum size of a file, in bytes.
const MaxSize = 4 << 20

// header is the first line of each file that AddTo has written.
const header = "# Metrics of perdure. Processes add to this file: see perdure run --metrics-file.\n"

// lockTimeout is how long AddTo waits for other processes; each takes milliseconds.
const lockTimeout = 10 * time.Second

var (
	errNotOurs = errors.New("is not a metrics file of perdure: remove it, or name another one")
	errBusy    = fmt.Errorf("has been locked by another process for %v", lockTimeout)
)

// Check returns an error if AddTo would refuse the file at path as it is now, and changes
// nothing. A missing file is no error, a missing directory is one.
func Check(path string) error {
	root, err := private.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	_, err = read(root, filepath.Base(path))
	return err
}

// AddTo adds metrics to those of the file at path, as [Merge] does with those that take
// returns as counted, and [Replace] with those that it returns as shared. Many processes may
// do so at the same time: each locks a file beside it, .NAME.lock, while it calls take, so
// that no process replaces newer numbers by older ones. AddTo replaces the file
// atomically, with mode 0644, so that a reader, and a process that is killed, never leaves
// or sees a part of it. It refuses a file that perdure has not written, that is damaged,
// larger than MaxSize, a link, or not a regular file of this user, and leaves it unchanged.
func AddTo(ctx context.Context, path string, take func() (counted, shared []metrics.Family, err error)) error {
	root, err := private.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	name := filepath.Base(path)
	unlock, err := lock(ctx, filepath.Join(filepath.Dir(path), "."+name+".lock"))
	if err != nil {
		return err
	}
	defer unlock()
	all, err := read(root, name)
	if err != nil {
		return err
	}
	counted, shared, err := take()
	if err != nil {
		return err
	}
	if all, err = Merge(all, counted); err != nil {
		return err
	}
	if all, err = Replace(all, shared); err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString(header)
	_ = Write(&b, all) // to memory
	if b.Len() > MaxSize {
		return fmt.Errorf("would exceed %d bytes", MaxSize)
	}
	return replace(root, name, b.Bytes())
}

// lock waits for the lock of the file at path, and creates the file if it is missing.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lockTimeout, errBusy)
	defer cancel()
	f, err := private.OpenPath(path, os.O_CREATE)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !private.Lock(f) {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			_ = f.Close()
			return nil, context.Cause(ctx)
		}
	}
	return func() { _ = f.Close() }, nil
}

// read reads the file of that name. A missing or an empty file has no metrics.
func read(root *os.Root, name string) ([]metrics.Family, error) {
	f, err := private.Open(root, name, os.O_RDONLY, private.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) == 0:
		return nil, nil
	case !strings.HasPrefix(string(text), header):
		return nil, errNotOurs
	case len(text) > MaxSize:
		return nil, fmt.Errorf("is larger than %d bytes", MaxSize)
	}
	all, err := Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("is damaged: %w: remove it, or name another one", err)
	}
	return all, nil
}

// replace replaces the file of that name atomically. The lock is held, so the temporary file
// is one that a killed process has left.
func replace(root *os.Root, name string, text []byte) error {
	temporary := "." + name + ".tmp"
	if err := root.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return private.Replace(root, temporary, name, text, 0o644, true) // after a crash of the host the file is the old or the new one
}
