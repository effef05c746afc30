//go:build !unix

package proxy

import (
	"context"
	"net"
)

// bindUnix creates the socket.
func bindUnix(ctx context.Context, path string) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, "unix", path)
}
