package transfer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/private"
	"github.com/seed-0f2c7998/perdure/internal/record"
)

// A File is an incomplete file. Commit gives it its name when it is complete, verified and flushed to disk. It is for
// one goroutine.
type File struct {
	dir  *dir
	name string
	o    Options
	old  fs.FileInfo // the existing file of that name, or nil

	staging             *staging
	partName, stateName string
	out                 output
	state               *record.Log // nil if no later process can resume
	resumed             int64       // bytes kept from an earlier process
	found               Resumption  // of an earlier process, if Resumed has not been called yet
	complete            *Result     // nil until all bytes are written and verified
}

// Create opens a file that will replace the one at path, which may not be a link. It follows links in the directory's
// path. Bytes that an earlier process has left of the same Source are read once, and kept if they are unchanged. The
// caller must close the File.
func Create(path string, o Options) (*File, error) {
	above, name := filepath.Dir(path), filepath.Base(path)
	root, err := private.OpenRoot(above)
	if err != nil {
		return nil, err
	}
	return (&dir{root: root, path: above}).create(name, o)
}

// create is Create for a name in the directory. It releases the directory after an error.
func (d *dir) create(name string, o Options) (*File, error) {
	o.Parallel = cmp.Or(o.Parallel, 4)
	o.Piece = cmp.Or(o.Piece, 8<<20)
	o.Perm = cmp.Or(o.Perm, 0o666)
	f := &File{dir: d, name: name, o: o}
	f.partName, f.stateName = partNames(name)
	if err := f.open(); err != nil {
		f.release(true)
		return nil, err
	}
	return f, nil
}

// open opens the part and, if an earlier process has left one, its state, and keeps what is unchanged.
func (f *File) open() (err error) {
	if f.old, err = f.dir.target(f.name); err != nil {
		return err
	}
	if f.staging, err = f.dir.stage(f.partName); err != nil {
		return err
	}
	f.out.progress, f.out.want = f.o.Progress, f.o.Want
	f.out.begin(Version{Size: -1}, "")
	if err = f.makePart(); !errors.Is(err, fs.ErrExist) {
		return err
	}
	root := f.staging.root
	if f.resumable() { // an earlier process has left it
		part, err := private.Open(root, f.partName, os.O_RDWR, private.File)
		state, unread := private.Open(root, f.stateName, os.O_RDWR, private.File)
		if err == nil && unread == nil {
			f.out.part, f.state = part, record.NewLog(state, maxState)
			return f.loadState()
		}
		_, _ = part.Close(), state.Close() // of nil fails
	}
	_, _ = root.Remove(f.partName), root.Remove(f.stateName)
	return f.makePart()
}

// makePart creates the part, which in the end gets the permissions of the file that it replaces.
func (f *File) makePart() (err error) {
	perm := f.o.Perm
	if f.old != nil {
		perm = 0o600
	}
	f.out.part, err = f.staging.root.OpenFile(f.partName, os.O_RDWR|os.O_CREATE|os.O_EXCL|private.AtOnce, perm)
	return err
}

// resumable reports whether parts are left to, and taken from, other processes.
func (f *File) resumable() bool { return f.o.Source != "" && !f.o.NoResume && private.CanLock }

// minState is the least size of a resource with a state file in bytes: a smaller one is cheaper to fetch again.
const minState = 64 << 10

// loadState keeps what an earlier process has left, as far as it can be trusted.
func (f *File) loadState() error {
	text, _ := f.state.Load() // after an error, what was read
	h, pieces, ok := parseState(text)
	number, err := private.Inode(f.out.part)
	switch {
	case !bytes.Contains(text, []byte("\n")): // the earlier process was killed before it had recorded anything
	case !ok || checksum.New(h.Algorithm) == nil:
		f.found.Reason = "the state of the earlier run is damaged, or of another version of perdure"
	case err != nil || h.Inode != number:
		f.found.Reason = "the partial file is not that of the earlier run"
	case h.Source != f.o.Source:
		f.found.Reason = "the partial file belongs to another source"
	default:
		f.out.begin(h.Version, h.Algorithm)
		if f.resumed, err = f.out.reread(pieces); err != nil {
			return err
		}
		if f.found.Bytes = f.resumed; f.resumed > 0 {
			f.out.record = f.state.Append
			return nil
		}
		if len(pieces) > 0 { // else it was killed before it had recorded a piece
			f.found.Reason = "all bytes of the earlier run have changed"
		}
	}
	return f.Rewind()
}

// Rewind discards all bytes.
func (f *File) Rewind() error { return f.begin(Version{Size: -1}) }

// begin starts from scratch with a version. The bytes of another one stay in the part until they are overwritten, or
// cut off by install.
func (f *File) begin(v Version) error {
	f.resumed, f.complete = 0, nil
	f.out.begin(v, "")
	if f.state != nil {
		if err := f.state.Clear(); err != nil {
			return err
		}
	}
	if v.Size < minState { // which fits on every file system
		return nil
	}
	if limit := capacity(f.out.part); v.Size > limit {
		return &SizeError{v.Size, limit, "the file system"}
	}
	if !f.resumable() || !v.Resumable() {
		return nil
	}
	number, err := private.Inode(f.out.part)
	if err != nil {
		return err
	}
	if f.state == nil {
		_ = f.staging.root.Remove(f.stateName) // left by a process that was killed after its rename
		file, err := private.Make(f.staging.root, f.stateName)
		if err != nil {
			return err
		}
		f.state = record.NewLog(file, maxState)
	}
	f.out.record = f.state.Append
	return f.state.Begin(head{stateFormat, f.o.Source, number, f.out.algorithm, v})
}

// Fetch fetches the missing bytes. After an error it may be called again, and resumes. A resource that changes, or
// whose bytes do not match the source's checksum, is fetched from scratch up to twice.
//
// The error is the Getter's, a [*WriteError], a [*SizeError], or one that wraps [ErrChanged] or
// [checksum.ErrMismatch].
func (f *File) Fetch(ctx context.Context, g Getter) error {
	const maxRestarts = 2
	for restarts := 0; ; restarts++ {
		err := fetch(ctx, f, g)
		if !errors.Is(err, ErrChanged) && !errors.Is(err, checksum.ErrMismatch) {
			return err
		}
		if failed := f.Rewind(); failed != nil {
			return &WriteError{failed}
		}
		_, unwanted := errors.AsType[checksum.UnwantedError](err)
		if restarts == maxRestarts || ctx.Err() != nil || unwanted {
			return err
		}
	}
}

// Write appends bytes that do not come from a Getter. Do not mix Write and Fetch.
func (f *File) Write(p []byte) (int, error) { return f.out.stream.Write(p) }

// Content returns a reader of the written bytes.
func (f *File) Content() io.Reader { return io.NewSectionReader(f.out.part, 0, f.out.bytes) }

// Commit flushes the file to disk and gives it its name. The named file is the verified one, or Commit returns an
// error.
func (f *File) Commit() (Result, error) {
	if f.complete == nil {
		if err := f.finish(); err != nil {
			return Result{}, err
		}
	}
	if err := f.install(f.out.bytes); err != nil {
		return *f.complete, &WriteError{err}
	}
	f.release(true)
	return *f.complete, nil
}

// finish compares all bytes with the checksum of their version and with the wanted one. It may be called once, after the
// last write.
func (f *File) finish() error {
	crc, err := f.out.whole()
	if err != nil {
		return err
	}
	v, want, sum := f.out.version, f.o.Want, crc
	by, err := v.Checksum.Verify(f.out.computed(v.Checksum, crc), v.Inconclusive)
	switch {
	case err != nil:
		return err
	case !want.IsZero():
		sum, by = want, want.Kind()
	case by == "size" && v.Size < 0:
		by = ""
	case by != "size" && v.Checksum.PartSize == 0:
		sum = v.Checksum
	}
	if err := want.Want(f.out.computed(want, crc)); err != nil {
		return err
	}
	f.complete = &Result{Bytes: f.out.bytes, Checksum: sum, Verified: by, Resumed: f.resumed}
	return nil
}

// install renames the part.
func (f *File) install(size int64) error {
	part := f.out.part
	verified, err := part.Stat()
	if err == nil && verified.Size() != size {
		err = part.Truncate(size)
	}
	if f.old != nil {
		err = errors.Join(err, part.Chmod(inherit(part, f.old)))
	}
	err = errors.Join(err, part.Sync())
	if !renamesOpen {
		err = errors.Join(err, part.Close())
	}
	if err != nil {
		return err
	}
	root, from := f.dir.root, filepath.Join(f.staging.name, f.partName)
	if err := f.checkReplaced(from, verified); err != nil {
		if errors.Is(err, errReplaced) {
			f.out.record = nil // nothing is kept: another copy of the same resource has probably replaced the file
		}
		return err
	}
	err = root.Rename(from, f.name)
	if mounted(err) || errors.Is(err, fs.ErrPermission) { // as for another user's file in a sticky directory
		f.out.record = nil // nothing is kept: the next attempt would fail as well
		err = errors.Join(ErrInPlace, err)
	}
	if err != nil {
		return err
	}
	if err := checkSame(root, f.name, verified); err != nil {
		return err
	}
	f.partName = "" // it has another
	f.dir.sync()
	return nil
}

// checkReplaced returns an error unless the part of that name is the verified one, and the file to replace is the one
// that Create found.
func (f *File) checkReplaced(from string, verified fs.FileInfo) error {
	if err := checkSame(f.dir.root, from, verified); err != nil {
		return err
	}
	if err := f.dir.checkMoved(); err != nil {
		return err
	}
	now, err := f.dir.root.Lstat(f.name)
	if err == nil && (!now.Mode().IsRegular() || f.old != nil && !os.SameFile(f.old, now)) {
		return &fs.PathError{Op: "write", Path: filepath.Join(f.dir.path, f.name), Err: errReplaced}
	}
	return nil
}

// mounted reports whether err is that of a rename onto a mount point.
func mounted(err error) bool { return errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EXDEV) }

// errReplaced reports that another process has replaced the file.
var errReplaced = errors.New("was replaced by another process while it was written")

// checkSame returns an error unless the file of that name is the one of info.
func checkSame(root *os.Root, name string, info fs.FileInfo) error {
	now, err := root.Lstat(name)
	if err == nil && !os.SameFile(info, now) {
		err = &fs.PathError{Op: "rename", Path: filepath.Join(root.Name(), name), Err: errReplaced}
	}
	return err
}

// Kept returns the path and the number of the bytes that a later process will find once the File is closed; 0 means
// none. Call it before Close.
func (f *File) Kept() (path string, bytes int64) {
	if f.staging == nil || f.out.record == nil || f.out.bytes == 0 {
		return "", 0
	}
	name := filepath.Join(f.staging.name, f.partName)
	info, err := f.out.part.Stat()
	if err != nil || checkSame(f.dir.root, name, info) != nil {
		return "", 0
	}
	return filepath.Join(f.dir.path, name), f.out.bytes
}

// Close closes the file, and removes bytes that no later process can resume.
func (f *File) Close() {
	if f.staging != nil {
		_, bytes := f.Kept()
		f.release(bytes == 0)
	}
}

// release closes everything, and removes the part and its state if remove is set.
func (f *File) release(remove bool) {
	_ = f.out.part.Close() // of nil fails
	if remove && f.staging != nil && f.partName != "" {
		_ = f.staging.root.Remove(f.partName)
	}
	if f.state != nil {
		_ = f.state.Close()
		if remove {
			_ = f.staging.root.Remove(f.stateName)
		}
	}
	f.staging = nil
	f.dir.release()
}
