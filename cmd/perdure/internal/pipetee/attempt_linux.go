package pipetee

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// An Attempt is the standard input of one attempt.
type Attempt struct {
	source *Source

	to     pipe // the attempt reads from it
	copied int  // bytes at the end of to that are in the source as well
	small  bool // to has room for one page
	stop   pipe // is closed when the attempt has ended
	done   chan struct{}
	err    error // of run, once done is closed
}

var errStopped = errors.New("the attempt has ended")

// Attempt returns the standard input of the next attempt: what is recorded, and then what
// is in the source. End must be called before the next Attempt.
func (l *Source) Attempt() (*Attempt, error) {
	n := &Attempt{source: l, done: make(chan struct{})}
	err := errors.Join(n.to.open(), n.stop.open())
	if err == nil {
		err = unix.SetNonblock(int(n.to.w.Fd()), true)
	}
	if err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// File returns the file that the attempt reads from.
func (n *Attempt) File() *os.File { return n.to.r }

// Begin begins to feed the attempt, which has been started with File.
func (n *Attempt) Begin() { go n.run() }

// run feeds the attempt until the source or the attempt ends.
func (n *Attempt) run() {
	defer close(n.done)
	defer func() { _ = n.to.w.Close() }()
	err := n.replay()
	for err == nil {
		err = n.next()
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, errStopped) {
		n.err = err
	}
}

// replay writes what is recorded to the attempt.
func (n *Attempt) replay() error {
	for at := int64(0); ; {
		got, err := n.source.record.At(n.source.buffer, at)
		switch {
		case err != nil:
			return err
		case got == 0:
			return n.drained()
		}
		for p := n.source.buffer[:got]; len(p) > 0; {
			wrote, err := unix.Write(int(n.to.w.Fd()), p)
			if err != nil {
				wrote, err = 0, n.again(err, int(n.to.w.Fd()), unix.POLLOUT)
			}
			if err != nil {
				return err
			}
			p = p[wrote:]
		}
		at += int64(got)
	}
}

// next copies bytes of the source to the attempt, and removes them from the source when
// the attempt has read them.
func (n *Attempt) next() error {
	if n.small {
		_, _ = unix.FcntlInt(n.to.w.Fd(), unix.F_SETPIPE_SZ, 16*os.Getpagesize())
		n.small = false
	}
	for n.copied == 0 {
		if err := n.lockSource(); err != nil {
			return err
		}
		got, err := unix.Tee(n.source.source, int(n.to.w.Fd()), 1<<20, unix.SPLICE_F_NONBLOCK)
		n.source.keep() // while the attempt reads
		switch {
		case err != nil:
			n.unlockSource()
			if err = n.again(err, n.source.source, unix.POLLIN); err != nil {
				return err
			}
		case got == 0:
			n.unlockSource()
			return io.EOF
		default:
			n.copied = int(got)
		}
	}
	if err := n.drained(); err != nil {
		return err
	}
	defer n.unlockSource()
	return n.settle(0)
}

// lockSource waits until no other perdure copies from the source: both would copy the
// same bytes.
func (n *Attempt) lockSource() error {
	for n.source.lock >= 0 && errors.Is(unix.Flock(n.source.lock, unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK) {
		if err := n.poll(-1, 0, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// unlockSource lets other processes copy from the source.
func (n *Attempt) unlockSource() {
	if n.source.lock >= 0 {
		_ = unix.Flock(n.source.lock, unix.LOCK_UN)
	}
}

// settle removes from the source what the attempt has read. The attempt's pipe has left
// bytes that it has not read.
func (n *Attempt) settle(left int) error {
	read := max(n.copied-left, 0)
	n.copied -= read
	return n.source.take(read)
}

// drained waits until the attempt has read all bytes of its pipe.
func (n *Attempt) drained() error {
	const soon = time.Millisecond
	for begun := time.Now(); ; {
		left, err := unix.IoctlGetInt(int(n.to.r.Fd()), unix.TIOCINQ)
		if left == 0 || err != nil {
			return os.NewSyscallError("ioctl", err)
		}
		waited := time.Since(begun)
		if waited < soon {
			err = n.poll(-1, 0, 20*time.Microsecond+waited/8)
		} else if err = n.settle(left); err == nil { // the writer of the source may be waiting for room
			n.source.keep()
			err = n.outwait(min(waited/8, 50*time.Millisecond))
		}
		if err != nil {
			return err
		}
	}
}

// outwait waits until the attempt has read its pipe, or for limit if that cannot be
// polled. A pipe of one page is reported as writable only when it is empty.
func (n *Attempt) outwait(limit time.Duration) error {
	_, err := unix.FcntlInt(n.to.w.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize())
	if err != nil { // the pipe holds more than a page
		return n.poll(-1, 0, limit)
	}
	n.small = true
	return n.poll(int(n.to.w.Fd()), unix.POLLOUT, 0)
}

// again waits for the events of a file if err is EAGAIN, and returns nil if the system call is to be repeated.
func (n *Attempt) again(err error, fd int, events int16) error {
	switch {
	case errors.Is(err, unix.EAGAIN):
		return n.poll(fd, events, 0)
	case errors.Is(err, unix.EINTR):
		return nil
	}
	return err
}

// poll waits for the events of a file; an fd of -1 means no file. A limit of 0 means no
// limit.
func (n *Attempt) poll(fd int, events int16, limit time.Duration) error {
	files := []unix.PollFd{{Fd: int32(n.stop.r.Fd()), Events: unix.POLLIN}, {Fd: int32(fd), Events: events}} //nolint:gosec // descriptors
	var timeout *unix.Timespec
	if limit > 0 {
		t := unix.NsecToTimespec(int64(limit))
		timeout = &t
	}
	_, err := unix.Ppoll(files, timeout, nil)
	switch {
	case errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return os.NewSyscallError("poll", err)
	case files[0].Revents != 0:
		return errStopped
	case files[1].Revents&(unix.POLLERR|unix.POLLNVAL) != 0:
		return os.NewSyscallError("poll", unix.EBADF)
	}
	return nil
}

// End removes from the source what the attempt has read. It empties the attempt's pipe:
// what is left there was not read. begun says that Begin was called.
func (n *Attempt) End(begun bool) error {
	defer n.close()
	defer n.unlockSource()
	_ = n.stop.w.Close()
	if !begun {
		return nil
	}
	<-n.done
	n.source.keep()
	left := 0
	for n.err == nil {
		got, err := unix.Splice(int(n.to.r.Fd()), nil, int(n.source.taken.w.Fd()), nil, 1<<20, unix.SPLICE_F_NONBLOCK)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || got == 0 {
			n.err = n.settle(left)
			n.source.keep()
			break
		}
		left += int(got)
		_, n.err = io.CopyN(io.Discard, n.source.taken.r, int64(got)) //nolint:unconvert // an int on other processors
	}
	return n.err
}

func (n *Attempt) close() {
	n.to.close()
	n.stop.close()
}
