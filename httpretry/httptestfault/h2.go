package httptestfault

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// NewH2 starts an HTTP/2 server without TLS, which can fail as a server of net/http never does: by [RefuseStream] and
// [GoAway]. Clients need prior knowledge of HTTP/2: see [Server.Transport].
//
// The server counts requests but does not decode them: the script's r is nil, and a [Request] has only Conn and At. Of a
// [Response] the server uses Status, Header (names and values of at most 126 bytes), Body (at most 16 KiB) and Fault.
// NewH2 panics if there is no free port.
func NewH2(script Script) *Server {
	return start(script, true)
}

// The frames of RFC 9113, section 6, that are used here.
const (
	frameData      = 0
	frameHeaders   = 1
	frameReset     = 3
	frameSettings  = 4
	framePing      = 6
	frameGoAway    = 7
	flagEndStream  = 1 // of data and headers
	flagAck        = 1 // of settings and pings
	flagEndHeaders = 4

	errInternal = 2
	errRefused  = 7
)

// serveH2 reads frames until the client or a response ends the connection.
func (s *Server) serveH2(conn net.Conn, number int) {
	preface := make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	if _, err := io.ReadFull(conn, preface); err != nil {
		return
	}
	w := h2Writer{conn}
	ok := w.frame(frameSettings, 0, 0, nil)
	for ok {
		var head [9]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		payload := make([]byte, binary.BigEndian.Uint32(head[:4])>>8)
		if _, err := io.ReadFull(conn, payload); err != nil {
			return
		}
		kind, flags, stream := head[3], head[4], binary.BigEndian.Uint32(head[5:])
		switch {
		case (kind == frameSettings || kind == framePing) && flags&flagAck == 0:
			if kind == frameSettings {
				payload = nil
			}
			ok = w.frame(kind, flagAck, 0, payload)
		case kind == frameHeaders:
			_, res := s.next(nil, number)
			ok = w.respond(res, stream)
		}
	}
}

type h2Writer struct{ conn net.Conn }

// respond sends a response. It reports whether the connection stays open.
func (w h2Writer) respond(res Response, stream uint32) bool {
	fault := res.Fault
	if fault.Kind == None || fault.Kind == Cut || fault.Kind == Stall {
		ok := w.frame(frameHeaders, flagEndHeaders, stream, h2Block(res)) && w.frame(frameData, 0, stream, fault.sent(res.Body))
		if fault.Kind == None {
			return ok && w.frame(frameData, flagEndStream, stream, nil)
		}
	}
	switch {
	case fault.Kind == RefuseStream:
		return w.frame(frameReset, 0, stream, []byte{0, 0, 0, errRefused})
	case fault.Kind == GoAway:
		return w.frame(frameGoAway, 0, 0, binary.BigEndian.AppendUint64(nil, uint64(max(stream, 2)-2)<<32))
	case fault.RST:
		return w.frame(frameReset, 0, stream, []byte{0, 0, 0, errInternal})
	}
	return fault.Kind == Stall || fault.Kind == Hang
}

// h2Block returns the header as literals without an index (RFC 7541, section 6.2.2).
func h2Block(res Response) []byte {
	var block bytes.Buffer
	literal := func(name, value string) {
		block.WriteByte(0)
		for _, s := range []string{name, value} {
			if len(s) > 126 {
				panic(fmt.Sprintf("httptestfault: header %q is longer than 126 bytes", s))
			}
			block.WriteByte(byte(len(s)))
			block.WriteString(s)
		}
	}
	literal(":status", fmt.Sprint(res.status()))
	for name, values := range res.Header {
		for _, value := range values {
			literal(string(bytes.ToLower([]byte(name))), value)
		}
	}
	return block.Bytes()
}

// frame sends a frame and reports whether it could.
func (w h2Writer) frame(kind, flags byte, stream uint32, payload []byte) bool {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	head = binary.BigEndian.AppendUint32(append(head, flags), stream)
	_, err := w.conn.Write(append(head, payload...))
	return err == nil
}
