package lend

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Loan is what one attempt is given.
type Loan struct {
	*Lender

	to    pipe // of the attempt
	lent  int  // bytes at the end of it that are in the source as well
	small bool // it has room for one page
	stop  pipe // its end is that of the attempt
	done  chan struct{}
	err   error // of run, when done is closed
}

var errStopped = errors.New("the attempt has ended")

// Lend returns the standard input of one attempt: what is recorded, and then what is
// in the source. There is one at a time.
func (l *Lender) Lend() (*Loan, error) {
	n := &Loan{Lender: l, done: make(chan struct{})}
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
func (n *Loan) File() *os.File { return n.to.r }

// Begin begins to feed the attempt, which has its end of the file.
func (n *Loan) Begin() { go n.run() }

// run gives the attempt all that there is, until it ends.
func (n *Loan) run() {
	defer close(n.done)
	defer func() { _ = n.to.w.Close() }()
	err := n.replay()
	for err == nil {
		err = n.next()
	}
	if err != io.EOF && err != errStopped { //nolint:errorlint // as next returns them
		n.err = err
	}
}

// replay gives the attempt what is recorded.
func (n *Loan) replay() error {
	for at := int64(0); ; {
		got, err := n.record.At(n.buffer, at)
		switch {
		case err != nil:
			return err
		case got == 0:
			return n.drained()
		}
		for p := n.buffer[:got]; len(p) > 0; {
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

// next gives the attempt some of the source, and takes it from there when it was
// read.
func (n *Loan) next() error {
	if n.small {
		_, _ = unix.FcntlInt(n.to.w.Fd(), unix.F_SETPIPE_SZ, 16*os.Getpagesize())
		n.small = false
	}
	for n.lent == 0 {
		if err := n.alone(); err != nil {
			return err
		}
		got, err := unix.Tee(n.source, int(n.to.w.Fd()), 1<<20, unix.SPLICE_F_NONBLOCK)
		n.keep() // while the attempt reads
		switch {
		case err != nil:
			n.share()
			if err = n.again(err, n.source, unix.POLLIN); err != nil {
				return err
			}
		case got == 0:
			n.share()
			return io.EOF
		default:
			n.lent = int(got)
		}
	}
	if err := n.drained(); err != nil {
		return err
	}
	defer n.share()
	return n.settle(0)
}

// alone waits until no other process of ours lends what is in the source: both would
// lend the same.
func (n *Loan) alone() error {
	for n.lock >= 0 && errors.Is(unix.Flock(n.lock, unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK) {
		if err := n.poll(-1, 0, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// share lets others lend.
func (n *Loan) share() {
	if n.lock >= 0 {
		_ = unix.Flock(n.lock, unix.LOCK_UN)
	}
}

// settle takes from the source what the attempt has read, which has left so many
// bytes.
func (n *Loan) settle(left int) error {
	read := max(n.lent-left, 0)
	n.lent -= read
	return n.take(read)
}

// drained waits until the attempt has read all that is in its pipe.
func (n *Loan) drained() error {
	const soon = time.Millisecond
	for begun := time.Now(); ; {
		left, err := unix.IoctlGetInt(int(n.to.r.Fd()), unix.TIOCINQ)
		if left == 0 || err != nil {
			return os.NewSyscallError("ioctl", err)
		}
		waited := time.Since(begun)
		if waited < soon {
			err = n.poll(-1, 0, 20*time.Microsecond+waited/8)
		} else if err = n.settle(left); err == nil { // whoever writes to the source may wait for that
			n.keep()
			err = n.outwait(min(waited/8, 50*time.Millisecond))
		}
		if err != nil {
			return err
		}
	}
}

// outwait waits until the attempt has read on, or for that time. The system tells
// that a pipe is empty if it has room for one page, as it has for what is written.
func (n *Loan) outwait(limit time.Duration) error {
	_, err := unix.FcntlInt(n.to.w.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize())
	if err != nil { // there are more in it
		return n.poll(-1, 0, limit)
	}
	n.small = true
	return n.poll(int(n.to.w.Fd()), unix.POLLOUT, 0)
}

// again waits for the file if that is what err wants before another try.
func (n *Loan) again(err error, fd int, events int16) error {
	switch {
	case errors.Is(err, unix.EAGAIN):
		return n.poll(fd, events, 0)
	case errors.Is(err, unix.EINTR):
		return nil
	}
	return err
}

// poll waits for the events of a file, if it is not -1, and no longer than limit, if
// that is not 0.
func (n *Loan) poll(fd int, events int16, limit time.Duration) error {
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

// End takes from the source what the attempt has read, and no more: what nobody
// can read from its pipe any more, because that is emptied here, was not read.
func (n *Loan) End(begun bool) error {
	defer n.close()
	defer n.share()
	_ = n.stop.w.Close()
	if !begun {
		return nil
	}
	<-n.done
	n.keep()
	left := 0
	for n.err == nil {
		got, err := unix.Splice(int(n.to.r.Fd()), nil, int(n.taken.w.Fd()), nil, 1<<20, unix.SPLICE_F_NONBLOCK)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || got == 0 {
			n.err = n.settle(left)
			n.keep()
			break
		}
		left += int(got)
		_, n.err = io.CopyN(io.Discard, n.taken.r, int64(got)) //nolint:unconvert // an int on other processors
	}
	return n.err
}

func (n *Loan) close() {
	n.to.close()
	n.stop.close()
}
