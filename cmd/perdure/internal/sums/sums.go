// Package sums remembers the checksums of the files of a directory from one run to the next, so that files which have not
// changed are compared without being read.
//
// A checksum is believed while the file has the same path, size, modification time, change time and inode as when it was
// computed. A file that was modified less than two seconds before it was read is not remembered: it may have changed
// again without another modification time.
package sums

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/private"
)

// A Sum is a checksum by the name of its kind. The zero Sum is none.
type Sum struct {
	Kind  string // such as crc32, or md5-3 for the ETag of an object in three parts
	Value []byte
}

// Of returns a checksum as a Sum.
func Of(s checksum.Sum) Sum {
	if s.IsZero() {
		return Sum{}
	}
	kind := s.Name
	if s.PartSize != 0 {
		kind += "@" + strconv.FormatInt(s.PartSize, 10)
	}
	return Sum{kind, s.Value}
}

// ETag returns the ETag of an object as a Sum: an MD5, or an MD5 of MD5s with the number of parts. It is the zero Sum if the
// ETag has another form.
func ETag(text string) Sum {
	digits, count, inParts := strings.Cut(strings.Trim(text, `"`), "-")
	md5 := Of(checksum.OfETag(digits))
	if md5.IsZero() || !inParts {
		return md5
	}
	if n, err := strconv.ParseUint(count, 10, 16); err != nil || n == 0 {
		return Sum{}
	}
	return Sum{"md5-" + count, md5.Value}
}

// IsZero reports whether s is no checksum.
func (s Sum) IsZero() bool { return s.Kind == "" }

// Limits of a cache.
const (
	maxFiles   = 1 << 17             // checksums of one directory; more are not remembered
	racy       = 2 * time.Second     // the coarsest time stamp of a file system, that of FAT
	unused     = 60 * 24 * time.Hour // after which a checksum is forgotten
	confirmed  = 7                   // days after which a used checksum is recorded as used
	secondsDay = 24 * 60 * 60
)

// A Cache has the checksums of the files of one directory. It is safe for concurrent use. A nil Cache has none.
type Cache struct {
	dir, name string
	today     uint16
	known     []entry // sorted by key

	mu    sync.Mutex
	added []entry // guarded by mu
}

// An entry is one checksum of one file.
type entry struct {
	key   [16]byte // of the path and the kind
	stamp [16]byte // of the file
	value [32]byte // padded with zeros
	day   uint16   // since 1970, when it was last used
	size  uint8    // of value
}

// Dir returns the directory of the caches.
func Dir() (string, error) { return private.StatePath("checksums") }

// Open returns the cache in dir of the directory at path. It calls warn with a line if the cache cannot be believed; then it is
// empty. Open removes caches that no run has used for 60 days.
func Open(dir, path string, warn func(text string)) *Cache {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	if end, err := filepath.EvalSymlinks(abs); err == nil {
		abs = end
	}
	c := &Cache{dir: dir, name: private.Name(abs) + ".sums", today: day(time.Now())}
	private.Prune(dir, time.Now().Add(-unused), ".sums", ".draft")
	if c.known, err = read(dir, c.name); err != nil {
		warn("The checksums of the files in " + path + " are computed again: the cache of the last run " + err.Error() + ": " + filepath.Join(dir, c.name))
	}
	return c
}

// day returns the days since 1970.
func day(t time.Time) uint16 {
	return uint16(min(max(t.Unix()/secondsDay, 0), math.MaxUint16)) //nolint:gosec // in range
}

// A File is one file as it was before it was read.
type File struct {
	cache *Cache
	path  string
	stamp [16]byte
	fresh bool // it may change again with the same stamp
}

// File returns the file of that path below the directory, whose info was read before any of its bytes.
func (c *Cache) File(path string, info fs.FileInfo) File {
	return File{c, path, stamp(info), time.Since(info.ModTime()) < racy}
}

// Has reports whether the file is known to have the checksum.
func (f File) Has(s Sum) bool {
	if f.cache == nil || s.IsZero() {
		return false
	}
	key := f.key(s)
	i, found := slices.BinarySearchFunc(f.cache.known, key, func(e entry, key [16]byte) int { return bytes.Compare(e.key[:], key[:]) })
	if !found {
		return false
	}
	e := f.cache.known[i]
	if e.stamp != f.stamp || !bytes.Equal(e.value[:e.size], s.Value) {
		return false
	}
	if f.cache.today > e.day+confirmed {
		f.cache.add(f.cache.entry(key, f.stamp, s))
	}
	return true
}

// Add remembers a checksum of the bytes that were read. now is the info of the file after that: if it has changed, nothing is
// remembered.
func (f File) Add(s Sum, now fs.FileInfo) {
	if f.cache == nil || s.IsZero() || len(s.Value) > len(entry{}.value) || f.fresh || stamp(now) != f.stamp {
		return
	}
	f.cache.add(f.cache.entry(f.key(s), f.stamp, s))
}

func (f File) key(s Sum) (key [16]byte) {
	sum := sha256.Sum256([]byte(f.path + "\x00" + s.Kind))
	copy(key[:], sum[:])
	return key
}

// stamp returns a digest of what identifies the content of a file.
func stamp(info fs.FileInfo) (s [16]byte) {
	changed, inode := identity(info)
	text := binary.LittleEndian.AppendUint64(nil, uint64(info.Size())) //nolint:gosec // all bits, like those below
	text = binary.LittleEndian.AppendUint64(text, uint64(info.ModTime().UnixNano()))
	text = binary.LittleEndian.AppendUint64(text, uint64(changed))
	text = binary.LittleEndian.AppendUint64(text, inode)
	sum := sha256.Sum256(text)
	copy(s[:], sum[:])
	return s
}

func (c *Cache) entry(key, stamp [16]byte, s Sum) entry {
	e := entry{key: key, stamp: stamp, day: c.today, size: uint8(len(s.Value))} //nolint:gosec // at most 32
	copy(e.value[:], s.Value)
	return e
}

func (c *Cache) add(e entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.added) < maxFiles {
		c.added = append(c.added, e)
	}
}

// Save writes what was added, with what another process has saved meanwhile. After an error the saved cache is unchanged.
func (c *Cache) Save() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.added) == 0 {
		return nil
	}
	saved, _ := read(c.dir, c.name) // what cannot be believed is replaced
	all := merge(saved, c.added, c.today)
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	c.added = nil
	return write(c.dir, c.name, all)
}

// merge returns the entries sorted by key, those that were added last in place of others of their key. Those that no run has
// used for long are left out.
func merge(saved, added []entry, today uint16) []entry {
	all := slices.Concat(saved, added)
	slices.Reverse(all) // the last of each key comes first
	slices.SortStableFunc(all, func(a, b entry) int { return bytes.Compare(a.key[:], b.key[:]) })
	all = slices.CompactFunc(all, func(a, b entry) bool { return a.key == b.key })
	all = slices.DeleteFunc(all, func(e entry) bool { return int(today)-int(e.day) > int(unused/(secondsDay*time.Second)) })
	if len(all) > maxFiles {
		all = all[:maxFiles]
	}
	return all
}
