package objects

import (
	"cmp"
	"context"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"sync"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/atomicfile"
	"github.com/seed-0f2c7998/perdure/awsretry/internal/journal"
	"github.com/seed-0f2c7998/perdure/awsretry/internal/pieces"
	"github.com/seed-0f2c7998/perdure/awsretry/internal/slots"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
)

// A download is one GetTo.
//
// The first answer tells what the object is, and goes on to bring its pieces
// from the first one on. If there are enough of them, other connections bring
// pieces from the last one on, until they meet: so a small object takes one
// request, and of a large one nothing is fetched twice.
type download struct {
	store       *Store
	bucket, key string
	o           GetOptions
	file        *os.File
	state       *journal.Journal // nil: nothing is remembered

	object Object
	first  *Reader // as it was at the first response
	pieces *pieces.Pieces

	buffers sync.Pool // of *[bufferSize]byte, for the pieces on their way

	mu   sync.Mutex
	done int64 // bytes; guarded by mu
}

// maxRestarts is how often a file is begun anew because the object has changed,
// or has arrived spoilt.
const maxRestarts = 2

// run fetches the object into the file, from the start again if that is worth it.
func (d *download) run(ctx context.Context) (Object, error) {
	for restarts := 0; ; restarts++ {
		err := d.fetch(ctx)
		again := errors.Is(err, ErrChanged) || errors.Is(err, ErrChecksum)
		if err == nil || !again || restarts == maxRestarts || ctx.Err() != nil {
			return d.object, err
		}
		if d.state != nil {
			d.state.Head.ETag = ""
		}
	}
}

// fetch fetches the object once.
func (d *download) fetch(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	first, err := d.store.Open(ctx, d.bucket, d.key, d.o)
	if err != nil {
		return err
	}
	defer func() { _ = first.Close() }()
	d.object, d.first = first.Object(), first
	if err := d.plan(); err != nil {
		return err
	}
	if d.pieces.Count() == 0 {
		return d.whole(first)
	}
	first.sum, first.piece = nil, true // each piece has its own
	if err := d.parallel(ctx, cancel, first); err != nil {
		return err
	}
	d.object.Verified, err = d.verify()
	return err
}

// plan cuts the object into pieces, unless it is small or cannot be cut, and
// finds out which of them are there.
func (d *download) plan() error {
	size := cmp.Or(d.store.partSize, 8<<20)
	remembered := d.state != nil && d.state.Head.ETag != "" && d.state.Head.ETag == d.object.ETag
	if remembered {
		size = d.state.Head.PartSize
	}
	d.pieces, d.done = new(pieces.Pieces), 0
	if isStrong(d.object.ETag) && d.object.Size >= 2*size {
		d.pieces = pieces.Cut(d.object.Size, size)
	}
	if remembered && d.pieces.Count() > 0 {
		if err := errors.Join(d.file.Truncate(d.object.Size), d.reread()); err != nil {
			return err
		}
		d.resumed()
		return d.state.Resume()
	}
	d.resumed()
	if err := d.file.Truncate(0); err != nil {
		return err
	}
	if d.state == nil || d.pieces.Count() == 0 {
		return nil
	}
	return d.state.Begin(journal.Head{
		Endpoint: d.store.endpoint, Bucket: d.bucket, Key: d.key, ETag: d.object.ETag, PartSize: size, Size: d.object.Size,
	})
}

// resumed tells how much is there of what an earlier GetTo has fetched.
func (d *download) resumed() {
	if d.o.Resumed != nil && d.state != nil && len(d.state.Parts) > 0 {
		d.o.Resumed(Resumption{Bytes: d.done, Size: d.object.Size})
	}
}

// reread takes the pieces that the state file has and that are in the file.
func (d *download) reread() error {
	for n, known := range d.state.Parts {
		if n < 0 || n >= d.pieces.Count() {
			continue
		}
		first, last := d.pieces.Span(n)
		h := d.newPiece()
		if _, err := io.Copy(h, io.NewSectionReader(d.file, first, last-first)); err != nil {
			return err
		}
		if p := pieces.Of(h, last-first); p.Sum == known.CRC && known.Size == p.Size {
			d.pieces.Add(n, p)
			d.done += p.Size
		}
	}
	return nil
}

// whole takes the object from its first answer.
func (d *download) whole(first *Reader) error {
	if _, err := d.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	w := &meter{w: d.file, total: d.object.Size, progress: d.o.Progress}
	_, err := io.CopyBuffer(plain{w}, first, bufferFor(d.object.Size))
	d.object = first.Object()
	return err
}

// parallel brings the pieces that are missing.
func (d *download) parallel(ctx context.Context, cancel context.CancelCauseFunc, first *Reader) error {
	places := slots.New(d.store.parallel, d.store.parallel)
	var group sync.WaitGroup
	begin := func(bring func() error) {
		group.Go(func() {
			if err := bring(); err != nil {
				cancel(err)
			}
		})
	}
	slot, err := places.Take(ctx)
	if err != nil {
		return err
	}
	low := d.pieces.First()
	begin(func() error { return d.lead(ctx, first, low, slot) })
	for {
		slot, err := places.Take(ctx)
		if err != nil {
			break
		}
		n := d.pieces.Last()
		if n < 0 {
			slot.Release()
			break
		}
		begin(func() error { return d.alone(ctx, n, slot) })
	}
	group.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// from returns a Reader from a piece on.
func (d *download) from(ctx context.Context, n int, end int64, slot *slots.Slot) *Reader {
	begin, _ := d.pieces.Span(n)
	return &Reader{store: d.store, ctx: ctx, object: d.object, version: d.o.VersionID, offset: begin, end: end, piece: true, slot: slot}
}

// alone takes piece n from an answer of its own.
func (d *download) alone(ctx context.Context, n int, slot *slots.Slot) error {
	defer slot.Release()
	_, end := d.pieces.Span(n)
	r := d.from(ctx, n, end, slot)
	defer func() { _ = r.Close() }()
	return d.bring(r, n)
}

// lead takes pieces from the first answer, from piece n on, as long as they
// follow each other.
func (d *download) lead(ctx context.Context, first *Reader, n int, slot *slots.Slot) error {
	defer slot.Release()
	first.slot = slot
	defer func() { _ = first.Close() }()
	for ; n >= 0 && ctx.Err() == nil; n = d.pieces.First() {
		if begin, _ := d.pieces.Span(n); begin != first.offset { // what lies between is there already
			_ = first.Close()
			first = d.from(ctx, n, d.object.Size, slot)
		}
		if err := d.bring(first, n); err != nil {
			return err
		}
	}
	return nil
}

// bring writes piece n, which r is at.
func (d *download) bring(r *Reader, n int) error {
	buffer, _ := d.buffers.Get().(*[bufferSize]byte)
	defer d.buffers.Put(buffer)
	begin, end := d.pieces.Span(n)
	h := d.newPiece()
	for at := begin; at < end; {
		k, err := r.Read(buffer[:min(bufferSize, end-at)])
		if _, err := d.file.WriteAt(buffer[:k], at); err != nil {
			return err
		}
		_, _ = h.Write(buffer[:k])
		at += int64(k)
		d.advance(k)
		if err != nil && (at < end || err != io.EOF) { //nolint:errorlint // as Read returns it
			return err
		}
	}
	p := pieces.Of(h, end-begin)
	d.pieces.Add(n, p)
	defer atomicfile.Flush(d.file, begin, end-begin)
	if d.state == nil {
		return nil
	}
	return d.state.Add(journal.Part{Number: n, Size: p.Size, CRC: p.Sum})
}

func (d *download) advance(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done += int64(n)
	if d.o.Progress != nil {
		d.o.Progress(d.done, d.object.Size)
	}
}

// newPiece returns the hash of a piece: for the checksum of all, or else for the state file.
func (d *download) newPiece() hash.Hash {
	if d.first.want.sum.Combines() {
		return checksum.New(d.first.want.sum.Name)
	}
	return crc32.NewIEEE()
}

// verify compares the file with the store's checksum: by the checksums of the
// pieces, or else by reading it.
func (d *download) verify() (string, error) {
	name, crc := d.first.want.sum.Name, uint64(0)
	if !d.first.want.sum.Combines() {
		return d.first.want.read(d.file)
	}
	for _, p := range d.pieces.Sums() {
		crc = checksum.Combine(name, crc, p.Sum, p.Size)
	}
	return d.first.want.compare(checksum.FromCRC(name, crc).Value)
}
