package hostplaces

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"

	"github.com/seed-0f2c7998/perdure/internal/places"
	"github.com/seed-0f2c7998/perdure/internal/private"
)

// The commands of fcntl for locks that belong to an open file: a process that inherits the
// descriptor holds the lock, too.
const (
	getLock = 36 // F_OFD_GETLK
	setLock = 37 // F_OFD_SETLK
)

// A key's range in the file.
const (
	rangeBits  = 15
	waiting    = 0 // byte that processes lock whose callers wait
	limits     = 1 << (rangeBits - 1)
	firstChild = 100 // lowest inherited descriptor: shell scripts use lower ones
)

// locks are the places of one key. One descriptor holds the shared locks of this process,
// and each held place has its own descriptor.
type locks struct {
	log       *slog.Logger
	dir       string
	key       string
	base      int64
	limit     int // this process's
	inherited bool
	own       *os.File // has the shared locks
	next      *os.File // for the next place; nil if it is not open yet
	held      []*os.File
	alone     int // places without a lock, because the file could not be opened
	warned    bool
}

// Of returns the places of key, which all processes that use the file in dir share.
// If the file cannot be opened, Of warns and returns nil. If inherited is set, a
// child process that is started while a place is held keeps the place until the
// child ends or this process frees the place. log receives the warnings.
func Of(dir, key string, limit int, inherited bool, log *slog.Logger) places.Locks {
	l := &locks{log: log, dir: dir, key: key, base: base(key), limit: limit, inherited: inherited}
	f, err := open(dir, true)
	if err == nil && !lock(f, syscall.F_RDLCK, l.base+limits+int64(limit)) {
		err = errors.Join(errors.New("cannot lock "+f.Name()), f.Close())
	}
	if err != nil {
		log.Warn(fmt.Sprintf("Concurrency of '%s' is limited in this process only: %v", key, err), "error", err)
		return nil
	}
	l.own = f
	return l
}

// base returns the first byte of the range of key.
func base(key string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key))              // never fails
	return int64(h.Sum64()>>17) << rangeBits // 47 bits: less than the greatest offset
}

// open opens the file in dir. The file must belong to this user and be writable by no other
// user. If it does not exist and create is set, open creates it.
func open(dir string, create bool) (*os.File, error) {
	root, err := private.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	trusted := func(info fs.FileInfo) error {
		if !info.Mode().IsRegular() || !private.Denies(info, 0o022) {
			return private.ErrForeign
		}
		return nil
	}
	flags := os.O_RDONLY
	if create {
		flags = os.O_RDWR | os.O_CREATE
	}
	f, err := private.Open(root, FileName, flags, trusted)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(root.Name(), FileName), Err: err}
	}
	return f, nil
}

// lock sets a lock of that kind on one byte, and reports whether it succeeded.
func lock(f *os.File, kind int16, at int64) bool {
	return control(f, setLock, &syscall.Flock_t{Type: kind, Start: at, Len: 1}) == nil
}

// find returns a byte from first to last that another open file has locked.
func find(f *os.File, first, last int64) (at int64, found bool) {
	l := syscall.Flock_t{Type: syscall.F_WRLCK, Start: first, Len: last - first + 1}
	if first > last || control(f, getLock, &l) != nil || l.Type == syscall.F_UNLCK {
		return 0, false
	}
	return max(l.Start, first), true
}

// lowest returns the lowest byte from first to last that another open file has locked.
func lowest(f *os.File, first, last int64) (at int64, found bool) {
	for next, ok := find(f, first, last); ok; next, ok = find(f, first, at-1) {
		at, found = next, true
	}
	return at, found
}

func control(f *os.File, cmd int, l *syscall.Flock_t) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	failed := raw.Control(func(fd uintptr) { err = syscall.FcntlFlock(fd, cmd, l) })
	return errors.Join(failed, err)
}

// Lock takes a free place, and reports whether there was one. If the file cannot be opened,
// it reports true: then only the limit of this process holds.
func (l *locks) Lock() bool {
	if l.next == nil {
		f, err := open(l.dir, true)
		if err != nil {
			l.alone++
			return true
		}
		l.next = f
	}
	n := l.inForce()
	for i, first := 0, rand.IntN(n); i < n; i++ {
		if lock(l.next, syscall.F_WRLCK, l.base+1+int64((first+i)%n)) {
			l.held = append(l.held, l.inherit(l.next))
			l.next = nil
			return true
		}
	}
	return false
}

// inForce returns the lowest limit of the running processes.
func (l *locks) inForce() int {
	at, found := lowest(l.own, l.base+limits+1, l.base+limits+int64(l.limit)-1)
	if !found {
		return l.limit
	}
	n := int(at - l.base - limits)
	if !l.warned {
		l.warned = true
		l.log.Warn(fmt.Sprintf("Concurrency of '%s' is %d, the lower limit of another process, not %d", l.key, n, l.limit),
			"breaker", l.key, "concurrency", n)
	}
	return n
}

// inherit returns f with a descriptor that children inherit, if inherited is set.
func (l *locks) inherit(f *os.File) *os.File {
	if !l.inherited {
		return f
	}
	fd, _, failed := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_DUPFD, firstChild)
	if failed != 0 {
		return f
	}
	_ = f.Close() // the duplicate keeps the lock
	return os.NewFile(fd, f.Name())
}

// Unlock frees a place, even if a child has inherited its descriptor.
func (l *locks) Unlock() {
	last := len(l.held) - 1
	if l.alone > 0 || last < 0 {
		l.alone = max(l.alone-1, 0)
		return
	}
	f := l.held[last]
	l.held = l.held[:last]
	_ = control(f, setLock, &syscall.Flock_t{Type: syscall.F_UNLCK, Start: l.base, Len: limits})
	_ = f.Close()
}

// Wait records whether callers of this process wait.
func (l *locks) Wait(on bool) {
	kind := int16(syscall.F_UNLCK)
	if on {
		kind = syscall.F_RDLCK
	}
	lock(l.own, kind, l.base+waiting)
}

// Contended reports whether callers of another process wait.
func (l *locks) Contended() bool {
	_, found := find(l.own, l.base+waiting, l.base+waiting)
	return found
}

// Read returns the usage of keys in the file in dir. Keys without usage, and all keys if the
// file cannot be read, are absent.
func Read(dir string, keys []string) map[string]Usage {
	f, err := open(dir, false)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	all := map[string]Usage{}
	for _, key := range keys {
		from := base(key)
		u := Usage{Taken: count(f, from+1, from+limits-1)}
		if at, found := lowest(f, from+limits+1, from+2*limits-1); found {
			u.Limit = int(at - from - limits)
		}
		if u != (Usage{}) {
			all[key] = u
		}
	}
	return all
}

// count returns how many bytes from first to last are locked.
func count(f *os.File, first, last int64) int {
	at, found := find(f, first, last)
	if !found {
		return 0
	}
	return 1 + count(f, first, at-1) + count(f, at+1, last)
}
