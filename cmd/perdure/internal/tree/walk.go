package tree

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/internal/private"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// Reasons why a file is not copied.
var (
	errLink    = errors.New("is a symbolic link: use --links follow to copy its target, or --links skip to skip it")
	errLoop    = errors.New("is a symbolic link to a directory that contains it")
	errSpecial = errors.New("is neither a file nor a directory")
)

// A walk walks a directory in the byte order of the keys of its files.
type walk struct {
	ctx   context.Context //nolint:containedctx // of one copy
	links Links
	yield func(endpoint.Item) bool
	above []fs.FileInfo // the current directory and its parents
	state fs.FileInfo   // the state directory; nil if it does not exist
}

// ofState matches the paths, below the state directory, of the files that perdure keeps there. They are not copied: they
// change meanwhile, and are of no use elsewhere.
var ofState = regexp.MustCompile(`^(cells(\..*)?|\.cells-.*|places\.\d+|(uploads|checksums|urls)/\w{26,32}\.(json|parts|sums|jsonl|draft))$`)

// An entry is an entry of a directory.
type entry struct {
	name string
	key  string // sort key
	mode fs.FileMode
}

// files calls yield with each file below dir, until yield returns false.
func files(ctx context.Context, dir string, links Links, yield func(endpoint.Item) bool) error {
	w := &walk{ctx: ctx, links: links, yield: yield}
	if state, err := private.StateDir(); err == nil {
		w.state, _ = os.Stat(state) // an error means nil
	}
	_, err := w.in(dir, "")
	return err
}

// Walked yields each file below dir, in the byte order of Rel.
func Walked(ctx context.Context, dir string, links Links) iter.Seq2[endpoint.Item, error] {
	return func(yield func(endpoint.Item, error) bool) {
		if err := files(ctx, dir, links, func(i endpoint.Item) bool { return yield(i, nil) }); err != nil {
			yield(endpoint.Item{}, err)
		}
	}
}

// in walks one directory. It reports whether to continue. The error is that of the directory itself.
func (w *walk) in(dir, rel string) (bool, error) {
	self, err := os.Stat(dir)
	if err != nil {
		return true, err
	}
	if slices.ContainsFunc(w.above, func(info fs.FileInfo) bool { return os.SameFile(info, self) }) {
		return true, errLoop
	}
	w.above = append(w.above, self)
	defer func() { w.above = w.above[:len(w.above)-1] }()
	entries, err := w.read(dir)
	if err != nil {
		return true, err
	}
	for _, e := range entries {
		if w.ctx.Err() != nil || !w.one(dir, rel, e) {
			return false, nil
		}
	}
	return true, nil
}

// read returns the entries of a directory, sorted by the keys of the files in them.
func (w *walk) read(dir string) ([]entry, error) {
	f, err := os.Open(private.AsDir(dir)) // dir may have become a FIFO
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var entries []entry
	for {
		some, err := f.ReadDir(1024)
		for _, d := range some {
			e := entry{d.Name(), d.Name(), d.Type()}
			if e.mode&fs.ModeSymlink != 0 && w.links == Follow {
				if info, err := os.Stat(filepath.Join(dir, e.name)); err == nil {
					e.mode = fs.ModeSymlink | info.Mode().Type()
				}
			}
			if e.mode.IsDir() {
				e.key += "/"
			}
			if !e.mode.IsDir() || !transfer.IsStaging(dir, e.name) {
				entries = append(entries, e)
			}
		}
		if err != nil || len(some) == 0 {
			slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.key, b.key) })
			if len(some) == 0 { // io.EOF
				err = nil
			}
			return entries, err
		}
	}
}

// one yields an entry, or all files below it. It reports whether to continue.
func (w *walk) one(dir, rel string, e entry) bool {
	full, item := filepath.Join(dir, e.name), endpoint.Item{Rel: path.Join(rel, e.name)}
	if rel == "" {
		item.Rel = e.name
	}
	isLink := e.mode&fs.ModeSymlink != 0
	switch {
	case ofState.MatchString(w.inState(item.Rel)):
		return true
	case isLink && w.links == Skip:
		item.Link = true
	case isLink && w.links != Follow:
		item.Err, item.Dir = errLink, !leadsToFile(full)
	case e.mode.IsDir():
		more, err := w.in(full, item.Rel)
		if err == nil || !more {
			return more
		}
		item.Err, item.Dir = err, true // the walk continues with the next entry
	default:
		item.Size, item.Err = sizeOf(full, isLink)
		item.Dir = item.Err != nil && isLink && !leadsToFile(full)
	}
	return w.yield(item)
}

// inState returns the path of a file below the state directory; "" if the current directory is not in it.
func (w *walk) inState(rel string) string {
	at := slices.IndexFunc(w.above, func(dir fs.FileInfo) bool { return os.SameFile(dir, w.state) })
	if at < 0 {
		return ""
	}
	return path.Join(strings.Split(rel, "/")[at:]...)
}

// leadsToFile reports whether the target of a link is known not to be a directory.
func leadsToFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}

// sizeOf returns the size of a regular file.
func sizeOf(path string, follow bool) (int64, error) {
	stat := os.Lstat
	if follow {
		stat = os.Stat
	}
	info, err := stat(path)
	switch {
	case err != nil:
		return 0, err
	case !info.Mode().IsRegular():
		return 0, errSpecial
	}
	return info.Size(), nil
}
