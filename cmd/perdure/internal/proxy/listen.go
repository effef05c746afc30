package proxy

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/internal/upstream"
)

// Listen opens the socket that text names: HOST:PORT, or unix:PATH. A host other than loopback is refused unless remote is
// set. An error names field.
func Listen(ctx context.Context, field, text string, remote bool) (net.Listener, error) {
	if err := upstream.Address(field, text); err != nil {
		return nil, err
	}
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		l, err := listenUnix(ctx, field, path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			err = setting.Bad(field, text, "unix:PATH, with a path in a directory that exists")
		}
		return l, err
	}
	host, _, _ := net.SplitHostPort(text)
	if ip := net.ParseIP(host); !remote && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, setting.Bad(field, text, "a loopback address, such as 127.0.0.1:9000; with --allow-remote any: then all hosts that reach it can use it")
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", text)
	if _, unknown := errors.AsType[*net.DNSError](err); unknown || errors.Is(err, syscall.EADDRNOTAVAIL) {
		return nil, setting.Bad(field, text, "an address of this host")
	}
	return l, err
}

// listenUnix opens a Unix socket that only this user can connect to. A socket of that name that no process serves is replaced.
func listenUnix(ctx context.Context, field, path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, setting.Bad(field, "unix:"+path, "the path of a socket, or of nothing: a file of this name exists")
		}
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "unix", path)
		if err == nil {
			conn.Close()
			return nil, setting.Bad(field, "unix:"+path, "a socket that no other process serves")
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, err
		}
		if err := os.Remove(path); err != nil { // a process that was killed has left it
			return nil, err
		}
	}
	return bindUnix(ctx, path)
}

const defaultGrace = 30 * time.Second

// Serve serves clients on the listeners, which have the addresses of New, until ctx ends. Then it accepts no more, and returns once all requests and upgraded connections
// have ended, at most after the Config's Grace.
func (p *Proxy) Serve(ctx context.Context, listeners ...net.Listener) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	server := &http.Server{
		Handler: p, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		DisableGeneralOptionsHandler: true, // OPTIONS * is for the upstream
		ErrorLog:                     log.New(io.Discard, "", 0),
		BaseContext:                  func(l net.Listener) context.Context { return context.WithValue(base, siteKey{}, p.at(l.Addr())) },
		ConnContext:                  func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	ended := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { ended <- server.Serve(l) }()
	}
	select {
	case err := <-ended:
		_ = server.Close() // the other listeners too
		return err
	case <-ctx.Done():
	}
	bound, stop := context.WithTimeout(base, cmp.Or(p.config.Grace, defaultGrace))
	defer stop()
	_ = server.Shutdown(bound) // an error: the time is over
	p.wait(bound)
	cancel() // which closes what is left
	closed, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	p.wait(closed)
	return server.Close()
}

// wait waits until no request and no upgraded connection is left, or ctx ends.
func (p *Proxy) wait(ctx context.Context) {
	select {
	case <-p.active.none():
	case <-ctx.Done():
	}
}

// A tally counts what is under way. Unlike a sync.WaitGroup, it may rise from zero while somebody waits: requests may begin on
// open connections until the server is closed. The zero tally is ready for use. It is safe for concurrent use.
type tally struct {
	mu   sync.Mutex
	n    int
	zero chan struct{} // closed when n is 0; nil if no caller waits
}

func (t *tally) add(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n += n; t.n == 0 && t.zero != nil {
		close(t.zero)
		t.zero = nil
	}
}

// none returns a channel that is closed once nothing is under way.
func (t *tally) none() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.zero == nil {
		t.zero = make(chan struct{})
	}
	zero := t.zero
	if t.n == 0 {
		close(zero)
		t.zero = nil
	}
	return zero
}
