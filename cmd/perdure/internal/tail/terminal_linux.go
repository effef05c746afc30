package tail

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// terminal returns a new terminal as wide as the terminal to, so that a process which
// writes to it behaves as on a terminal. It returns nil if to is no terminal.
func terminal(to *os.File) (out, in *os.File, err error) {
	settings, err := unix.IoctlGetTermios(int(to.Fd()), unix.TCGETS)
	if err != nil {
		return nil, nil, nil // it is no terminal
	}
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, nil // there are no other terminals: a pipe will do
	}
	out = os.NewFile(uintptr(fd), "/dev/ptmx")
	defer func() {
		if err != nil {
			_ = out.Close()
			out = nil
		}
	}()
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return out, nil, err
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return out, nil, err
	}
	if in, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return out, nil, err
	}
	settings.Oflag &^= unix.OPOST // the real terminal does that
	_ = unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, settings)
	if size, err := unix.IoctlGetWinsize(int(to.Fd()), unix.TIOCGWINSZ); err == nil {
		_ = unix.IoctlSetWinsize(int(in.Fd()), unix.TIOCSWINSZ, size)
	}
	return out, in, nil
}
