package hoststore

import (
	"fmt"
	"hash/fnv"
	"os"
	"strconv"
	"sync/atomic"
	"unsafe"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// The file is a header and a table of slots. Its size is fixed, so it never grows
// while it is mapped.
const (
	slots      = 4096
	slotSize   = 768
	headerSize = 512
	fileSize   = headerSize + slots*slotSize
)

// A slot is the cell of one key, with the key's name and its hash.
//
// A process claims a slot with one compare-and-swap of the hash. Then it writes the
// name, and the length last. If the process is killed in between, the next process with
// that hash, and so with that name, completes the slot with the same bytes. A slot is
// never released.
type slot struct {
	cell   cell.Cell
	hash   atomic.Uint64 // 0 if the slot is free
	length atomic.Uint64 // of the name; 0 until it is written
	name   [nameSize]byte
}

const nameSize = slotSize - int(unsafe.Sizeof(cell.Cell{})) - 16

// These do not compile unless a slot has the size slotSize.
var (
	_ [slotSize - unsafe.Sizeof(slot{})]struct{}
	_ [unsafe.Sizeof(slot{}) - slotSize]struct{}
)

// A table is a mapped file, or a copy of one.
type table struct {
	slots []slot
	file  os.FileInfo // identifies the file
	aside string      // path of the unusable file that was set aside; "" if there was none
}

// newTable returns a table over the bytes of a file.
func newTable(data []byte, file os.FileInfo) *table {
	first := (*slot)(unsafe.Pointer(&data[headerSize]))
	return &table{slots: unsafe.Slice(first, slots), file: file}
}

// at reports whether the file at path is the mapped one.
func (t *table) at(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && os.SameFile(info, t.file)
}

// find returns the cell of key, and claims a slot for it at first use. It returns nil if
// no slot is free.
func (t *table) find(key string) *cell.Cell {
	name, hash := inSlot(key)
	for i := range uint64(slots) {
		s := &t.slots[(hash+i)%slots]
		s.hash.CompareAndSwap(0, hash)
		if s.hash.Load() == hash && s.is(name) {
			return &s.cell
		}
	}
	return nil
}

// is reports whether a slot that has the hash of name also has the name. It writes the
// name if the process that claimed the slot has not.
func (s *slot) is(name string) bool {
	if n := s.length.Load(); n != 0 {
		return n <= uint64(nameSize) && string(s.name[:n]) == name
	}
	copy(s.name[:], name)
	s.length.Store(uint64(len(name)))
	return true
}

// keys returns the names in the table.
func (t *table) keys() []string {
	var keys []string
	for i := range t.slots {
		if n := t.slots[i].length.Load(); n != 0 && n <= uint64(nameSize) {
			keys = append(keys, string(t.slots[i].name[:n]))
		}
	}
	return keys
}

// inSlot returns the name that the slot of key has, and its hash. A key that is too long
// is cut, and its hash is appended. inSlot returns such a name unchanged, so a name from
// [table.keys] leads to the slot.
func inSlot(key string) (name string, hash uint64) {
	if len(key) == nameSize && key[nameSize-17] == '#' {
		if hash, err := strconv.ParseUint(key[nameSize-16:], 16, 64); err == nil && hash != 0 {
			return key, hash
		}
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(key)) // never fails
	hash = max(h.Sum64(), 1)
	if len(key) == 0 {
		return "(no name)", hash
	}
	if len(key) <= nameSize {
		return key, hash
	}
	return fmt.Sprintf("%s#%016x", key[:nameSize-17], hash), hash
}
