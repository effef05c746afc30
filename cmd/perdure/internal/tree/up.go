package tree

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"

	"github.com/aws/smithy-go"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/copying"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// openUp opens the directory as the source.
func (r *run) openUp(context.Context) error {
	info, err := os.Stat(r.Dir)
	if err == nil && !info.IsDir() {
		err = errors.New("is a file: -r needs a directory")
	}
	if err == nil {
		var d *os.File
		if d, err = os.Open(r.Dir); err == nil {
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

// walked yields the files of the directory.
func (r *run) walked(ctx context.Context) iter.Seq2[endpoint.Item, error] {
	return func(yield func(endpoint.Item, error) bool) {
		if err := files(ctx, r.Dir, r.Links, func(i endpoint.Item) bool { return yield(i, nil) }); err != nil {
			yield(endpoint.Item{}, err)
		}
	}
}

// listTo sends the items of the source, each with the item that the destination, a store, has of it. It sends no request
// before the first file of a directory.
func (r *run) listTo(ctx context.Context) error {
	var from listing
	source := r.walked(ctx)
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
		case m == nil:
			if m, err = r.existing(ctx); err != nil {
				return err
			}
		}
		next := item{Item: i}
		if i.Err == nil && !r.out.Load() {
			var known bool
			if next.existing, next.exists, known, err = m.find(i.Rel); err != nil {
				return r.unlisted(r.To, err)
			}
			next.unknown = !known || from.disorder
		}
		if !r.send(ctx, next) {
			break
		}
	}
	return nil
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
	f, err := r.openFile(i.Rel, path)
	if err != nil {
		return Entry{}, endpoint.Explain("read", path, err)
	}
	to, err := r.To.Join(i.Rel)
	if err != nil {
		_ = f.Close()
		return Entry{}, endpoint.Explain("read", path, err)
	}
	from := &endpoint.File{Path: path, OpenFile: func() (*os.File, error) { return f, nil }}
	if i.exists || i.unknown {
		if sum, same := same(ctx, f, i.existing, to, i.exists); same {
			to.Settle(ctx, from)
			r.moved.Add(i.Size)
			return Entry{Bytes: i.Size, Checksum: sum, Action: Skipped}, f.Close()
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return Entry{}, errors.Join(endpoint.Explain("read", path, err), f.Close())
		}
	}
	return r.copied(copying.One(ctx, r.copy(from, i), to))
}

// openFile opens a file of the directory. It follows symbolic links only if Links is Follow.
func (r *run) openFile(rel, path string) (*os.File, error) {
	if r.Links != Follow {
		f, err := r.dir.Open(rel)
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
	return &endpoint.Copy{Session: r.Session, From: from, Size: max(i.Size, 1), Progress: r.meter()}
}

// copied returns the Entry of a copied item.
func (r *run) copied(got endpoint.Stored, err error) (Entry, error) {
	return Entry{Bytes: got.Bytes, Checksum: got.Checksum, Action: Copied}, err
}

// same reports whether a file and an object are the same, and by which checksum. It compares the sizes first. Then it
// compares the checksum in the listing, and, if that is missing or differs (the MD5 of an encrypted object does), the
// checksum of the object, which takes a request. If neither matches, the two are not the same.
func same(ctx context.Context, f *os.File, listed endpoint.Item, place endpoint.Endpoint, isListed bool) (string, bool) {
	info, err := f.Stat()
	if err != nil || isListed && info.Size() != listed.Size {
		return "", false
	}
	if isListed && has(ctx, f, listed.Sum, info.Size()) {
		return listed.Sum.String(), true
	}
	known, err := place.Stat(ctx)
	if err != nil || known.Size != info.Size() || !has(ctx, f, known.Checksum, info.Size()) { // the copy reports the error
		return "", false
	}
	return known.Checksum.String(), true
}

// has reports whether a file has the checksum.
func has(ctx context.Context, f *os.File, sum checksum.Sum, size int64) bool {
	if sum.IsZero() {
		return false
	}
	h := sum.New()
	buffer := make([]byte, min(256<<10, size+1)) // one more, to see the end
	for at := int64(0); ctx.Err() == nil; {
		n, err := f.ReadAt(buffer, at)
		_, _ = h.Write(buffer[:n])
		at += int64(n)
		if errors.Is(err, io.EOF) {
			return sum.Check(h.Sum(nil)) == nil
		}
		if err != nil {
			return false
		}
	}
	return false
}
