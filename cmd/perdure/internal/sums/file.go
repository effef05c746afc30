package sums

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"

	"github.com/seed-0f2c7998/perdure/internal/private"
	"github.com/seed-0f2c7998/perdure/internal/record"
)

// A file has the 16 bytes of format, the entries, sorted by key, and the CRC-32C of all before, big-endian. An entry has 72
// bytes: 16 of the key, 16 of the stamp, 32 of the value, 2 of the day, 1 of the size, and 5 zeros.
const (
	format    = "perdure-sums-1\n\x00"
	entrySize = 72
	maxSize   = int64(len(format)) + maxFiles*entrySize + crc32.Size
)

// Reasons why a cache is not believed, as the end of a sentence.
var (
	errForeign = errors.New("is not a file of this user alone, or its directory is not")
	errClosed  = errors.New("cannot be opened")
	errDamaged = errors.New("is damaged, or of another version of perdure")
)

// read returns the entries of the file of that name. A missing file has none.
func read(dir, name string) ([]entry, error) {
	root, err := open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	f, err := private.Open(root, name, os.O_RDONLY, alone)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errForeign
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil || int64(len(text)) > maxSize {
		return nil, errDamaged
	}
	return decode(text)
}

// open opens the directory of the caches, which must be this user's alone to write to.
func open(dir string) (*os.Root, error) {
	root, err := private.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, errClosed
	}
	if info, err := root.Stat("."); err != nil || !private.Denies(info, 0o022) {
		_ = root.Close()
		return nil, errForeign
	}
	return root, nil
}

// alone returns nil for a regular file of this user, with one name, that no other user can write to.
func alone(info fs.FileInfo) error {
	if private.Alone(info) != nil || !private.Denies(info, 0o022) {
		return errForeign
	}
	return nil
}

func encode(all []entry) []byte {
	text := append(make([]byte, 0, len(format)+len(all)*entrySize+crc32.Size), format...)
	for _, e := range all {
		text = append(append(append(text, e.key[:]...), e.stamp[:]...), e.value[:]...)
		text = append(binary.BigEndian.AppendUint16(text, e.day), e.size, 0, 0, 0, 0, 0)
	}
	return binary.BigEndian.AppendUint32(text, record.Sum(text))
}

func decode(text []byte) ([]entry, error) {
	body := len(text) - len(format) - crc32.Size
	if body < 0 || body%entrySize != 0 || string(text[:len(format)]) != format {
		return nil, errDamaged
	}
	end := len(text) - crc32.Size
	if record.Sum(text[:end]) != binary.BigEndian.Uint32(text[end:]) {
		return nil, errDamaged
	}
	all := make([]entry, 0, body/entrySize)
	for at := len(format); at < end; at += entrySize {
		var e entry
		copy(e.key[:], text[at:])
		copy(e.stamp[:], text[at+16:])
		copy(e.value[:], text[at+32:])
		e.day, e.size = binary.BigEndian.Uint16(text[at+64:]), text[at+66]
		if int(e.size) > len(e.value) {
			return nil, errDamaged
		}
		all = append(all, e)
	}
	return all, nil
}

// write replaces the file of that name. It does not wait for the disk: after a crash of the system the checksum shows a file
// that is not complete.
func write(dir, name string, all []entry) error {
	root, err := open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return private.Replace(root, rand.Text()+".draft", name, encode(all), 0o600, false)
}
