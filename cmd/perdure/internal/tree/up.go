package tree

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/aws/smithy-go"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/copying"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/internal/private"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// openUp opens the directory as the source.
func (r *run) openUp(context.Context) error {
	info, err := os.Stat(r.Dir)
	if err == nil && !info.IsDir() {
		err = errors.New("is a file, not a directory")
	}
	if err == nil {
		var d *os.File
		if d, err = os.Open(private.AsDir(r.Dir)); err == nil {
			_, err = d.Readdirnames(1)
			_ = d.Close()
		}
	}
	if err == nil || errors.Is(err, io.EOF) {
		r.dir, err = transfer.OpenTree(r.Dir, true)
	}
	if err != nil {
		return endpoint.Explain("read", r.Dir, err)
	}
	return nil
}

// listTo sends the items of the source, each with the item that the destination, a store, has of it. It sends no request
// before the first file of a directory.
func (r *run) listTo(ctx context.Context) error {
	var from listing
	source := Walked(ctx, r.Dir, r.Links)
	if r.From != nil {
		source = from.ordered(r.list(ctx, r.From))
		defer r.outOfOrder(r.From, &from)
	}
	var m *merge
	defer func() {
		if m != nil && m.stop != nil {
			m.stop()
			r.outOfOrder(r.To, &m.listing)
		}
	}()
	for i, err := range source {
		switch {
		case err != nil && r.From == nil:
			return endpoint.Explain("read", r.Dir, err)
		case err != nil:
			return r.unlisted(r.From, err)
		case !r.chosen(i):
			continue
		case m == nil:
			if m, err = r.existing(ctx); err != nil {
				return err
			}
		}
		next := item{Item: i}
		if i.Err == nil && !r.out.Load() {
			if err := m.fill(&next, from.disorder); err != nil {
				return r.unlisted(r.To, err)
			}
		}
		if !r.send(ctx, next) {
			break
		}
	}
	return nil
}

// fill sets what the destination has of an item. disorder says that the source is listed out of order.
func (m *merge) fill(next *item, disorder bool) error {
	existing, found, known, err := m.find(next.Rel)
	next.existing, next.exists, next.unknown = existing, found, !known || disorder
	return err
}

// existing returns the listing of the destination, a store. If the source is a directory, it connects the store first.
func (r *run) existing(ctx context.Context) (*merge, error) {
	if r.From == nil {
		if err := r.connect(ctx); err != nil {
			return nil, err
		}
	}
	m, err := newMerge(r.list(ctx, r.To))
	if r.unlistable(err) {
		return &merge{}, nil
	}
	return m, r.unlisted(r.To, err)
}

// unlistable reports whether the store denies the listing. Then all files are copied.
func (r *run) unlistable(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorCode() != "AccessDenied" {
		return false
	}
	if r.Warn != nil {
		r.Warn("Listing the destination is denied: all files are copied, even existing ones: " + endpoint.Explain("list", whereBelow(r.To), err).Error())
	}
	return true
}

// up copies one file, unless the store has it.
func (r *run) up(ctx context.Context, i item) (Entry, error) {
	path := filepath.Join(r.Dir, filepath.FromSlash(i.Rel))
	f, err := OpenFile(r.dir, i.Rel, path, r.Links)
	if err != nil {
		return Entry{}, endpoint.Explain("read", path, err)
	}
	to, err := r.To.Join(i.Rel)
	if err != nil {
		_ = f.Close()
		return Entry{}, endpoint.Explain("read", path, err)
	}
	from := &endpoint.File{Path: path, OpenFile: func() (*os.File, error) { return f, nil }}
	why := missing
	if i.exists || i.unknown {
		var v verdict
		if v = r.same(ctx, f, i, to); v.same {
			if !r.DryRun {
				to.Settle(ctx, from)
			}
			return r.skipped(i, v), f.Close()
		}
		why = v.why
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return Entry{}, errors.Join(endpoint.Explain("read", path, err), f.Close())
		}
	}
	if r.DryRun {
		return r.would(i, why), f.Close()
	}
	before, err := f.Stat()
	if err != nil {
		return Entry{}, errors.Join(endpoint.Explain("read", path, err), f.Close())
	}
	cached := r.Sums.File(i.Rel, before)
	got, err := copying.One(ctx, r.copy(from, i), to)
	if now, unknown := os.Stat(path); err == nil && unknown == nil {
		learn(cached, now, got)
	}
	return r.copied(got, why, err)
}

// OpenFile opens a file of a directory, whose whole path is path. It follows symbolic links only if links is Follow.
func OpenFile(dir *transfer.Tree, rel, path string, links Links) (*os.File, error) {
	if links != Follow {
		f, err := dir.Open(rel)
		if errors.Is(err, transfer.ErrLink) {
			err = errLink
		}
		return f, err
	}
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errSpecial
	}
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// copy returns the state of the copy of one item.
func (r *run) copy(from endpoint.Endpoint, i item) *endpoint.Copy {
	return &endpoint.Copy{Session: r.Session, From: from, Size: known(i.Size), Want: i.Want, Progress: r.meter(i)}
}

// known returns a size of a listing as a Copy has it, where 0 is unknown.
func known(size int64) int64 {
	if size < 0 {
		return 0
	}
	return max(size, 1)
}

// copied returns the Entry of a copied item, and counts it if it was copied without a checksum to compare.
func (r *run) copied(got endpoint.Stored, why string, err error) (Entry, error) {
	if err == nil && why == noSum {
		r.unsummed.Add(1)
	}
	return Entry{Bytes: got.Bytes, Checksum: got.Checksum, Action: Copied}, err
}

// untouched counts the bytes of an item that is not copied.
func (r *run) untouched(i item) {
	r.moved.Add(max(i.Size, 0))
	r.earlier.Add(max(i.Size, 0))
}

// skipped returns the Entry of an item that the destination has.
func (r *run) skipped(i item, v verdict) Entry {
	r.untouched(i)
	e := Entry{Bytes: max(i.Size, 0), Checksum: v.sum, Action: Skipped}
	if r.DryRun {
		e.Action, e.Reason = WouldSkip, v.why
	}
	return e
}

// would returns the Entry of an item that would be copied.
func (r *run) would(i item, why string) Entry {
	r.untouched(i)
	if why == noSum {
		r.unsummed.Add(1)
	}
	return Entry{Bytes: max(i.Size, 0), Action: WouldCopy, Reason: why}
}
