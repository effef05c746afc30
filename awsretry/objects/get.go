package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/slots"
	"github.com/seed-0f2c7998/perdure/internal/getters"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// GetOptions selects the version and configures resuming. The zero value selects the current version and resumes.
type GetOptions struct {
	VersionID string // "" means the current version

	// Tags requests the object's tags as well. If they may not be read, see Object.TagsError.
	Tags bool

	// NoResume discards what an earlier GetFile of the same object to the same path has left, and leaves nothing.
	NoResume bool

	// Resumed, if not nil, is called at most once, before the first write, by a GetFile that finds what an earlier
	// GetFile has left.
	Resumed func(Resumption)

	// Progress, if not nil, is called after each write with the number of bytes received and the total, -1 if unknown. It is
	// called by one goroutine at a time.
	Progress func(done, total int64)
}

// A Resumption describes what an earlier transfer has left.
type Resumption struct {
	Bytes, Size int64  // the number of bytes that are kept, and in total, -1 if unknown; a Bytes of 0 means that the transfer begins from scratch
	Reason      string // why the transfer begins from scratch; "" if it does not
}

// Get writes the object to w. After an error w may have received some of the bytes. See [Store.Open].
func (s *Store) Get(ctx context.Context, bucket, key string, w io.Writer, o GetOptions) (Object, error) {
	r, err := s.Open(ctx, bucket, key, o)
	if err != nil {
		return Object{}, err
	}
	defer func() { _ = r.Close() }()
	size := r.object.Size
	buffer := int64(bufferSize)
	if size >= 0 { // small objects come in great numbers
		buffer = min(size+1, bufferSize)
	}
	_, err = io.CopyBuffer(io.MultiWriter(w, &meter{total: size, progress: o.Progress}), r, make([]byte, buffer))
	if _, ours := errors.AsType[*Error](err); err != nil && !ours {
		err = wrap("get", bucket, key, err)
	}
	return r.Object(), err
}

// GetFile downloads the object to path. The bytes are written in a hidden directory beside path; the file gets its
// name when it is complete, verified by checksum and flushed to disk. Until then path keeps what it had before.
//
// A large object is fetched in parallel ranges. An object that changes meanwhile is fetched from scratch. After an
// error the received bytes are kept: the next GetFile of the same object to the same path, also in a later process,
// fetches only what is missing, if the object and the kept bytes are unchanged. A symbolic link at path is not
// followed.
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

// A meter counts the bytes that are written.
type meter struct {
	done, total int64
	progress    func(done, total int64)
}

func (m *meter) Write(p []byte) (int, error) {
	m.done += int64(len(p))
	if m.progress != nil {
		m.progress(m.done, m.total)
	}
	return len(p), nil
}

// bufferSize is the size of one read in bytes.
const bufferSize = 256 << 10

// A getter requests ranges of one object, for the transfer engine, which verifies the bytes: see [getters.S3]. It is
// safe for concurrent use.
type getter struct {
	store       *Store
	bucket, key string
	o           GetOptions
	slots       *slots.Slots
	object      atomic.Pointer[Object]
}

func (s *Store) getter(bucket, key string, o GetOptions) *getter {
	g := &getter{store: s, bucket: bucket, key: key, o: o, slots: slots.New(s.parallel, s.parallel)}
	g.object.Store(&Object{Bucket: bucket, Key: key})
	return g
}

// init offers the getter to this module's other packages: users do not see it.
func init() { //nolint:gochecknoinits // see package getters
	getters.NewS3 = func(s *Store, bucket, key string, o GetOptions) getters.S3[Object] { return s.getter(bucket, key, o) }
}

// Parallel returns the number of ranges to request at a time: twice the number of slots, because a request that waits
// for its next attempt yields its slot.
func (g *getter) Parallel() int { return 2 * g.store.parallel }

// Source identifies the object to a later process.
func (g *getter) Source() string {
	return fmt.Sprintf("s3://%s/%s?versionId=%s at %q", g.bucket, g.key, g.o.VersionID, g.store.endpoint)
}

// Object returns the description from the last response for the whole object, or else from the first response for a
// range.
func (g *getter) Object() Object { return *g.object.Load() }

// Get requests r of the version of, or the whole object if of is nil. It waits while too many responses are open. The
// body resumes by itself. The error wraps [ErrChanged] if the object was replaced.
func (g *getter) Get(ctx context.Context, r transfer.Range, of *transfer.Version) (*transfer.Response, error) {
	slot, err := g.slots.Take(ctx)
	if err != nil {
		return nil, err
	}
	body := &Reader{
		store: g.store, ctx: ctx, version: g.o.VersionID, slot: slot, fresh: true,
		object: Object{Bucket: g.bucket, Key: g.key}, tags: g.o.Tags && (of == nil || g.Object().ETag == ""),
	}
	if err := body.openRange(r, of); err != nil {
		_ = body.Close()
		return nil, wrap("get", g.bucket, g.key, err)
	}
	g.keep(body.object, of == nil)
	return &transfer.Response{Version: body.versionOf(of), From: body.offset, Ranges: body.resumable(), Body: body}, nil
}

// keep stores the description of the object.
func (g *getter) keep(o Object, whole bool) {
	if old := g.object.Load(); whole {
		g.object.Store(&o)
	} else if old.ETag == "" {
		g.object.CompareAndSwap(old, &o)
	}
}

// openRange makes the first request of a getter's response.
func (r *Reader) openRange(span transfer.Range, of *transfer.Version) error {
	if of != nil {
		r.object.ETag, r.object.Size = of.ETag, of.Size
		r.offset, r.end, r.piece = span.From, span.To, true
		if span.To < 0 {
			r.end = of.Size
		}
		if span.From < 0 || span.From >= r.end || r.end > of.Size {
			return fmt.Errorf("bytes %d to %d are not a range of %d bytes", span.From, span.To, of.Size)
		}
	}
	err := r.open()
	r.piece = true // later requests must be for the same object
	return err
}

// versionOf returns the version of a getter's response, which is of if that is not nil.
func (r *Reader) versionOf(of *transfer.Version) transfer.Version {
	if of != nil {
		return *of
	}
	v := transfer.Version{Size: r.object.Size, Checksum: r.want.sum, Inconclusive: r.want.inconclusive}
	if isStrong(r.object.ETag) {
		v.ETag = r.object.ETag
	}
	return v
}
