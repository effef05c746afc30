package hoststore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"
	"unsafe"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// version is that of the file's layout and of the meaning of its words.
const version = 2

// header returns the first bytes of every file: those of another layout, or of
// another byte order, differ.
func header() []byte {
	b := append(make([]byte, 0, headerSize), "perdure\n"...)
	for _, n := range []uint32{version, slots, slotSize, uint32(unsafe.Sizeof(cell.Cell{}))} {
		b = binary.NativeEndian.AppendUint32(b, n)
	}
	b = binary.NativeEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return b[:headerSize]
}

var errNotMappable = errors.New("this platform has no memory-mapped files in the standard library")

// errNotUsable is a file that is not one of ours, or is damaged.
var errNotUsable = errors.New("not a file of shared circuit breakers of this version")

// tries bounds the races with processes that make and set aside the same file.
const tries = 10

// openTable maps the file at path. It makes the file if there is none, and sets
// aside one that is not usable. Any number of processes may do so at once.
func openTable(path string) (*table, error) {
	if !mappable {
		return nil, errNotMappable
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if remote(dir) {
		return nil, fmt.Errorf("%s is on a file system of another host, which cannot share memory", dir)
	}
	aside := ""
	for range tries {
		t, err := mapFile(path)
		switch {
		case err == nil:
			t.aside = aside
			return t, nil
		case errors.Is(err, fs.ErrNotExist):
			err = create(path)
		case errors.Is(err, errNotUsable):
			aside, err = setAside(path)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s: other processes keep replacing it", path)
}

// mapFile maps a file that is there.
func mapFile(path string) (*table, error) {
	return withFile(path, os.O_RDWR, func(f *os.File, info os.FileInfo) (*table, error) {
		data, err := mapMemory(f, fileSize) // it stays mapped when f is closed
		if err != nil {
			return nil, err
		}
		return newTable(data, info), nil
	})
}

// readTable returns a table with what is in the file at path now.
func readTable(path string) (*table, error) {
	if !mappable {
		return nil, errNotMappable
	}
	return withFile(path, os.O_RDONLY, func(f *os.File, info os.FileInfo) (*table, error) {
		data, err := readMemory(f, fileSize)
		if err != nil {
			return nil, err
		}
		return newTable(data, info), nil
	})
}

// withFile gives do the file at path, if it is one of ours.
func withFile(path string, flag int, do func(*os.File, os.FileInfo) (*table, error)) (_ *table, err error) {
	f, err := os.OpenFile(path, flag|noFollow, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	first := make([]byte, headerSize)
	if _, err := io.ReadFull(f, first); err != nil || info.Size() != fileSize || !bytes.Equal(first, header()) {
		return nil, fmt.Errorf("%s is %w", path, errNotUsable)
	}
	t, err := do(f, info)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return t, nil
}

// create makes the file, unless another process is faster. It is written in
// full under another name first, with real blocks, so that nobody sees half of
// it and no later write can meet a full disk.
func create(path string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".cells-*") // 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	data := append(header(), make([]byte, fileSize-headerSize)...)
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return nil // the other's file is as good
	}
	return err
}

// setAside gives the file at path another name, for a person to look at.
func setAside(path string) (string, error) {
	aside := path + ".unusable-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	err := os.Rename(path, aside)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // another process has
	}
	return aside, err
}
