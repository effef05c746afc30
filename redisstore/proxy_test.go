package redisstore_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// A proxy is a bad road to a server: it can be slow, and it can swallow
// everything without a word.
type proxy struct {
	ctx      context.Context
	listener net.Listener
	to       string

	mu    sync.Mutex
	delay time.Duration // each way
	cut   bool
	conns []net.Conn
}

func startProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ctx: t.Context(), listener: l, to: to}
	go p.serve()
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range p.conns {
			c.Close()
		}
	})
	return p
}

func (p *proxy) url() string { return "redis://user:hunter2@" + p.listener.Addr().String() }

// set sets the delay of the road, each way, or cuts the road.
func (p *proxy) set(delay time.Duration, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay, p.cut = delay, cut
}

func (p *proxy) state() (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.delay, p.cut
}

func (p *proxy) serve() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns = append(p.conns, in)
		p.mu.Unlock()
		out, err := new(net.Dialer).DialContext(p.ctx, "tcp", p.to)
		if err != nil {
			in.Close()
			continue
		}
		go p.carry(in, out)
		go p.carry(out, in)
	}
}

// delayUntil returns at due, or when the proxy ends.
func (p *proxy) delayUntil(due time.Time) {
	ctx, cancel := context.WithDeadline(p.ctx, due)
	defer cancel()
	<-ctx.Done()
}

// carry copies what is sent, after the delay. What is sent while the road is cut is lost,
// and so is the rest of the connection, though neither end is notified.
func (p *proxy) carry(from, to net.Conn) {
	type parcel struct {
		data []byte
		due  time.Time
	}
	road := make(chan parcel, 1024)
	go func() {
		defer to.Close()
		for parcel := range road {
			p.delayUntil(parcel.due)
			if _, err := to.Write(parcel.data); err != nil {
				return
			}
		}
	}()
	defer close(road)
	buf, lost := make([]byte, 1<<16), false
	for {
		n, err := from.Read(buf)
		delay, cut := p.state()
		if lost = lost || cut; n > 0 && !lost {
			road <- parcel{append([]byte(nil), buf[:n]...), time.Now().Add(delay)}
		}
		if err != nil {
			return
		}
	}
}
