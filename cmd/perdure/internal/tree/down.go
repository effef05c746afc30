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
	"time"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/copying"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// openDown connects the store as the source. The directory is created before the first copy.
func (r *run) openDown(ctx context.Context) error {
	if info, err := os.Stat(r.Dir); err == nil && !info.IsDir() {
		return endpoint.Explain("write", r.Dir, errors.New("is a file, not a directory"))
	}
	return r.connect(ctx)
}

// listDown sends the objects of the store.
func (r *run) listDown(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var l listing
	next, stop := iter.Pull2(l.ordered(r.list(ctx, r.From)))
	defer stop()
	defer r.outOfOrder(r.From, &l)
	first, err, ok := next()
	if err != nil {
		return r.unlisted(r.From, err)
	}
	if !ok {
		return r.nothing(ctx)
	}
	if err := r.begin(); err != nil {
		return endpoint.Explain("write", r.Dir, endpoint.Denied(err))
	}
	items := func(yield func(endpoint.Item, error) bool) {
		for i, err := first, error(nil); ok && yield(i, err); i, err, ok = next() {
		}
	}
	for i, err := range apart(items, r.fold) {
		if err != nil {
			return r.unlisted(r.From, err)
		}
		chosen := r.chosen(i)
		if i.Err == nil {
			i.Err = r.legal(i)
		}
		if chosen && !r.send(ctx, item{Item: i}) {
			break
		}
	}
	return nil
}

// nothing returns an error if the source is an object with nothing below it.
func (r *run) nothing(ctx context.Context) error {
	if r.AllowEmpty {
		return nil
	}
	if _, err := r.From.Stat(ctx); err == nil {
		return endpoint.Explain("read", r.From.Where(), errObject)
	}
	return nil
}

// unlisted returns the error of the listing of a store.
func (r *run) unlisted(store endpoint.Endpoint, err error) error {
	if err == nil {
		return nil
	}
	return endpoint.Explain("list", whereBelow(store), err)
}

// whereBelow returns the address of a directory for errors.
func whereBelow(place endpoint.Endpoint) string {
	if below, err := place.Join(""); err == nil {
		return below.Where()
	}
	return place.Where()
}

// begin creates the directory and opens it. A dry run leaves r.dir nil if it does not exist.
func (r *run) begin() (err error) {
	if r.DryRun {
		r.dir, err = transfer.OpenTree(r.Dir, true)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if err := os.MkdirAll(r.Dir, 0o777); err != nil { //nolint:gosec // the umask applies
		return err
	}
	if r.dir, err = transfer.OpenTree(r.Dir, false); err != nil {
		return err
	}
	folds, err := r.dir.Folds()
	if folds {
		r.fold = strings.ToLower
	}
	return err
}

// legal returns an error if an item cannot be a file of the directory.
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
		return errors.New("the file would be outside of the directory, or its name is reserved by the system")
	}
	if r.reserved(rel) {
		return errors.New("the file would be the manifest")
	}
	return nil
}

// reserved reports whether the file of that name below the destination is Reserved.
func (r *run) reserved(rel string) bool {
	return r.To == nil && r.Reserved != "" && samePath(filepath.Join(r.Dir, filepath.FromSlash(rel)), r.Reserved)
}

// samePath reports whether two paths, whose files need not exist, are those of one file.
func samePath(a, b string) bool {
	if filepath.Base(a) != filepath.Base(b) && !strings.EqualFold(filepath.Base(a), filepath.Base(b)) {
		return false
	}
	dir, errA := os.Stat(filepath.Dir(a))
	other, errB := os.Stat(filepath.Dir(b))
	return errA == nil && errB == nil && os.SameFile(dir, other)
}

// legal returns an error if a part of a key cannot be a file name.
func legal(part string, windows bool) error {
	switch {
	case part == "":
		return errors.New("the key has an empty part between slashes")
	case part == "." || part == "..":
		return fmt.Errorf("%q cannot be a file name", part)
	case strings.ContainsRune(part, 0):
		return errors.New("a file name cannot contain NUL")
	case !windows:
		return nil
	case strings.ContainsFunc(part, func(c rune) bool { return c < 32 || strings.ContainsRune(`<>:"|?*\`, c) }):
		return fmt.Errorf("%q has a character that file names on Windows cannot have", part)
	case strings.HasSuffix(part, ".") || strings.HasSuffix(part, " "):
		return fmt.Errorf("%q has an ending that file names on Windows cannot have", part)
	}
	return nil
}

// down copies one item, unless the directory has the file.
func (r *run) down(ctx context.Context, i item) (Entry, error) {
	path := filepath.Join(r.Dir, filepath.FromSlash(i.Rel))
	if i.Dir {
		if r.DryRun {
			return r.skipped(i, verdict{why: "directory"}), nil
		}
		if err := r.dir.Mkdir(strings.TrimSuffix(i.Rel, "/")); err != nil {
			return r.inTheWay(path, err)
		}
		return Entry{Action: Skipped}, nil
	}
	from, err := r.From.Join(i.Rel)
	if err != nil {
		return Entry{}, endpoint.Explain("read", from.Where(), err)
	}
	f, err := (*os.File)(nil), fs.ErrNotExist
	if r.dir != nil {
		f, err = r.dir.Open(i.Rel)
	}
	why := missing
	switch {
	case err == nil:
		v, failed := r.sameFile(ctx, f, i, from)
		_ = f.Close()
		if failed != nil {
			return Entry{}, failed
		}
		if v.same {
			return r.skipped(i, v), r.setTime(i, path, v.time)
		}
		why = v.why
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission): // a file that cannot be read is replaced
		return r.inTheWay(path, err)
	}
	if r.DryRun {
		return r.would(i, why), nil
	}
	to := &endpoint.File{Path: path, CreateFile: func(o transfer.Options) (*transfer.File, error) { return r.dir.Create(i.Rel, o) }}
	got, err := copying.One(ctx, r.copy(from, i), to)
	if errors.Is(err, transfer.ErrLink) {
		return r.inTheWay(path, err)
	}
	if err == nil {
		r.remember(i, got)
		err = r.arrived(i, path, from, got)
	}
	return r.copied(got, why, err)
}

// arrived gives a file that was copied the modification time of its object, if ModTimes is set, and remembers its checksum.
func (r *run) arrived(i item, path string, from endpoint.Endpoint, got endpoint.Stored) error {
	o, ok := from.(interface{ Received() (string, time.Time) })
	if !ok {
		return nil
	}
	etag, modified := o.Received()
	if err := r.setTime(i, path, modified); err != nil {
		return err
	}
	if info, err := os.Lstat(path); err == nil && got.Verified != "" && got.Verified != string(objects.VerifiedBySize) {
		got.ETag = etag
		learn(r.Sums.File(i.Rel, info), info, got)
	}
	return nil
}

// setTime gives a file the modification time of its object, if ModTimes is set and the time is known.
func (r *run) setTime(i item, path string, modified time.Time) error {
	if !r.Session.ModTimes || modified.IsZero() || r.DryRun {
		return nil
	}
	if err := r.dir.SetTime(i.Rel, modified); err != nil {
		return endpoint.Explain("set the time of", path, err)
	}
	return nil
}

// inTheWay returns the outcome of an item whose path is a link or a directory.
func (r *run) inTheWay(path string, err error) (Entry, error) {
	if errors.Is(err, transfer.ErrLink) && r.Links == Skip {
		return Entry{Action: Linked}, nil
	}
	if at, ok := errors.AsType[*fs.PathError](err); ok && errors.Is(err, transfer.ErrLink) {
		path = at.Path // which may be a directory above
	}
	return Entry{}, endpoint.Explain("write", path, err)
}
