package hoststore

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/private"
)

// headOfAll is what the header of every version begins with; its version follows.
const headOfAll = "perdure\n"

// header returns the first bytes of every file: those of another layout, or of
// another byte order, differ.
func header() []byte {
	b := append(make([]byte, 0, headerSize), headOfAll...)
	for _, n := range []uint32{cell.Version, slots, slotSize, uint32(unsafe.Sizeof(cell.Cell{}))} {
		b = binary.NativeEndian.AppendUint32(b, n)
	}
	b = binary.NativeEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return b[:headerSize]
}

// fileName returns the name of the file of that version. Releases that do not
// understand each other's files so leave them alone.
func fileName(version int) string { return "cells." + strconv.Itoa(version) }

var errNotMappable = errors.New("this platform has no memory-mapped files in the standard library")

// An unusableError is a file in the place of ours that is something else, or damaged.
type unusableError struct {
	path string
	file os.FileInfo
}

func (e *unusableError) Error() string {
	return fmt.Sprintf("%s is not a perdure state file of version %d", e.path, cell.Version)
}

// tries bounds the races with processes that make and set aside the same file.
const tries = 10

// openTable maps the file in dir. It makes both at first use, and sets aside a
// file that is not usable. Any number of processes may do so at once.
func openTable(dir string) (*table, error) {
	if !mappable {
		return nil, errNotMappable
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if remote(dir) {
		return nil, fmt.Errorf("%s is on a file system of another host, which cannot share memory", dir)
	}
	root, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	sweep(root)
	aside := ""
	for range tries {
		t, err := withFile(root, os.O_RDWR, mapMemory)
		if err == nil {
			t.aside = aside
			return t, nil
		}
		if bad, ok := errors.AsType[*unusableError](err); ok {
			aside, err = setAside(root, bad.file)
		} else if errors.Is(err, fs.ErrNotExist) {
			err = create(root)
			if e, ok := errors.AsType[*fs.PathError](err); ok { // it has a name that nobody knows
				err = &fs.PathError{Op: "make", Path: filepath.Join(dir, fileName(cell.Version)), Err: e.Err}
			}
		} else if errors.Is(err, private.ErrReplaced) {
			err = nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s: other processes keep replacing it", filepath.Join(dir, fileName(cell.Version)))
}

// readTable returns a table with what is in the file in dir now.
func readTable(dir string) (*table, error) {
	if !mappable {
		return nil, errNotMappable
	}
	root, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	return withFile(root, os.O_RDONLY, readMemory)
}

// withFile returns the table over what bytes returns of the file in root, if it
// is one of ours. What it maps stays mapped when the file is closed.
func withFile(root *os.Root, flag int, bytesOf func(*os.File, int) ([]byte, error)) (_ *table, err error) {
	f, info, err := openFile(root, fileName(cell.Version), flag)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	first := make([]byte, headerSize)
	if _, err := io.ReadFull(f, first); err != nil || info.Size() != fileSize || !bytes.Equal(first, header()) {
		return nil, &unusableError{pathIn(root, fileName(cell.Version)), info}
	}
	data, err := bytesOf(f, fileSize)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", pathIn(root, fileName(cell.Version)), err)
	}
	return newTable(data, info), nil
}

// create makes the file, unless another process is faster. It is written in
// full under another name first, with real blocks, so that nobody sees half of
// it and no later write can meet a full disk.
func create(root *os.Root) (err error) {
	name := unfinished + rand.Text()
	f, err := private.Make(root, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Remove(name)) }()
	data := append(header(), make([]byte, fileSize-headerSize)...)
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = root.Link(name, fileName(cell.Version)); errors.Is(err, fs.ErrExist) {
		return nil // the other's file is as good
	}
	return err
}

// unfinished is what the name of a file begins with while it is made.
const unfinished = ".cells-"

// sweep removes the files that processes which were killed while they made one
// have left. A file is made in less than a minute, or its maker makes another.
func sweep(root *os.Root) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), unfinished) {
			continue
		}
		if info, err := e.Info(); err == nil && trusted("", info) == nil && time.Since(info.ModTime()) > time.Minute {
			_ = root.Remove(e.Name())
		}
	}
}

// setAside gives the file another name, for a person to look at, unless another
// process has.
func setAside(root *os.Root, file os.FileInfo) (path string, err error) {
	name := fileName(cell.Version)
	now, err := root.Lstat(name)
	if err == nil && !os.SameFile(now, file) {
		return "", nil
	}
	aside := name + ".unusable-" + rand.Text()
	if err == nil {
		err = root.Rename(name, aside)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return pathIn(root, aside), err
}

// namesOfVersions returns the names that files of other versions can have.
func namesOfVersions() []string {
	const farthest = 99
	names := []string{"cells"} // up to version 2
	for v := 1; v <= farthest; v++ {
		if v != cell.Version {
			names = append(names, fileName(v))
		}
	}
	return names
}

// versionOf returns the version of the file of that name, if it is one of this
// user's state files. It only reads the file.
func versionOf(root *os.Root, name string) (int, bool) {
	f, _, err := openFile(root, name, os.O_RDONLY)
	if err != nil {
		return 0, false
	}
	head := make([]byte, len(headOfAll)+4)
	_, err = io.ReadFull(f, head)
	if errors.Join(err, f.Close()) != nil || !bytes.HasPrefix(head, []byte(headOfAll)) {
		return 0, false
	}
	return int(min(binary.NativeEndian.Uint32(head[len(headOfAll):]), math.MaxInt32)), true
}
