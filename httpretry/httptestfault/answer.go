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

// A writer plays one step on a connection. Its methods report whether the connection is still of use.
type writer struct {
	conn net.Conn
	in   *bufio.Reader
	step Step
}

// play sends the whole answer.
func (w *writer) play(r *http.Request) bool {
	if !w.wait(w.step.Delay) {
		return false
	}
	if w.step.Raw != nil {
		w.write(w.step.Raw)
		w.cut()
		return false
	}
	if w.step.Cut != None && w.step.At < 0 {
		return w.cut()
	}
	if !w.write(w.head(r)) || !w.body(r) {
		return false
	}
	if w.step.Cut != None {
		return w.cut()
	}
	return !w.step.Last && w.step.Framing != UntilClose && !r.Close
}

// head returns the status line and the headers.
func (w *writer) head(r *http.Request) []byte {
	h := w.step.Header.Clone()
	if h == nil {
		h = http.Header{}
	}
	proto := "HTTP/1.1"
	switch {
	case w.step.Framing == Chunked:
		h.Set("Transfer-Encoding", "chunked")
	case w.step.Framing == UntilClose:
		proto = "HTTP/1.0"
	case h.Get("Content-Length") == "" && hasBody(w.step.status()):
		h.Set("Content-Length", strconv.Itoa(len(w.step.Body)))
	}
	if w.step.Last || r.Close {
		h.Set("Connection", "close")
	}
	if _, set := h["Date"]; !set {
		h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "%s %d %s\r\n", proto, w.step.status(), http.StatusText(w.step.status()))
	_ = h.Write(&head) // to memory: it cannot fail
	head.WriteString("\r\n")
	return head.Bytes()
}

// body sends the body, or as much of it as the cut leaves.
func (w *writer) body(r *http.Request) bool {
	if r.Method == http.MethodHead || !hasBody(w.step.status()) {
		return true
	}
	if !w.wait(w.step.Late) {
		return false
	}
	rest := w.step.sent()
	for len(rest) > 0 {
		n := len(rest)
		if w.step.Slice > 0 {
			n = min(n, w.step.Slice)
		}
		if !w.piece(rest[:n]) {
			return false
		}
		rest = rest[n:]
		if len(rest) > 0 && !w.wait(w.step.Gap) {
			return false
		}
	}
	if w.step.Framing == Chunked && w.step.Cut == None {
		return w.write([]byte("0\r\n\r\n"))
	}
	return true
}

// piece sends a part of the body in its framing.
func (w *writer) piece(p []byte) bool {
	if w.step.Framing != Chunked {
		return w.write(p)
	}
	return w.write(fmt.Appendf(nil, "%x\r\n%s\r\n", len(p), p))
}

func (w *writer) write(p []byte) bool {
	_, err := w.conn.Write(p)
	return err == nil
}

// cut breaks off as the step says.
func (w *writer) cut() bool {
	tcp, ok := w.conn.(*net.TCPConn)
	switch {
	case w.step.Cut == RST && ok:
		_ = tcp.SetLinger(0) // an error here means that the connection is gone already
	case w.step.Cut == Stall:
		w.leave(0)
	}
	return false
}

// wait lets d pass, or less if the client leaves.
func (w *writer) wait(d time.Duration) bool {
	return d <= 0 || w.leave(d)
}

// leave waits until the client leaves, for at most d; 0 means for as long as it takes.
// It reports whether the client is still there. What the client sends meanwhile stays to be read.
func (w *writer) leave(d time.Duration) bool {
	if d > 0 {
		_ = w.conn.SetReadDeadline(time.Now().Add(d)) // fails only if the connection is closed, as Peek then says
		defer func() { _ = w.conn.SetReadDeadline(time.Time{}) }()
	}
	for ahead := w.in.Buffered() + 1; ahead <= w.in.Size(); ahead++ {
		if _, err := w.in.Peek(ahead); err != nil {
			return isTimeout(err)
		}
	}
	_, err := io.Copy(io.Discard, w.in) // a client that sends this much while it waits is not after an answer
	return isTimeout(err)
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

func hasBody(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
