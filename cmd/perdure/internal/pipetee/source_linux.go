package pipetee

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A Source is a pipe whose bytes are given to attempts. What no attempt has read stays
// in the pipe for its next reader, such as the shell loop that runs this process.
//
// tee(2) copies bytes of the source into the pipe of the attempt while that pipe is
// empty. So the attempt's pipe holds the first bytes of the source, and bytes that have
// left it were read. The flags of the source are not changed: other processes share them.
type Source struct {
	source int    // descriptor of the pipe
	lock   int    // descriptor of the pipe that only this process has, for flock; -1 if it cannot be opened
	record Record // what attempts have read
	taken  pipe   // what was removed from the source and is not recorded yet
	held   int    // bytes in taken
	buffer []byte
}

// New returns source as a Source, which stores in record what attempts read. It returns
// nil if source is not a pipe.
func New(source *os.File, record Record) *Source {
	raw, err := source.SyscallConn()
	if err != nil {
		return nil
	}
	l := &Source{lock: -1, record: record, buffer: make([]byte, 64<<10)}
	if err := raw.Control(func(fd uintptr) { l.source = int(fd) }); err != nil { // Fd may change its flags
		return nil
	}
	var trial pipe
	err = errors.Join(trial.open(), l.taken.open())
	if err == nil {
		_, err = unix.Tee(l.source, int(trial.w.Fd()), 1, unix.SPLICE_F_NONBLOCK)
	}
	trial.close()
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		l.Close()
		return nil
	}
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC
	if fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", l.source), flags, 0); err == nil {
		l.lock = fd
	}
	return l
}

// Close frees the resources of l. The pipe stays open.
func (l *Source) Close() {
	l.taken.close()
	if l.lock >= 0 {
		_ = unix.Close(l.lock)
	}
}

// errShared reports that bytes which were given to an attempt are no longer in the source.
var errShared = errors.New("another process has read from the same pipe")

// take removes n bytes from the source.
func (l *Source) take(n int) error {
	for n > 0 {
		got, err := unix.Splice(l.source, nil, int(l.taken.w.Fd()), nil, n, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil && !errors.Is(err, unix.EAGAIN):
			return os.NewSyscallError("splice", err)
		case got <= 0:
			return errShared
		}
		l.held += int(got)
		if n -= int(got); n > 0 {
			l.keep()
		}
	}
	return nil
}

// keep records what take has removed.
func (l *Source) keep() {
	for l.held > 0 {
		got, err := l.taken.r.Read(l.buffer[:min(l.held, len(l.buffer))])
		if err != nil {
			return
		}
		l.held -= got
		l.record.Keep(l.buffer[:got])
	}
}

// A pipe is both ends of a pipe of this process.
type pipe struct{ r, w *os.File }

func (p *pipe) open() (err error) {
	p.r, p.w, err = os.Pipe()
	return err
}

func (p *pipe) close() {
	_ = p.r.Close()
	_ = p.w.Close()
}
