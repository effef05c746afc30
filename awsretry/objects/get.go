package objects

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/atomicfile"
	"github.com/seed-0f2c7998/perdure/awsretry/internal/journal"
)

// GetOptions say which bytes are meant. The zero value asks for the object as it
// is now.
type GetOptions struct {
	VersionID string

	// Tags requests the object's tags as well, if it has any; it may not be allowed: see Object.TagsError.
	Tags bool

	// State, if set, is the path of a file that remembers a download in pieces, so
	// that the next GetFile of the same object to the same path, after a crash or
	// a failure, fetches only what is missing, if the object is still the same.
	// GetFile makes it, and removes it when the file is there; if it fails, what
	// was fetched stays beside the path as a hidden file that ends in .part. One
	// GetFile at a time may use it. Get and Open do not.
	State string

	// Resumed, if set, is told before anything is written how many bytes of those
	// that State remembers are of use, and of how many in all (-1: not known): 0 if
	// it is another object by now.
	Resumed func(done, total int64)

	// Progress, if set, is told how many bytes have come, and of how many (-1: not
	// known), after each write. It is called by one goroutine at a time.
	Progress func(done, total int64)
}

// Get writes the object to w. If it fails, w may have got some of the bytes.
// See [Store.Open].
func (s *Store) Get(ctx context.Context, bucket, key string, w io.Writer, o GetOptions) (Object, error) {
	r, err := s.Open(ctx, bucket, key, o)
	if err != nil {
		return Object{}, err
	}
	defer func() { _ = r.Close() }()
	m := &meter{w: w, total: r.object.Size, progress: o.Progress}
	_, err = io.CopyBuffer(plain{m}, r, bufferFor(r.object.Size))
	if _, ours := errors.AsType[*Error](err); err != nil && !ours {
		err = wrap("get", bucket, key, err)
	}
	return r.Object(), err
}

// GetFile writes the object to the file of that path. It is written under
// another name in the same directory and renamed when it is whole, compared by
// checksum, and on the disk: whatever happens, the path has the new file or what
// it had before. A large object is fetched in pieces, some at a time; one that
// changes meanwhile is fetched anew.
func (s *Store) GetFile(ctx context.Context, bucket, key, path string, o GetOptions) (object Object, err error) {
	create := atomicfile.Reopen
	if o.State == "" {
		create = atomicfile.Create
	}
	f, err := create(path)
	if err != nil {
		return object, wrap("get", bucket, key, err)
	}
	if object, err = s.GetTo(ctx, bucket, key, f, o); err == nil {
		err = atomicfile.Install(f, path)
		if _, ours := errors.AsType[*Error](err); !ours {
			err = wrap("get", bucket, key, err)
		}
	}
	switch {
	case err == nil && o.State != "":
		_ = os.Remove(o.State) // what is left of it is found out at the next use
	case err != nil && o.State != "":
		_ = f.Close()
	case err != nil:
		atomicfile.Discard(f)
	}
	return object, err
}

// GetTo writes the object to f, which is open for reading and writing, from its
// beginning on: as GetFile does, but when it is to be synced, closed, renamed or
// removed is the caller's to say, and so it is with the file of o.State, which
// stays, and without which f holds nothing for the next GetTo.
func (s *Store) GetTo(ctx context.Context, bucket, key string, f *os.File, o GetOptions) (object Object, err error) {
	d := &download{store: s, bucket: bucket, key: key, o: o, file: f}
	d.buffers.New = func() any { return new([bufferSize]byte) }
	if o.State != "" {
		if d.state, err = journal.Recall(o.State, journal.Head{Endpoint: s.endpoint, Bucket: bucket, Key: key}, false); err != nil {
			return object, wrap("get", bucket, key, err)
		}
		defer d.state.Close()
	}
	object, err = d.run(ctx)
	if _, ours := errors.AsType[*Error](err); !ours {
		err = wrap("get", bucket, key, err)
	}
	return object, err
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
	if m.progress != nil {
		m.progress(m.done, m.total)
	}
	return n, err
}

// bufferSize is that of what is read at a time.
const bufferSize = 256 << 10

// bufferFor returns what an object of that size, -1 if it is not known, is read
// into: small ones come in great numbers.
func bufferFor(size int64) []byte {
	if size < 0 {
		size = bufferSize
	}
	return make([]byte, min(size+1, bufferSize))
}
