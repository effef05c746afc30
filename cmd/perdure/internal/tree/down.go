package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/copying"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// openDown makes the place ready to be listed. The directory is made when there is something to copy.
func (r *run) openDown(ctx context.Context) error {
	if info, err := os.Stat(r.Dir); err == nil && !info.IsDir() {
		return endpoint.Explain("write", r.Dir, errors.New("is a file, want a directory"))
	}
	return r.connect(ctx, endpoint.Source)
}

// listDown sends what the place has.
func (r *run) listDown(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var l listing
	next, stop := iter.Pull2(l.ordered(r.list(ctx)))
	defer stop()
	defer r.outOfOrder(&l)
	first, err, ok := next()
	if err != nil {
		return r.unlisted(err)
	}
	if !ok {
		return r.nothing(ctx)
	}
	fold, err := r.begin()
	if err != nil {
		return endpoint.Explain("write", r.Dir, endpoint.Denied(err))
	}
	items := func(yield func(endpoint.Item, error) bool) {
		for i, err := first, error(nil); ok && yield(i, err); i, err, ok = next() {
		}
	}
	for i, err := range apart(items, fold) {
		if err != nil {
			return r.unlisted(err)
		}
		if i.Err == nil {
			i.Err = r.legal(i)
		}
		if !r.send(ctx, item{Item: i}) {
			break
		}
	}
	return nil
}

// nothing returns why there is nothing below the place, if it is known: the place itself may be what was meant.
func (r *run) nothing(ctx context.Context) error {
	if r.AllowEmpty {
		return nil
	}
	if _, err := r.Remote.Stat(ctx); err == nil {
		return endpoint.Explain("read", r.Remote.Where(), errObject)
	}
	return nil
}

func (r *run) unlisted(err error) error {
	if err == nil {
		return nil
	}
	return endpoint.Explain("list", whereBelow(r.Remote), err)
}

// whereBelow returns how errors name what is below a place.
func whereBelow(place endpoint.Endpoint) string {
	if below, err := place.Join(""); err == nil {
		return below.Where()
	}
	return place.Where()
}

// begin makes the directory, and returns what makes one of all names that are the same to its file system, if there is
// such a thing.
func (r *run) begin() (fold func(string) string, err error) {
	if err := os.MkdirAll(r.Dir, 0o777); err != nil { //nolint:gosec // less the umask, as for any new directory
		return nil, err
	}
	if r.dir, err = transfer.OpenTree(r.Dir, false); err != nil {
		return nil, err
	}
	folds, err := r.dir.Folds()
	if folds {
		fold = strings.ToLower
	}
	return fold, err
}

// legal returns why there can be no file of an item, of the names that the system allows and that are not ours to write.
func (r *run) legal(i endpoint.Item) error {
	rel := i.Rel
	if i.Dir {
		if rel = strings.TrimSuffix(rel, "/"); rel == "" {
			return nil
		}
	}
	for part := range strings.SplitSeq(rel, "/") {
		if err := legal(part, runtime.GOOS == "windows"); err != nil {
			return err
		}
	}
	if !filepath.IsLocal(filepath.FromSlash(rel)) {
		return errors.New("it would be outside of the directory, or is a name that the system keeps for itself")
	}
	if r.Reserved != "" && together(filepath.Join(r.Dir, filepath.FromSlash(rel)), r.Reserved) {
		return errors.New("its file would be the one of the manifest")
	}
	return nil
}

// together reports whether two paths, of which there may be no file yet, are of one file.
func together(a, b string) bool {
	if filepath.Base(a) != filepath.Base(b) && !strings.EqualFold(filepath.Base(a), filepath.Base(b)) {
		return false
	}
	dir, errA := os.Stat(filepath.Dir(a))
	other, errB := os.Stat(filepath.Dir(b))
	return errA == nil && errB == nil && os.SameFile(dir, other)
}

// legal returns what is wrong with a part of a key as the name of a file.
func legal(part string, windows bool) error {
	switch {
	case part == "":
		return errors.New("a part of it between slashes is empty")
	case part == "." || part == "..":
		return fmt.Errorf("%q is no name for a file", part)
	case strings.ContainsRune(part, 0):
		return errors.New("a name can't hold a NUL")
	case !windows:
		return nil
	case strings.ContainsFunc(part, func(c rune) bool { return c < 32 || strings.ContainsRune(`<>:"|?*\`, c) }):
		return fmt.Errorf("%q holds what a name can't on Windows", part)
	case strings.HasSuffix(part, ".") || strings.HasSuffix(part, " "):
		return fmt.Errorf("%q ends as a name can't on Windows", part)
	}
	return nil
}

// down copies one item, unless its file is there.
func (r *run) down(ctx context.Context, i item) (Entry, error) {
	path := filepath.Join(r.Dir, filepath.FromSlash(i.Rel))
	if i.Dir {
		if err := r.dir.Mkdir(strings.TrimSuffix(i.Rel, "/")); err != nil {
			return r.inTheWay(path, err)
		}
		return Entry{Action: Skipped}, nil
	}
	from, err := r.Remote.Join(i.Rel)
	if err != nil {
		return Entry{}, endpoint.Explain("read", from.Where(), err)
	}
	f, err := r.dir.Open(i.Rel)
	switch {
	case err == nil:
		sum, same := same(ctx, f, i.Item, from, true)
		_ = f.Close()
		if same {
			r.moved.Add(i.Size)
			return Entry{Bytes: i.Size, Checksum: sum, Action: Skipped}, nil
		}
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission): // one that may be written and not read is replaced
		return r.inTheWay(path, err)
	}
	to := &endpoint.File{Path: path, CreateFile: func(o transfer.Options) (*transfer.File, error) { return r.dir.Create(i.Rel, o) }}
	got, err := copying.One(ctx, r.copy(from, i), to)
	if errors.Is(err, transfer.ErrLink) {
		return r.inTheWay(path, err)
	}
	return r.copied(got, err)
}

// inTheWay returns what becomes of an item in whose place there is something that is no file.
func (r *run) inTheWay(path string, err error) (Entry, error) {
	if errors.Is(err, transfer.ErrLink) && r.Links == Skip {
		return Entry{Action: Linked}, nil
	}
	if at, ok := errors.AsType[*fs.PathError](err); ok && errors.Is(err, transfer.ErrLink) {
		path = at.Path // which may be a directory above
	}
	return Entry{}, endpoint.Explain("write", path, err)
}
