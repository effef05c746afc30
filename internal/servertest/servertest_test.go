package servertest_test

import (
	"context"
	"net"
	"strconv"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/servertest"
)

func TestAwait(t *testing.T) {
	port, err := servertest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	ended := make(chan struct{})
	close(ended)
	if err := servertest.Await(t.Context(), address, ended); err == nil {
		t.Error("no error for a server that has ended")
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := servertest.Await(over, address, nil); err == nil {
		t.Error("no error when the context is done")
	}
	ready := make(chan error, 1)
	go func() { ready <- servertest.Await(t.Context(), address, nil) }()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := <-ready; err != nil {
		t.Errorf("a server that listens: %v", err)
	}
}

// Ports of which the one above is taken are passed over.
func TestFreePort(t *testing.T) {
	for range 50 {
		port, err := servertest.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []int{port, port + 10_000} {
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
			if err != nil {
				t.Errorf("port %d is not free: %v", p, err)
				continue
			}
			defer l.Close()
		}
	}
}
