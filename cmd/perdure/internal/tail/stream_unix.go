//go:build unix

package tail

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// open returns a stream to a file.
func open(to *os.File) (*stream, error) {
	out, in, err := terminal(to)
	if out == nil && err == nil {
		out, in, err = os.Pipe()
	}
	if err != nil {
		return nil, err
	}
	// A write to a broken pipe ends the process if its descriptor is 1 or 2: another
	// descriptor of the same file has an error instead.
	fd, err := unix.FcntlInt(to.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, errors.Join(err, in.Close(), out.Close())
	}
	return &stream{in: in, out: out, to: os.NewFile(uintptr(fd), to.Name()), ended: make(chan struct{})}, nil
}

// pass passes on until no process has in. If no process reads what is passed on, it closes
// out, so that the next write of the process fails, as without a stream.
func (s *stream) pass() {
	defer func() {
		_ = s.out.Close() // waits for settle: s.mu must not be held
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = s.to.Close()
		close(s.ended)
	}()
	conn, err := s.out.SyscallConn()
	if err != nil {
		return
	}
	buffer := make([]byte, 32<<10)
	for err == nil {
		failed := conn.Read(func(fd uintptr) bool {
			_, err = s.step(fd, buffer)
			return !errors.Is(err, syscall.EAGAIN)
		})
		if failed != nil {
			return
		}
	}
}

// step reads once without waiting, and passes on. After the last byte it returns io.EOF.
func (s *stream) step(fd uintptr, buffer []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err = unix.Read(int(fd), buffer)
	switch {
	case errors.Is(err, syscall.EINTR):
		return 0, nil
	case err != nil: // of a terminal that no process has: EIO
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, s.add(buffer[:n])
}

// most is how many bytes a pipe holds at most, unless a privileged process has enlarged it.
const most = 1 << 20

// settle passes on what was written before it was called.
func (s *stream) settle() {
	conn, err := s.out.SyscallConn()
	if err != nil {
		return
	}
	buffer := make([]byte, 32<<10)
	for n, passed := 0, 0; err == nil && passed < most; passed += n { // others may write without end
		if failed := conn.Control(func(fd uintptr) { n, err = s.step(fd, buffer) }); failed != nil {
			<-s.ended // pass has closed it
			return
		}
	}
}
