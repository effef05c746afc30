// Package partial keeps a file that is not complete yet, and what is known of
// it, for the process that goes on with it.
//
// Beside NAME are .NAME.part, with the bytes, and .NAME.part.json, which says
// which of them are there and of what. What it says is never more than what is
// on the disk. One process at a time has them.
package partial

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/seed-0f2c7998/perdure/httpretry/download"
)

// format is what the second file calls itself.
const format = "perdure-download-1"

// ErrTaken is returned where another process has the file, or it is not one of
// ours to go on with.
var ErrTaken = errors.New("another process has the partial file")

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

// Open opens, or makes with that mode, the partial file of path, and returns how
// far it has come. That is the zero State if it is not of source, a text that
// tells one entity from another, or what is known of it does not fit it.
func Open(path, source string, mode fs.FileMode) (*File, download.State, error) {
	name := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".part")
	if info, err := os.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return nil, download.State{}, ErrTaken
	}
	opened, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, mode)
	if err != nil {
		return nil, download.State{}, err
	}
	f := &File{File: opened, source: source}
	if !f.claim() {
		_ = opened.Close()
		return nil, download.State{}, ErrTaken
	}
	state := f.recall()
	f.known = state.Bytes() > 0
	if !f.known {
		err = errors.Join(f.Forget(), f.Truncate(0))
	}
	if err != nil {
		_ = opened.Close()
	}
	return f, state, err
}

// claim makes the file this process's alone, unless another has it, or it has
// become the file that it was to become, or someone else has put it there.
func (f *File) claim() bool {
	info, err := f.Stat()
	if err != nil || !own(info) || !lock(f.File) {
		return false
	}
	now, err := os.Lstat(f.Name())
	return err == nil && os.SameFile(info, now)
}

// recall reads the second file.
func (f *File) recall() download.State {
	var r record
	text, err := os.ReadFile(f.sidecar())
	if err != nil || json.Unmarshal(text, &r) != nil || r.Format != format || r.Source != f.source {
		return download.State{}
	}
	info, err := f.Stat()
	if n := len(r.State.Done); err != nil || n == 0 || r.State.Done[n-1].To > info.Size() {
		return download.State{}
	}
	return r.State
}

func (f *File) sidecar() string { return f.Name() + ".json" }

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
	next := f.sidecar() + ".new"
	if err := os.WriteFile(next, append(text, '\n'), 0o600); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	if err := os.Rename(next, f.sidecar()); err != nil {
		return err
	}
	f.known = true
	return nil
}

// Forget takes back what was written down: other bytes are about to come. When
// it returns, that is on the disk.
func (f *File) Forget() error {
	f.known = false
	err := os.Remove(f.sidecar())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if dir, open := os.Open(filepath.Dir(f.Name())); open == nil { // not all systems can
		_ = dir.Sync()
		_ = dir.Close()
	}
	return err
}
