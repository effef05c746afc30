package objects

import (
	"context"
	"fmt"
	"sync"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/slots"
	"github.com/seed-0f2c7998/perdure/internal/getters"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

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
