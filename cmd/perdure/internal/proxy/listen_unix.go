//go:build unix

package proxy

import (
	"context"
	"net"
	"os"
	"syscall"
)

// bindUnix creates the socket with mode 0600. The mode is set before anybody can connect: between bind and listen.
func bindUnix(ctx context.Context, path string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		failed := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) }) // the mode that bind gives to the file
		if failed != nil {
			return failed
		}
		return err
	}}
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}
