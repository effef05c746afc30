// Package uploads records incomplete uploads in the user's state directory, for the process that resumes them. A record is
// found by the path of the file and the address of the object. One process at a time has claimed a record.
package uploads

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/internal/private"
	"github.com/seed-0f2c7998/perdure/internal/record"
)

// format is the format of a record. Records of other formats are ignored.
const format = "perdure-upload-3"

// ErrTaken is the error of a record that another process has claimed, or that does not belong to this user.
var ErrTaken = errors.New("another process has claimed the record of the upload")

// maxOrigin is how many bytes of a record are read.
const maxOrigin = 64 << 10

// forgotten is how long a record is kept that no run resumes.
const forgotten = 30 * 24 * time.Hour

// A Source is the file that is uploaded, as it is when the upload begins.
type Source struct {
	Path     string    `json:"source"` // absolute
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
}

// An Upload is an incomplete upload that this process has claimed. It is not safe for concurrent use.
//
// Each upload has two files: HASH.json, the locked record of the source, and HASH.parts, the state of the parts.
type Upload struct {
	file     *os.File
	source   Source // as it is now
	recorded origin // zero if there is no record yet
	lost     bool   // the parts cannot be read
}

// An origin is the record of the source of an upload.
type origin struct {
	Format string `json:"format"`
	Source
	Begun time.Time `json:"begun"`
}

// An Address is the address of an object.
type Address struct{ Endpoint, Bucket, Key string }

// Dir returns the directory of the records.
func Dir() (string, error) { return private.StatePath("uploads") }

// Open claims the record in dir of the upload of source to that address. It creates the record, unless mustExist is set.
func Open(dir string, to Address, source Source, mustExist bool) (*Upload, error) {
	name := private.Name(strings.Join([]string{to.Endpoint, to.Bucket, to.Key, source.Path}, "\x00")) + ".json"
	if !mustExist {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	f, err := claim(dir, name, mustExist)
	if err != nil {
		return nil, err
	}
	u := &Upload{file: f, source: source}
	exists, err := u.exists()
	if err != nil {
		u.Close()
		return nil, ErrTaken
	}
	if exists {
		u.recorded = u.recall()
	}
	return u, nil
}

// claim opens and locks the file of that name. It creates the file, unless mustExist is set. It returns ErrTaken if the file
// is locked, is not a regular file of this user, or is in a directory that other users can write to.
func claim(dir, name string, mustExist bool) (*os.File, error) {
	root, err := private.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	if info, err := root.Stat("."); err != nil || !private.CanLock || !private.Denies(info, 0o022) {
		return nil, errors.Join(ErrTaken, err)
	}
	flags := os.O_RDWR
	if !mustExist {
		flags |= os.O_CREATE
	}
	f, err := private.Open(root, name, flags, single)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && private.Lock(f) {
		if now, err := root.Lstat(name); err == nil && os.SameFile(info, now) {
			return f, nil
		}
	}
	_ = f.Close()
	return nil, ErrTaken
}

// single returns nil for a regular file of this user with one name.
func single(info fs.FileInfo) error {
	if private.Alone(info) != nil {
		return ErrTaken
	}
	return nil
}

// exists reports whether there is an upload. A file of parts that is not a regular file of this user with one name is an error.
func (u *Upload) exists() (bool, error) {
	info, err := os.Lstat(u.State())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = single(info)
	}
	return err == nil, err
}

// recall reads the record. It returns unknown if the record or the state of the parts cannot be read.
func (u *Upload) recall() origin {
	var r origin
	text, err := io.ReadAll(io.NewSectionReader(u.file, 0, maxOrigin))
	has, unread := objects.ReadState(u.State())
	u.lost = unread != nil || has.Upload == ""
	if err != nil || u.lost || !record.Decode(text, &r) || r.Format != format {
		return unknown
	}
	return r
}

// unknown is the origin of an upload with damaged files, or with those of another version.
var unknown = origin{Source: Source{Size: -1}} //nolint:gochecknoglobals // a constant

// State returns the path of the state of the parts.
func (u *Upload) State() string { return strings.TrimSuffix(u.file.Name(), ".json") + ".parts" }

// Damaged is the reason if the files of an upload cannot be read.
const Damaged = "the state of the earlier run is damaged, or of another version of perdure"

// Outdated returns the reason why the upload cannot be resumed, or "" if it may be.
func (u *Upload) Outdated() string {
	switch {
	case u.recorded == unknown:
		return Damaged
	case u.recorded != (origin{}) && (u.recorded.Size != u.source.Size || !u.recorded.Modified.Equal(u.source.Modified)):
		return "the file has changed since the earlier run"
	}
	return ""
}

// Lost reports whether the upload of an earlier run is unknown: then its parts stay in the store.
func (u *Upload) Lost() bool { return u.lost }

// Begun returns when the upload was begun; the zero Time if that is unknown.
func (u *Upload) Begun() time.Time { return u.recorded.Begun }

// Begin records the source, unless it is recorded. Call Forget first if the source has
// changed.
func (u *Upload) Begin() error {
	if u.recorded != (origin{}) {
		return nil
	}
	u.recorded = origin{format, u.source, time.Now()}
	if err := record.Rewrite(u.file, u.recorded); err != nil {
		return err
	}
	return u.file.Sync()
}

// Forget removes the record of the upload. It does not abort the upload.
func (u *Upload) Forget() error {
	u.recorded = origin{}
	err := os.Remove(u.State())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Close leaves the record to the next process. It removes a record without an upload.
func (u *Upload) Close() {
	if exists, err := u.exists(); !exists && err == nil {
		discard(u.file)
		return
	}
	_ = u.file.Close()
}

// discard removes a file before it unlocks the file, except on Windows.
func discard(f *os.File) {
	if runtime.GOOS == "windows" { // an open file cannot be removed there
		_ = f.Close()
	}
	_ = os.Remove(f.Name())
	_ = f.Close()
}

// Each calls f with each upload in dir that no other process has claimed.
func Each(dir string, f func(*Upload)) { each(dir, time.Now(), f) }

// Prune forgets uploads that no run has resumed for a month. Others are not claimed for a moment, in which their own
// copy could not have them.
func Prune(dir string) {
	each(dir, time.Now().Add(-forgotten), func(u *Upload) { _ = u.Forget() }) // the next Prune tries again
}

// each calls f with the uploads of Each that were last used before an instant.
func each(dir string, before time.Time, f func(*Upload)) {
	entries, _ := os.ReadDir(dir) // an error means no records
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || touched(filepath.Join(dir, name)).After(before) {
			continue
		}
		claimed, err := claim(dir, e.Name(), true)
		if err != nil {
			continue
		}
		u := &Upload{file: claimed}
		if exists, _ := u.exists(); exists {
			u.recorded = u.recall()
			f(u)
		}
		u.Close()
	}
}

// touched returns when the upload of that name was last used.
func touched(name string) time.Time {
	for _, suffix := range []string{".parts", ".json"} {
		if info, err := os.Lstat(name + suffix); err == nil {
			return info.ModTime()
		}
	}
	return time.Time{}
}
