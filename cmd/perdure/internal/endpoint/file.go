package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// A File is a file, a pipe or a device.
type File struct {
	single

	Path string

	// OpenFile opens the file, CreateFile creates it, in a tree that is copied. If nil, Path is used.
	OpenFile   func() (*os.File, error)
	CreateFile func(transfer.Options) (*transfer.File, error)
}

func parseFile(_, text string) (Endpoint, error) { return &File{Path: text}, nil }

func (f *File) String() string { return f.Path }

// Where returns the path.
func (f *File) Where() string { return f.Path }

// Key returns the path.
func (f *File) Key() string { return f.Path }

// Base returns the last part of the path.
func (f *File) Base() string { return base(filepath.Base(f.Path)) }

// base returns name if it can be a file name, or else "".
func base(name string) string {
	if name == "." || name == ".." || strings.ContainsAny(name, `/\`) || name == string(filepath.Separator) {
		return ""
	}
	return name
}

// Named returns the file of that name in the path if that is a directory, or else nil.
func (f *File) Named(name string) Endpoint {
	info, err := os.Stat(f.Path)
	if err == nil && info.IsDir() || strings.HasSuffix(f.Path, "/") || strings.HasSuffix(f.Path, string(filepath.Separator)) {
		return &File{Path: filepath.Join(f.Path, name)}
	}
	return nil
}

// Is reports whether both paths lead to one regular file.
func (f *File) Is(other Endpoint) bool {
	o, ok := other.(*File)
	if !ok {
		return false
	}
	a, errA := os.Stat(f.Path)
	b, errB := os.Stat(o.Path)
	return errA == nil && errB == nil && a.Mode().IsRegular() && os.SameFile(a, b)
}

// Connect returns an error if the source cannot be read. It opens only regular files: opening and closing a pipe changes it.
func (f *File) Connect(_ context.Context, _ *Session, as Role) error {
	if as == Destination || f.OpenFile != nil {
		return nil
	}
	if _, _, err := inherited(f.Path); err != nil {
		return Explain("read", f.Path, err)
	}
	info, err := os.Stat(f.Path)
	switch {
	case err != nil:
	case info.IsDir():
		err = errDirectory
	case info.Mode().IsRegular():
		var opened *os.File
		if opened, err = os.Open(f.Path); err == nil {
			err = opened.Close()
		}
	}
	if err != nil {
		return Explain("read", f.Path, err)
	}
	return nil
}

var errDirectory = errors.New("is a directory: use -r to copy the files in it to s3://")

// Size returns the size of a regular file, or why the file is none.
func (f *File) Size() (int64, error) {
	info, err := os.Stat(f.Path)
	switch {
	case err != nil:
		return 0, errors.Unwrap(err)
	case info.IsDir():
		return 0, errDirectory
	case !info.Mode().IsRegular():
		return 0, errors.New("is neither a file nor a directory")
	}
	return info.Size(), nil
}

// Stat returns the size of the file.
func (f *File) Stat(context.Context) (Info, error) {
	info, err := os.Stat(f.Path)
	if err != nil {
		return Info{}, err
	}
	return Info{Size: info.Size()}, nil
}

// Reader opens the file, by OpenFile if that is not nil.
func (f *File) Reader() (*os.File, error) {
	if f.OpenFile != nil {
		return f.OpenFile()
	}
	return os.Open(f.Path)
}

// Open opens the file. If ctx ends, it stops waiting for a pipe's writer.
func (f *File) Open(ctx context.Context) (*Input, error) {
	opened, err := Await(ctx, f.Reader)
	if err != nil {
		return nil, err
	}
	info, err := opened.Stat()
	if err == nil && info.IsDir() {
		err = errDirectory
	}
	if err != nil {
		_ = opened.Close()
		return nil, err
	}
	in := &Input{ReadCloser: opened, Info: Info{Size: info.Size()}, File: opened, Modified: info.ModTime()}
	in.ContentType = mime.TypeByExtension(filepath.Ext(f.Path))
	if !info.Mode().IsRegular() || info.Size() == 0 && f.OpenFile == nil { // a pipe, a device, or perhaps one of the kernel's files
		in = &Input{ReadCloser: interruptible(ctx, opened), Info: Info{Size: -1}}
	}
	return in, nil
}

// Create creates the temporary file that replaces the file, or opens the device or pipe.
func (f *File) Create(ctx context.Context, c *Copy) (Target, error) {
	t := &fileTarget{copy: c, path: f.Path}
	o := t.options()
	if from, ok := c.From.(*File); ok && from.OpenFile == nil {
		if info, err := os.Stat(from.Path); err == nil {
			o.Perm = info.Mode().Perm()
		}
	}
	var err error
	if f.CreateFile != nil {
		t.file, err = f.CreateFile(o)
		return t, inPlace(c, t.path, err)
	}
	device, err := OpenSink(ctx, f.Path)
	if device != nil || err != nil {
		return &sink{copy: c, file: device, ours: true}, err
	}
	t.path = Resolve(f.Path)
	t.file, err = CreateFile(t.path, o)
	return t, inPlace(c, t.path, err)
}

// OpenSink opens path for writing if it leads to a device, a pipe, or a descriptor of this process. It returns nil if path
// is a regular file or does not exist.
func OpenSink(ctx context.Context, path string) (*os.File, error) {
	if f, ok, err := descriptor(path); ok {
		return f, err
	}
	f, err := Await(ctx, func() (*os.File, error) { return os.OpenFile(Resolve(path), os.O_WRONLY, 0) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no sink
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		return f, nil
	}
	return nil, errors.Join(err, f.Close())
}

// CreateFile is [transfer.Create]. The error says if the directory does not exist.
func CreateFile(path string, o transfer.Options) (*transfer.File, error) {
	f, err := transfer.Create(path, o)
	if errors.Is(err, fs.ErrNotExist) {
		err = noParent(path)
	}
	return f, err
}

// maxLinks is how many symbolic links are followed, as on Linux.
const maxLinks = 40

// Resolve returns the path of the file that path leads to through symbolic links. The file need not exist.
func Resolve(path string) string {
	if end, err := filepath.EvalSymlinks(path); err == nil {
		return end
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path // such as a link to a pipe in /proc, which has no path
	}
	for range maxLinks {
		next, err := os.Readlink(path)
		dir, failed := filepath.EvalSymlinks(filepath.Dir(path)) // whose parent is that of .. in next
		if err != nil || failed != nil {
			break
		}
		if !filepath.IsAbs(next) {
			next = filepath.Join(dir, next)
		}
		path = next
	}
	return path
}

// A fileTarget is a file that is not complete yet.
type fileTarget struct {
	copy *Copy
	path string
	file *transfer.File
	size int64    // in the last progress; -1 if it is unknown
	from *watched // the reader of the last Put
}

// large is the size in bytes from which on another run can resume a file in a tree.
const large = 16 << 20

// options returns the options of the file.
func (t *fileTarget) options() transfer.Options {
	c := t.copy
	g, identity := c.From.Getter()
	parallel := c.Session.Parallel
	if p, ok := g.(interface{ Parallel() int }); ok { // the store limits them itself
		parallel = p.Parallel()
	}
	if c.Size > 0 && c.Size < large {
		identity = ""
	}
	return transfer.Options{
		Source: identity, Parallel: parallel, NoResume: c.Session.NoResume, Want: c.Want,
		Progress: func(done, total int64) { t.size = total; c.progress(done, total) },
		Resumed:  func(r transfer.Resumption) { c.resumed(c.From, r) },
	}
}

func (t *fileTarget) File() *transfer.File { return t.file }

func (t *fileTarget) Put(ctx context.Context, in *Input) (Stored, error) {
	if err := t.file.Rewind(); err != nil {
		return Stored{}, err
	}
	t.from = watch(ctx, in, checksum.Sum{}, func(int64, int64) {})
	n, err := io.CopyBuffer(struct{ io.Writer }{t.file}, t.from, make([]byte, chunk))
	if err != nil {
		return Stored{}, err
	}
	t.copy.moved(in, "read")
	return Stored{Bytes: n}, nil
}

func (t *fileTarget) Commit() (Stored, error) {
	r, err := t.file.Commit()
	if errors.Is(err, checksum.ErrMismatch) {
		err = &ReadError{err}
	}
	verified := r.Verified
	if t.from != nil && t.copy.Want.IsZero() {
		verified = t.from.verified
	}
	return Stored{Bytes: r.Bytes, Checksum: r.Checksum.String(), Verified: verified}, inPlace(t.copy, t.path, err)
}

func (t *fileTarget) Close() (left string) {
	if path, bytes := t.file.Kept(); bytes > 0 {
		left = fmt.Sprintf("%s are kept in %s; run the same command to resume", part(bytes, t.size), path)
	}
	t.file.Close()
	return left
}

// WriteFile writes data to the file at path: after an error the file is unchanged. It writes directly to a device or a
// pipe.
func WriteFile(ctx context.Context, path string, data []byte) error {
	if err := writeFile(ctx, path, data); err != nil {
		return Explain("write", path, err)
	}
	return nil
}

func writeFile(ctx context.Context, path string, data []byte) error {
	sink, err := OpenSink(ctx, path)
	if err != nil {
		return err
	}
	if sink != nil {
		_, err := Await(ctx, func() (int, error) { return sink.Write(data) })
		return errors.Join(err, sink.Close())
	}
	file, err := CreateFile(Resolve(path), transfer.Options{NoResume: true})
	if err != nil {
		return Denied(err)
	}
	defer file.Close()
	if _, err = file.Write(data); err == nil {
		_, err = file.Commit()
	}
	return err
}
