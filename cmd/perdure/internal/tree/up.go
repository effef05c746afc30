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
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// openUp makes the directory ready to be read.
func (r *run) openUp(context.Context) error {
	info, err := os.Stat(r.Dir)
	if err == nil && !info.IsDir() {
		err = errors.New("is a file, want a directory")
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

// listUp sends the files, with what of them is there. Nothing is requested before there is something to copy.
func (r *run) listUp(ctx context.Context) (failed error) {
	var m *merge
	listing := false // what failed is the listing
	defer func() {
		if m != nil && m.stop != nil {
			m.stop()
			r.outOfOrder(&m.listing)
		}
	}()
	err := files(ctx, r.Dir, r.Links, func(i endpoint.Item) bool {
		if m == nil {
			if failed = r.connect(ctx, endpoint.Destination); failed != nil {
				return false
			}
			listing = true
			if m, failed = newMerge(r.list(ctx)); r.unlistable(failed) {
				m, failed = &merge{}, nil
			}
			if failed != nil {
				return false
			}
		}
		next := item{Item: i}
		if i.Err == nil && !r.out.Load() {
			there, found, known, err := m.find(i.Rel)
			if failed = err; err != nil {
				return false
			}
			next.there, next.isThere, next.unknown = there, found, !known
		}
		return r.send(ctx, next)
	})
	switch {
	case failed != nil && listing:
		return r.unlisted(failed)
	case failed != nil:
		return failed
	case err != nil:
		return endpoint.Explain("read", r.Dir, err)
	}
	return nil
}

// unlistable reports whether a listing is not allowed. Whoever may write but not list has everything copied.
func (r *run) unlistable(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorCode() != "AccessDenied" {
		return false
	}
	if r.Warn != nil {
		r.Warn("What is there already can't be listed, so everything is copied: " + endpoint.Explain("list", whereBelow(r.Remote), err).Error())
	}
	return true
}

// up copies one file, unless it is there.
func (r *run) up(ctx context.Context, i item) (Entry, error) {
	path := filepath.Join(r.Dir, filepath.FromSlash(i.Rel))
	f, err := r.openFile(i.Rel, path)
	if err != nil {
		return Entry{}, endpoint.Explain("read", path, err)
	}
	to, err := r.Remote.Join(i.Rel)
	if err != nil {
		_ = f.Close()
		return Entry{}, endpoint.Explain("read", path, err)
	}
	from := &endpoint.File{Path: path, OpenFile: func() (*os.File, error) { return f, nil }}
	if i.isThere || i.unknown {
		if sum, same := same(ctx, f, i.there, to, i.isThere); same {
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

// openFile opens a file of the directory: through no link, unless those are followed.
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

// copy returns what describes the copy of one item.
func (r *run) copy(from endpoint.Endpoint, i item) *endpoint.Copy {
	return &endpoint.Copy{Session: r.Session, From: from, Size: max(i.Size, 1), Progress: r.meter()}
}

func (r *run) copied(got endpoint.Stored, err error) (Entry, error) {
	return Entry{Bytes: got.Bytes, Checksum: got.Checksum, Action: Copied}, err
}

// same reports whether a file and what is at a place are the same, and by which checksum. The size decides first, without
// any reading. Then comes the checksum that a listing has, and if there is none, or another, as the MD5 of what is
// encrypted by a key of the owner's, the one that the place knows, which takes a request. When neither says that they are
// the same they are not.
func same(ctx context.Context, f *os.File, listed endpoint.Item, place endpoint.Endpoint, isListed bool) (string, bool) {
	info, err := f.Stat()
	if err != nil || isListed && info.Size() != listed.Size {
		return "", false
	}
	if isListed && has(ctx, f, listed.Sum, info.Size()) {
		return listed.Sum.String(), true
	}
	known, err := place.Stat(ctx)
	if err != nil || known.Size != info.Size() || !has(ctx, f, known.Checksum, info.Size()) { // copying will tell what is wrong
		return "", false
	}
	return known.Checksum.String(), true
}

// has reports whether a file has that checksum.
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
