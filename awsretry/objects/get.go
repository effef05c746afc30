package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/slots"
	"github.com/seed-0f2c7998/perdure/internal/getters"
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

// A getter requests ranges of one object, as [getters.S3] says, for what verifies them by itself. It is safe for
// concurrent use.
type getter struct {
	store       *Store
	bucket, key string
	o           GetOptions
	slots       *slots.Slots

	mu     sync.Mutex
	object Object // guarded by mu
}

func (s *Store) getter(bucket, key string, o GetOptions) *getter {
	return &getter{
		store: s, bucket: bucket, key: key, o: o, slots: slots.New(s.parallel, s.parallel),
		object: Object{Bucket: bucket, Key: key},
	}
}

// What this module's own packages call, and users do not see.
func init() { //nolint:gochecknoinits // see package getters
	getters.OfferS3(func(s *Store, bucket, key string, o GetOptions) getters.S3[Object] { return s.getter(bucket, key, o) })
}

// Parallel returns how many ranges are to be requested at a time: twice as many as may be under way, as one that waits
// for its next attempt lets another go in its place.
func (g *getter) Parallel() int { return 2 * g.store.parallel }

// Source identifies the object to a later process.
func (g *getter) Source() string {
	return fmt.Sprintf("s3://%s/%s?versionId=%s at %q", g.bucket, g.key, g.o.VersionID, g.store.endpoint)
}

// Object returns what the store said of the object at the last request of all of it, or else at the first of a range.
func (g *getter) Object() Object {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.object
}

// Get requests r of the version of, or, if of is nil, all of the object. It waits while too many responses are open. The
// body resumes by itself; the error wraps [ErrChanged] if the object is another by now.
func (g *getter) Get(ctx context.Context, r transfer.Range, of *transfer.Version) (*transfer.Response, error) {
	slot, err := g.slots.Take(ctx)
	if err != nil {
		return nil, err
	}
	body := &rangeBody{slot: slot, Reader: Reader{
		store: g.store, ctx: ctx, version: g.o.VersionID, slot: slot, fresh: true,
		object: Object{Bucket: g.bucket, Key: g.key}, tags: g.o.Tags && (of == nil || g.Object().ETag == ""),
	}}
	if err := body.request(r, of); err != nil {
		slot.Release()
		return nil, wrap("get", g.bucket, g.key, err)
	}
	g.keep(body.object, of == nil)
	return &transfer.Response{Version: body.describes(of), From: body.offset, Ranges: body.resumable(), Body: body}, nil
}

// keep keeps what the store says of the object.
func (g *getter) keep(o Object, whole bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if whole || g.object.ETag == "" {
		g.object = o
	}
}

// A rangeBody is the body of a response to a getter.
type rangeBody struct {
	Reader

	slot *slots.Slot
}

// request makes the first request.
func (b *rangeBody) request(r transfer.Range, of *transfer.Version) error {
	if of != nil {
		b.object.ETag, b.object.Size = of.ETag, of.Size
		b.offset, b.end, b.piece = r.From, r.To, true
		if r.To < 0 {
			b.end = of.Size
		}
		if r.From < 0 || r.From >= b.end || b.end > of.Size {
			return fmt.Errorf("no range of %d bytes: %d to %d", of.Size, r.From, r.To)
		}
	}
	err := b.open()
	b.piece = true // whatever follows must be of the same object
	return err
}

// describes returns the version that the store says the object is of.
func (b *rangeBody) describes(of *transfer.Version) transfer.Version {
	if of != nil {
		return *of
	}
	v := transfer.Version{Size: b.object.Size, Checksum: b.want.sum, Inconclusive: b.want.inconclusive}
	if isStrong(b.object.ETag) {
		v.ETag = b.object.ETag
	}
	return v
}

// Close ends the request and lets another go.
func (b *rangeBody) Close() error {
	if b.slot != nil {
		_ = b.Reader.Close()
		b.slot.Release()
		b.slot = nil
	}
	return nil
}
