package servertest_test

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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

// failed is a test that may fail without this one doing so.
type failed struct {
	testing.TB
	text string
}

func (f *failed) Helper() {}

func (f *failed) Fatalf(format string, args ...any) {
	f.text = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, looks := time.Now(), 0
		servertest.Until(t, "the third look", func() bool { looks++; return looks == 3 })
		if looks != 3 || time.Since(begin) > time.Second {
			t.Errorf("%d looks in %v, want 3 within a second", looks, time.Since(begin))
		}
		var f failed
		var group sync.WaitGroup
		group.Go(func() { servertest.Until(&f, "the end of the world", func() bool { return false }) })
		group.Wait()
		if f.text != "not within 2m0s: the end of the world" {
			t.Errorf("the test fails with %q", f.text)
		}
	})
}

// Repeat calls until its context is done, and not at all if it is done before.
func TestRepeat(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	servertest.Repeat(ctx, func() {
		if n++; n == 3 {
			cancel()
		}
	})
	servertest.Repeat(ctx, func() { n++ })
	if n != 3 {
		t.Errorf("%d calls, want 3", n)
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

// A port is returned once, though no server listens on it: the one that asked for it may take long to start.
func TestFreePortIsReserved(t *testing.T) {
	seen := map[int]bool{}
	for range 200 {
		port, err := servertest.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] || seen[port+10_000] {
			t.Errorf("port %d is returned twice", port)
		}
		seen[port], seen[port+10_000] = true, true
	}
}
