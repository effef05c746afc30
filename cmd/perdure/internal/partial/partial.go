// Package partial keeps what is not complete yet, and what is known of it, for
// the process that goes on with it.
//
// Of a file NAME there are, beside it, .NAME.part, with the bytes, and
// .NAME.part.json, which says which of them are there and of what. What it says
// is never more than what is on the disk. Of an object there are two files in a
// directory of the user's, for its bytes are in the store. One process at a time
// has them.
package partial

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/seed-0f2c7998/perdure/httpretry/download"
)

// format is what the second file calls itself.
const format = "perdure-download-1"

// ErrTaken is returned where another process has the file, or it is not one of
// ours to go on with.
var ErrTaken = errors.New("another process has the partial file")

// longest is how many bytes the name of a file has at most, as most systems know it.
const longest = 255

// errLong is returned for a file whose name leaves no room for the others'.
var errLong = errors.New("the name is too long for a partial file")

// A File is a partial file that this process has. It is not safe for concurrent use.
type File struct {
	*os.File

	source string // of what it is a part
	known  bool   // the second file is there, and right
}

// A record is the second file.
type record struct {
	Format string         `json:"format"`
	Source string         `json:"source"`
	State  download.State `json:"state"`
}

// Open claims the partial file of path, and returns how far it has come. That is
// the zero State if it is not of source, a text that tells one entity from
// another, or what is known of it does not fit it.
func Open(path, source string, mode fs.FileMode) (*File, download.State, error) {
	f, err := Claim(path, mode)
	if err != nil {
		return nil, download.State{}, err
	}
	f.source = source
	state := f.recall()
	f.known = state.Bytes() > 0
	if !f.known {
		err = f.Renew()
	}
	if err != nil {
		_ = f.Close()
	}
	return f, state, err
}

// Claim opens, or makes with that mode, the partial file of path for this process
// alone. What the second file says is for the caller to read.
func Claim(path string, mode fs.FileMode) (*File, error) {
	name := "." + filepath.Base(path) + ".part"
	if len(name+".json.new") > longest {
		return nil, errLong
	}
	f, err := claim(filepath.Join(filepath.Dir(path), name), mode)
	if err != nil {
		return nil, err
	}
	return &File{File: f}, nil
}

// claim opens the file of that name for this process alone, unless another has
// it, or it has become the file that it was to become, or someone else has put it
// there.
func claim(name string, mode fs.FileMode) (*os.File, error) {
	if info, err := os.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return nil, ErrTaken
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, mode)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && own(info) && lock(f) {
		now, err := os.Lstat(name)
		if err == nil && os.SameFile(info, now) {
			return f, nil
		}
	}
	_ = f.Close()
	return nil, ErrTaken
}

// recall reads the second file.
func (f *File) recall() download.State {
	var r record
	text, err := os.ReadFile(f.Sidecar())
	if err != nil || json.Unmarshal(text, &r) != nil || r.Format != format || r.Source != f.source {
		return download.State{}
	}
	info, err := f.Stat()
	if n := len(r.State.Done); err != nil || n == 0 || r.State.Done[n-1].To > info.Size() {
		return download.State{}
	}
	return r.State
}

// Sidecar returns the path of the second file.
func (f *File) Sidecar() string { return f.Name() + ".json" }

// Known reports whether another process would find something to go on with.
func (f *File) Known() bool { return f.known }

// Save writes down how far the file has come, when that is on the disk.
func (f *File) Save(s download.State) error {
	text, err := json.Marshal(record{format, f.source, s})
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	next := f.Sidecar() + ".new"
	if err := os.WriteFile(next, append(text, '\n'), 0o600); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	if err := os.Rename(next, f.Sidecar()); err != nil {
		return err
	}
	f.known = true
	return nil
}

// Discard closes and removes the file, and what is known of it.
func (f *File) Discard() {
	_ = f.Forget() // it would not fit another
	discard(f.File)
}

// discard closes and removes a file, so that nobody else can have it by then.
func discard(f *os.File) {
	if runtime.GOOS == "windows" { // what is open can't be removed there
		_ = f.Close()
	}
	_ = os.Remove(f.Name())
	_ = f.Close()
}

// Renew makes the file as if it had just been made.
func (f *File) Renew() error { return errors.Join(f.Forget(), f.Truncate(0)) }

// Forget takes back what was written down: other bytes are about to come. When
// it returns, that is on the disk.
func (f *File) Forget() error {
	f.known = false
	err := os.Remove(f.Sidecar())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if dir, open := os.Open(filepath.Dir(f.Name())); open == nil { // not all systems can
		_ = dir.Sync()
		_ = dir.Close()
	}
	return err
}
