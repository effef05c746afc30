// Package uploads remembers uploads that are not complete yet, for the process that resumes them: in the state
// directory of this user, by the file's path and the object's address. One process at a time has one.
package uploads

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/internal/private"
	"github.com/seed-0f2c7998/perdure/internal/record"
)

// format is what the file about a source calls itself. One of another format is that of no source.
const format = "perdure-upload-3"

// ErrTaken is returned where another process has the upload, or what is there is not this user's.
var ErrTaken = errors.New("another process has what is known of the upload")

// maxOrigin is how many bytes of the file about a source are read.
const maxOrigin = 64 << 10

// forgotten is how long an upload is remembered that no run resumes.
const forgotten = 30 * 24 * time.Hour

// A Source is the file that is sent, as it is when that begins.
type Source struct {
	Path     string    `json:"source"` // an absolute one
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
}

// An Upload is an object that is not complete yet, and that this process has. It is not safe for concurrent use.
//
// Of each there are two files: HASH.json, which says what the source was and is locked, and HASH.parts, which says what the
// store has.
type Upload struct {
	file   *os.File
	source Source // as it is now
	was    origin // zero: there is none
	lost   bool
}

// An origin is what is known of a source when its upload is begun.
type origin struct {
	Format string `json:"format"`
	Source
	Begun time.Time `json:"begun"`
}

// An Address is where an object is to be.
type Address struct{ Endpoint, Bucket, Key string }

// Dir returns the directory that uploads are remembered in.
func Dir() (string, error) {
	cells, err := hoststore.Path()
	return filepath.Join(filepath.Dir(cells), "uploads"), err
}

// Open claims, in that directory, what is known of the upload from source to that address, and makes it unless it has to be
// there already.
func Open(dir string, to Address, source Source, there bool) (*Upload, error) {
	sum := sha256.Sum256([]byte(strings.Join([]string{to.Endpoint, to.Bucket, to.Key, source.Path}, "\x00")))
	if !there {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	f, err := claim(dir, hex.EncodeToString(sum[:16])+".json", there)
	if err != nil {
		return nil, err
	}
	u := &Upload{file: f, source: source}
	remembered, err := u.remembered()
	if err != nil {
		u.Close()
		return nil, ErrTaken
	}
	if remembered {
		u.was = u.recall()
	}
	return u, nil
}

// claim opens the file of that name for this process alone, and makes it unless it has to be there. What is not a regular
// file of this user's, in a directory that only this user may write to, is not touched: nor is one that another process has.
func claim(dir, name string, there bool) (*os.File, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	if info, err := root.Stat("."); err != nil || !private.CanLock || !private.Denies(info, 0o022) {
		return nil, errors.Join(ErrTaken, err)
	}
	f, err := private.Open(root, name, os.O_RDWR, single)
	if errors.Is(err, fs.ErrNotExist) && !there {
		f, err = private.Make(root, name)
	}
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

// single returns nil for a regular file of this user's with one name.
func single(info fs.FileInfo) error {
	if private.File(info) != nil || !private.Single(info) {
		return ErrTaken
	}
	return nil
}

// remembered reports whether there is an upload. What is not a regular file of this user's with one name is an error.
func (u *Upload) remembered() (bool, error) {
	info, err := os.Lstat(u.State())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = single(info)
	}
	return err == nil, err
}

// recall reads what the source was; unknown if that, or what the store has, can't be read.
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

// unknown is the origin of an upload whose files are damaged, or of another version.
var unknown = origin{Source: Source{Size: -1}} //nolint:gochecknoglobals // a constant

// State returns the path of the file that says what the store has.
func (u *Upload) State() string { return strings.TrimSuffix(u.file.Name(), ".json") + ".parts" }

// Damaged is why nothing is known of an upload that there was.
const Damaged = "the state of the earlier run is damaged, or of another version of perdure"

// Outdated returns why nothing of what was sent is of use; "" if it may be.
func (u *Upload) Outdated() string {
	switch {
	case u.was == unknown:
		return Damaged
	case u.was != (origin{}) && (u.was.Size != u.source.Size || !u.was.Modified.Equal(u.source.Modified)):
		return "it has changed since the earlier run"
	}
	return ""
}

// Lost reports whether it is not known which upload an earlier run has begun: what that sent stays in the store.
func (u *Upload) Lost() bool { return u.lost }

// Begun returns when the upload was begun; zero: that is not known.
func (u *Upload) Begun() time.Time { return u.was.Begun }

// Begin writes down what the source is, unless that is known. An upload of what
// it was before must have been forgotten.
func (u *Upload) Begin() error {
	if u.was != (origin{}) {
		return nil
	}
	u.was = origin{format, u.source, time.Now()}
	text, err := record.Encode(u.was)
	if err != nil {
		return err
	}
	if err := u.file.Truncate(0); err != nil {
		return err
	}
	if _, err := u.file.WriteAt(text, 0); err != nil {
		return err
	}
	return u.file.Sync()
}

// Forget removes what is known of the upload, though it may still be there.
func (u *Upload) Forget() error {
	u.was = origin{}
	err := os.Remove(u.State())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Close leaves the upload to the next process, or nothing if there is none.
func (u *Upload) Close() {
	if remembered, err := u.remembered(); !remembered && err == nil {
		discard(u.file)
		return
	}
	_ = u.file.Close()
}

// discard closes and removes a file, so that no other process can have it by then.
func discard(f *os.File) {
	if runtime.GOOS == "windows" { // what is open can't be removed there
		_ = f.Close()
	}
	_ = os.Remove(f.Name())
	_ = f.Close()
}

// Each calls f with each upload in that directory that no other process has.
func Each(dir string, f func(*Upload)) { each(dir, time.Now(), f) }

// Prune forgets uploads that no run has gone on with for a month. Others are not claimed for a moment, in which their own
// copy could not have them.
func Prune(dir string) {
	each(dir, time.Now().Add(-forgotten), func(u *Upload) { _ = u.Forget() }) // it is tried again
}

// each calls f with the uploads of Each that have last been gone on with before an instant.
func each(dir string, before time.Time, f func(*Upload)) {
	entries, _ := os.ReadDir(dir) // there may be none
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
		if remembered, _ := u.remembered(); remembered {
			u.was = u.recall()
			f(u)
		}
		u.Close()
	}
}

// touched returns when an upload of that name was last gone on with.
func touched(name string) time.Time {
	for _, suffix := range []string{".parts", ".json"} {
		if info, err := os.Lstat(name + suffix); err == nil {
			return info.ModTime()
		}
	}
	return time.Time{}
}
