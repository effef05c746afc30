package objects

import (
	"context"
	"errors"
	"io"

	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// GetOptions selects the version and configures resuming. The zero value selects
// the current version and resumes.
type GetOptions struct {
	VersionID string

	// Tags requests the object's tags as well, if it has any; it may not be allowed: see Object.TagsError.
	Tags bool

	// NoResume discards what an earlier GetFile of the same object to the same path has left, and leaves nothing.
	NoResume bool

	// Resumed, if set, is called at most once, before anything is written, by a GetFile that finds what an earlier one has
	// left.
	Resumed func(Resumption)

	// Progress, if set, is told how many bytes have come, and of how many (-1: not
	// known), after each write. It is called by one goroutine at a time.
	Progress func(done, total int64)
}

// A Resumption says what an earlier transfer has left.
type Resumption struct {
	Bytes, Size int64  // that are kept, of how many (-1: unknown); Bytes 0 means that it begins from scratch
	Reason      string // why it begins from scratch
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

// GetFile writes the object to the file of that path. It is written in a hidden
// directory beside the path and renamed when it is complete, compared by checksum,
// and on the disk: whatever happens, the path has the new file or what it had
// before. A large object is fetched in ranges, some at a time; one that changes
// meanwhile is fetched from scratch. If GetFile fails, what has come stays for the
// next GetFile of the same object to the same path, also in a later process, which
// fetches only what is missing, if the object is still the same and the bytes are
// as they were written. A symbolic link at the path is not written through.
func (s *Store) GetFile(ctx context.Context, bucket, key, path string, o GetOptions) (Object, error) {
	g := s.getter(bucket, key, o)
	options := transfer.Options{
		Source: g.Source(), Parallel: g.Parallel(), Piece: s.partSize, NoResume: o.NoResume, Progress: o.Progress,
	}
	if o.Resumed != nil {
		options.Resumed = func(r transfer.Resumption) { o.Resumed(Resumption(r)) }
	}
	r, err := transfer.ToFile(ctx, path, g, options)
	object := g.Object()
	if err == nil {
		object.Size, object.Verified = r.Bytes, Verification(r.Verified)
	} else if _, ours := errors.AsType[*Error](err); !ours {
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
