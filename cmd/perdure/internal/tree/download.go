package tree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/copying"
)

// prepareDownload lists the objects and finds the file for each.
func (r *run) prepareDownload(ctx context.Context) error {
	if info, err := os.Stat(r.Dir); err == nil && !info.IsDir() {
		return copying.Explain("write", r.Dir, errors.New("is a file, want a directory"))
	}
	var err error
	if r.store, err = r.Link.Connect(ctx, "s3_download", "download_from_s3"); err != nil {
		return err
	}
	for o, err := range r.store.List(ctx, r.Bucket, r.Prefix) {
		if err != nil {
			return r.store.Explain("list", r.Bucket, r.Prefix, err)
		}
		i := item{key: o.Key, size: o.Size, etag: o.ETag}
		i.path, i.marker, i.err = fileFor(r.Dir, strings.TrimPrefix(o.Key, r.Prefix), o.Size)
		r.items = append(r.items, i)
	}
	if len(r.items) == 0 {
		return nil
	}
	if err := os.MkdirAll(r.Dir, 0o777); err != nil { //nolint:gosec // less the umask, as for any new directory
		return copying.Explain("write", r.Dir, err)
	}
	folds, err := folds(r.Dir)
	if err != nil {
		return copying.Explain("write", r.Dir, err)
	}
	clashes(r.items, folds)
	r.reserve(folds)
	for n, i := range r.items {
		if i.err != nil {
			r.items[n].path = ""
			r.items[n].err = r.store.Explain("refuse", r.Bucket, i.key, i.err)
		}
	}
	return nil
}

// reserve gives the item an error whose file would be the one that none becomes.
func (r *run) reserve(fold func(string) string) {
	if r.Reserved == "" {
		return
	}
	base := fold(filepath.Base(r.Reserved))
	for n, i := range r.items {
		if i.err == nil && fold(filepath.Base(i.path)) == base && together(i.path, r.Reserved) {
			r.items[n].err = errors.New("its file would be the one of the manifest")
		}
	}
}

// together reports whether two files, which there may not be yet, are in one
// directory.
func together(a, b string) bool {
	dir, errA := os.Stat(filepath.Dir(a))
	other, errB := os.Stat(filepath.Dir(b))
	return errA == nil && errB == nil && os.SameFile(dir, other)
}

// fileFor returns the path of the file for a key, of which rel comes after the
// prefix; or whether that is the marker of a directory, as some programs make
// them; or why there must be no such file.
func fileFor(dir, rel string, size int64) (path string, marker bool, err error) {
	if size == 0 && (rel == "" || strings.HasSuffix(rel, "/")) {
		marker, rel = true, strings.TrimSuffix(rel, "/")
		if rel == "" {
			return dir, true, nil
		}
	}
	for part := range strings.SplitSeq(rel, "/") {
		if err := legal(part, runtime.GOOS == "windows"); err != nil {
			return "", false, err
		}
	}
	local := filepath.FromSlash(rel)
	if !filepath.IsLocal(local) {
		return "", false, errors.New("it would be outside of the directory, or is a name that the system keeps for itself")
	}
	return filepath.Join(dir, local), marker, nil
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

// folds returns what makes one of all names that are the same to the file system
// of a directory: it may not tell capitals from small letters.
func folds(dir string) (func(string) string, error) {
	f, err := os.CreateTemp(dir, ".perdure-case-*.part")
	if err != nil {
		return nil, err
	}
	name := f.Name()
	defer func() { _ = os.Remove(name) }()
	_ = f.Close()
	upper := filepath.Join(dir, strings.ToUpper(filepath.Base(name)))
	if _, err := os.Lstat(upper); err == nil {
		return strings.ToLower, nil
	}
	return func(name string) string { return name }, nil
}

// clashes gives the items an error that would become one and the same file, and
// those whose file would have to be a directory as well.
func clashes(items []item, fold func(string) string) {
	files := make(map[string]int, len(items)) // the first item of each file
	for n := range items {
		i := &items[n]
		if i.err != nil || i.marker {
			continue
		}
		first, taken := files[fold(i.path)]
		if !taken {
			files[fold(i.path)] = n
			continue
		}
		i.err = fmt.Errorf("it would be the same file as that of %s", items[first].key)
		items[first].err = cmp.Or(items[first].err, fmt.Errorf("it would be the same file as that of %s", i.key))
	}
	for _, i := range items {
		if i.path == "" {
			continue
		}
		above := fold(i.path)
		if !i.marker {
			above = filepath.Dir(above)
		}
		for ; above != filepath.Dir(above); above = filepath.Dir(above) {
			if n, taken := files[above]; taken && items[n].err == nil {
				items[n].err = fmt.Errorf("its file would have to be a directory as well, for %s", i.key)
			}
		}
	}
}

// download copies one object, unless the file is there.
func (r *run) download(ctx context.Context, i item) (Entry, error) {
	if i.marker {
		if err := os.MkdirAll(i.path, 0o777); err != nil { //nolint:gosec // as above
			return Entry{}, copying.Explain("write", i.path, err)
		}
		return Entry{Action: Skipped}, nil
	}
	info, err := os.Stat(i.path)
	if err == nil && !info.IsDir() && !info.Mode().IsRegular() { // to open a pipe would be to wait
		return Entry{}, copying.Explain("write", i.path, errSpecial)
	}
	if f, err := os.Open(i.path); err == nil {
		sum, same := r.same(ctx, f, i, i.size)
		_ = f.Close()
		if same {
			r.moved.Add(i.size)
			return Entry{Bytes: i.size, Checksum: sum, Action: Skipped}, nil
		}
	}
	if err := os.MkdirAll(filepath.Dir(i.path), 0o777); err != nil { //nolint:gosec // as above
		return Entry{}, copying.Explain("write", i.path, err)
	}
	o, err := r.fetch(ctx, i)
	if err != nil {
		return Entry{}, r.explain(i, err)
	}
	e := Entry{Bytes: o.Size, Checksum: o.Checksum, Action: Copied}
	if sum, err := checksum.Parse("md5:" + strings.Trim(o.ETag, `"`)); err == nil && o.Verified == "md5" {
		e.Checksum = sum.String()
	}
	return e, nil
}

// large is the size in bytes from which an object comes in pieces, so that
// another run may go on with them.
const large = 16 << 20

func (r *run) fetch(ctx context.Context, i item) (objects.Object, error) {
	if i.size < large {
		return r.store.GetFile(ctx, r.Bucket, i.key, i.path, objects.GetOptions{Progress: r.meter()})
	}
	return r.store.PullFile(ctx, r.Bucket, i.key, i.path, r.meter())
}

// explain tells a failure of the file from one of the object.
func (r *run) explain(i item, err error) error {
	_, path := errors.AsType[*os.PathError](err)
	_, link := errors.AsType[*os.LinkError](err)
	if path || link {
		return copying.Explain("write", i.path, err)
	}
	return r.store.Explain("read", r.Bucket, i.key, err)
}
