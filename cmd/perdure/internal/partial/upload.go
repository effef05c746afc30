package partial

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// uploadFormat is what the file about a source calls itself.
const uploadFormat = "perdure-upload-1"

// forgotten is how long an upload is remembered that nobody goes on with.
const forgotten = 30 * 24 * time.Hour

// A Source is the file that is sent, as it is when that begins.
type Source struct {
	Path     string    `json:"source"` // an absolute one
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
}

// An Upload is an object that is not complete yet, and that this process has. It
// is not safe for concurrent use.
//
// Of each there are two files: HASH.json, which says what the source was and is
// locked, and HASH.parts, which says what the store has.
type Upload struct {
	file   *os.File
	source Source // as it is now
	was    origin // zero: there is none
}

// An origin is what is known of a source when its upload is begun.
type origin struct {
	Format string `json:"format"`
	Source
	Begun time.Time `json:"begun"`
}

// An Address is where an object is to be.
type Address struct{ Endpoint, Bucket, Key string }

// OpenUpload claims, in that directory, what is known of the upload from source
// to that address, and makes it unless it has to be there already.
func OpenUpload(dir string, to Address, source Source, there bool) (*Upload, error) {
	sum := sha256.Sum256([]byte(strings.Join([]string{to.Endpoint, to.Bucket, to.Key, source.Path}, "\x00")))
	name := filepath.Join(dir, hex.EncodeToString(sum[:16])+".json")
	var err error
	if there {
		_, err = os.Stat(name)
	} else {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return nil, err
	}
	f, err := claim(name, 0o600)
	if err != nil {
		return nil, err
	}
	u := &Upload{file: f, source: source}
	if u.remembered() {
		u.was = u.recall()
	}
	return u, nil
}

// remembered reports whether there is an upload.
func (u *Upload) remembered() bool {
	_, err := os.Stat(u.State())
	return err == nil
}

// recall reads what the source was; that of none if it can't be read.
func (u *Upload) recall() origin {
	var r origin
	text, err := io.ReadAll(io.NewSectionReader(u.file, 0, 1<<20))
	if err != nil || json.Unmarshal(text, &r) != nil || r.Format != uploadFormat {
		return origin{Source: Source{Size: -1}}
	}
	return r
}

// State returns the path of the file that says what the store has.
func (u *Upload) State() string { return strings.TrimSuffix(u.file.Name(), ".json") + ".parts" }

// Changed reports whether the source has changed since the upload was begun.
func (u *Upload) Changed() bool {
	return u.was != (origin{}) && (u.was.Size != u.source.Size || !u.was.Modified.Equal(u.source.Modified))
}

// Begun returns when the upload was begun; zero: that is not known.
func (u *Upload) Begun() time.Time { return u.was.Begun }

// Begin writes down what the source is, unless that is known. An upload of what
// it was before must have been forgotten.
func (u *Upload) Begin() error {
	if u.was != (origin{}) {
		return nil
	}
	u.was = origin{uploadFormat, u.source, time.Now()}
	text, err := json.Marshal(u.was)
	if err != nil {
		return err
	}
	if err := u.file.Truncate(0); err != nil {
		return err
	}
	if _, err := u.file.WriteAt(append(text, '\n'), 0); err != nil {
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
	if !u.remembered() {
		discard(u.file)
		return
	}
	_ = u.file.Close()
}

// Uploads calls f with each upload in that directory that no other process has.
func Uploads(dir string, f func(*Upload)) {
	entries, _ := os.ReadDir(dir) // there may be none
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		claimed, err := claim(filepath.Join(dir, e.Name()), 0o600)
		if err != nil {
			continue
		}
		u := &Upload{file: claimed}
		if u.remembered() {
			u.was = u.recall()
			f(u)
		}
		u.Close()
	}
}

// Prune forgets uploads that nobody has gone on with for a month.
func Prune(dir string) {
	Uploads(dir, func(u *Upload) {
		if info, err := os.Stat(u.State()); err == nil && time.Since(info.ModTime()) > forgotten {
			_ = u.Forget() // it is tried again
		}
	})
}
