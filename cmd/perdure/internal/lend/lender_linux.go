package lend

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A Lender gives attempts what is in a pipe, and takes from the pipe only what they
// have read: the rest stays there for its next reader, as the loop that we run in.
// tee(2) copies the bytes into the pipe of the attempt while that is empty. So what
// is in the attempt's pipe is what the source begins with, and what has gone from it
// was read. The flags of the source, which others share, are left alone.
type Lender struct {
	source int    // the descriptor of the pipe
	lock   int    // another one of it, which no other process has; -1 if there can be none
	record Record // of what attempts have read
	taken  pipe   // what was taken from the source and is not recorded yet,
	held   int    // in bytes
	buffer []byte
}

// New returns a Lender of what is in source, which keeps in record what attempts
// read; nil if source is no pipe.
func New(source *os.File, record Record) *Lender {
	raw, err := source.SyscallConn()
	if err != nil {
		return nil
	}
	l := &Lender{lock: -1, record: record, buffer: make([]byte, 64<<10)}
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

// Close frees what the Lender needs. The source stays open.
func (l *Lender) Close() {
	l.taken.close()
	if l.lock >= 0 {
		_ = unix.Close(l.lock)
	}
}

// errShared says that bytes which were lent are no longer in the source.
var errShared = errors.New("another process has read from the same pipe")

// take takes n bytes from the source.
func (l *Lender) take(n int) error {
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

// keep records what was taken.
func (l *Lender) keep() {
	for l.held > 0 {
		got, err := l.taken.r.Read(l.buffer[:min(l.held, len(l.buffer))])
		if err != nil {
			return
		}
		l.held -= got
		l.record.Keep(l.buffer[:got])
	}
}

// A pipe is one of ours.
type pipe struct{ r, w *os.File }

func (p *pipe) open() (err error) {
	p.r, p.w, err = os.Pipe()
	return err
}

func (p *pipe) close() {
	_ = p.r.Close()
	_ = p.w.Close()
}
