package httptestfault

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// A writer sends one response on a connection. Its methods report whether the connection is still usable.
type writer struct {
	conn net.Conn
	in   *bufio.Reader
	res  Response
}

// play sends the response up to its fault.
func (w *writer) play(r *http.Request) bool {
	if !w.wait(w.res.Delay) {
		return false
	}
	if w.res.Raw != nil {
		w.write(w.res.Raw)
		w.cut()
		return false
	}
	switch kind := w.res.Fault.Kind; {
	case kind == Drop, kind == Hang:
		return w.cut()
	case !w.write(w.head(r)) || !w.body(r):
		return false
	case kind != None:
		return w.cut()
	}
	return !w.res.Last && w.res.Framing != UntilClose && !r.Close
}

// head returns the status line and the header.
func (w *writer) head(r *http.Request) []byte {
	h := w.res.Header.Clone()
	if h == nil {
		h = http.Header{}
	}
	proto := "HTTP/1.1"
	switch {
	case w.res.Framing == Chunked:
		h.Set("Transfer-Encoding", "chunked")
	case w.res.Framing == UntilClose:
		proto = "HTTP/1.0"
	case h.Get("Content-Length") == "" && hasBody(w.res.status()):
		h.Set("Content-Length", strconv.Itoa(len(w.res.Body)))
	}
	if w.res.Last || r.Close {
		h.Set("Connection", "close")
	}
	if _, set := h["Date"]; !set {
		h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "%s %d %s\r\n", proto, w.res.status(), http.StatusText(w.res.status()))
	_ = h.Write(&head) // to memory: it cannot fail
	head.WriteString("\r\n")
	return head.Bytes()
}

// body sends the body, or as much of it as the fault leaves.
func (w *writer) body(r *http.Request) bool {
	if r.Method == http.MethodHead || !hasBody(w.res.status()) {
		return true
	}
	if !w.wait(w.res.Late) {
		return false
	}
	rest := w.res.Fault.sent(w.res.Body)
	for len(rest) > 0 {
		n := len(rest)
		if w.res.Slice > 0 {
			n = min(n, w.res.Slice)
		}
		if !w.piece(rest[:n]) {
			return false
		}
		rest = rest[n:]
		if len(rest) > 0 && !w.wait(w.res.Gap) {
			return false
		}
	}
	if w.res.Framing == Chunked && w.res.Fault.Kind == None {
		return w.write([]byte("0\r\n\r\n"))
	}
	return true
}

// piece sends a part of the body in its framing.
func (w *writer) piece(p []byte) bool {
	if w.res.Framing != Chunked {
		return w.write(p)
	}
	return w.write(fmt.Appendf(nil, "%x\r\n%s\r\n", len(p), p))
}

func (w *writer) write(p []byte) bool {
	_, err := w.conn.Write(p)
	return err == nil
}

// cut breaks off as the fault says.
func (w *writer) cut() bool {
	fault := w.res.Fault
	if fault.Kind == Stall || fault.Kind == Hang {
		w.awaitLeave(0)
	}
	if tcp, ok := w.conn.(*net.TCPConn); ok && fault.RST {
		_ = tcp.SetLinger(0) // an error here means that the connection has already ended
	}
	return false
}

// wait lets d pass, or less if the client leaves.
func (w *writer) wait(d time.Duration) bool {
	return d <= 0 || w.awaitLeave(d)
}

// awaitLeave waits until the client leaves, for at most d; 0 means without a limit.
// It reports whether the client is still there. What the client sends meanwhile stays to be read.
func (w *writer) awaitLeave(d time.Duration) bool {
	if d > 0 {
		_ = w.conn.SetReadDeadline(time.Now().Add(d)) // fails only if the connection is closed, as Peek then says
		defer func() { _ = w.conn.SetReadDeadline(time.Time{}) }()
	}
	for ahead := w.in.Buffered() + 1; ahead <= w.in.Size(); ahead++ {
		if _, err := w.in.Peek(ahead); err != nil {
			return isTimeout(err)
		}
	}
	_, err := io.Copy(io.Discard, w.in) // a client that sends this much does not wait for a response
	return isTimeout(err)
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

func hasBody(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
