package tree

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/copying"
)

// prepareUpload finds the files, and what of them is in the bucket. Nothing is
// asked of the store before there is something to copy.
func (r *run) prepareUpload(ctx context.Context) error {
	info, err := os.Stat(r.Dir)
	if err == nil && !info.IsDir() {
		err = errors.New("is a file, want a directory")
	}
	if err == nil {
		_, err = os.ReadDir(r.Dir)
	}
	if err != nil {
		return copying.Explain("read", r.Dir, err)
	}
	if err := r.walk(ctx); err != nil {
		return err
	}
	if r.store, err = r.Link.Connect(ctx, "s3_upload", "upload_to_s3"); err != nil {
		return err
	}
	if len(r.items) == 0 {
		return nil
	}
	return r.list(ctx)
}

// An object is what a listing says of one.
type object struct {
	size int64
	etag string
}

// list finds out what the bucket has. Whoever may write there but not list gets
// everything copied.
func (r *run) list(ctx context.Context) error {
	r.there = make(map[string]object)
	for o, err := range r.store.List(ctx, r.Bucket, r.Prefix) {
		if isDenied(err) {
			if r.Warn != nil {
				r.Warn("What is there already can't be listed, so everything is copied: " + r.store.Explain("list", r.Bucket, r.Prefix, err).Error())
			}
			clear(r.there)
			return nil
		}
		if err != nil {
			return r.store.Explain("list", r.Bucket, r.Prefix, err)
		}
		r.there[o.Key] = object{o.Size, o.ETag}
	}
	return nil
}

// Why a file is not copied.
var (
	errLink    = errors.New("a link to a directory is not followed")
	errSpecial = errors.New("neither a file nor a directory")
	errUTF8    = errors.New("its name is not UTF-8, as that of an object has to be")
	errLong    = errors.New("its key would be longer than the 1024 bytes that a store takes")
)

// walk finds the files below the directory.
func (r *run) walk(ctx context.Context) error {
	root, err := filepath.EvalSymlinks(r.Dir) // a walk would not follow it
	if err != nil {
		return copying.Explain("read", r.Dir, err)
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil && d.IsDir() {
			return nil
		}
		rel, _ := filepath.Rel(root, path) // below it
		path = filepath.Join(r.Dir, rel)
		i := item{path: path}
		if err != nil { // of a directory: what else is there goes on
			i.err = copying.Explain("read", path, err)
			r.items = append(r.items, i)
			return nil
		}
		i.key = r.Prefix + filepath.ToSlash(rel)
		if i.size, err = uploadable(path, i.key); err != nil {
			i.key = strings.ToValidUTF8(i.key, "\uFFFD")
			i.err = copying.Explain("read", path, err)
		}
		r.items = append(r.items, i)
		return nil
	})
}

// uploadable returns the size of a file, or why there can't be an object of it.
func uploadable(path, key string) (int64, error) {
	info, err := os.Stat(path) // a link to a file is as good as that
	switch {
	case err != nil:
		return 0, err
	case info.IsDir():
		return 0, errLink
	case !info.Mode().IsRegular():
		return 0, errSpecial
	case !utf8.ValidString(key):
		return 0, errUTF8
	case len(key) > 1024:
		return 0, errLong
	}
	return info.Size(), nil
}

// upload copies one file, unless the bucket has it.
func (r *run) upload(ctx context.Context, i item) (Entry, error) {
	f, err := os.Open(i.path)
	if err != nil {
		return Entry{}, copying.Explain("read", i.path, err)
	}
	defer func() { _ = f.Close() }()
	if o, ok := r.there[i.key]; ok {
		i.etag = o.etag
		if sum, same := r.same(ctx, f, i, o.size); same {
			r.moved.Add(i.size)
			return Entry{Bytes: i.size, Checksum: sum, Action: Skipped}, nil
		}
	}
	put, err := r.store.PutFile(ctx, f, i.path, r.Bucket, i.key, r.meter())
	if broken, ours := errors.AsType[*fs.PathError](err); ours && broken.Path == i.path {
		return Entry{}, copying.Explain("read", i.path, err)
	}
	if err != nil {
		return Entry{}, r.store.Explain("write", r.Bucket, i.key, err)
	}
	return Entry{Bytes: put.Size, Checksum: put.Checksum, Action: Copied}, nil
}
