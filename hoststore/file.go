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

// headOfAll is the beginning of the header of every version; the version follows.
const headOfAll = "perdure\n"

// header returns the first bytes of the file. They differ for each layout and byte
// order.
func header() []byte {
	b := append(make([]byte, 0, headerSize), headOfAll...)
	for _, n := range []uint32{cell.Version, slots, slotSize, uint32(unsafe.Sizeof(cell.Cell{}))} {
		b = binary.NativeEndian.AppendUint32(b, n)
	}
	b = binary.NativeEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return b[:headerSize]
}

// fileName returns the name of the file of a version. Releases that cannot read each
// other's files use different ones.
func fileName(version int) string { return "cells." + strconv.Itoa(version) }

var errNotMappable = errors.New("this platform has no memory-mapped files in the standard library")

// An unusableError reports a file that is damaged, or is not a state file.
type unusableError struct {
	path string
	file os.FileInfo
}

func (e *unusableError) Error() string {
	return fmt.Sprintf("%s is not a perdure state file of version %d", e.path, cell.Version)
}

// tries limits the races with processes that create or set aside the same file.
const tries = 10

// openTable maps the file in dir. It creates both if they do not exist, and sets aside an
// unusable file. Any number of processes may call it at once.
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
			if e, ok := errors.AsType[*fs.PathError](err); ok { // of a temporary name, which says nothing to a user
				err = &fs.PathError{Op: "make", Path: filepath.Join(dir, fileName(cell.Version)), Err: e.Err}
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s: other processes keep replacing it", filepath.Join(dir, fileName(cell.Version)))
}

// readTable returns a table with a copy of the file in dir.
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

// withFile returns a table over the bytes that bytesOf returns of the file in root, or
// an unusableError. A mapping outlives the open file.
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

// create creates the file, unless another process is faster. It writes the whole file
// under a temporary name first, with real blocks, so no process sees a part of it, and
// no later write meets a full disk.
func create(root *os.Root) (err error) {
	name := unfinished + rand.Text()
	f, err := private.Make(root, name)
	if err != nil {
		return err
	}
	defer func() {
		if e := root.Remove(name); !errors.Is(e, fs.ErrNotExist) { // unless sweep was faster
			err = errors.Join(err, e)
		}
	}()
	data := append(header(), make([]byte, fileSize-headerSize)...)
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = root.Link(name, fileName(cell.Version)); errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return nil // another process has created the same file, or sweep was faster: the caller looks again
	}
	return err
}

// unfinished is the prefix of the temporary name.
const unfinished = ".cells-"

// sweep removes temporary files that are older than a minute: the processes that created
// them were killed. Creating a file takes less, and is repeated if sweep was faster.
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

// setAside renames the file, for a person to inspect, unless another process has.
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

// namesOfVersions returns the names that files of other versions may have.
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

// versionOf returns the version of the named file, and false if it is not a state file of
// this user.
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
