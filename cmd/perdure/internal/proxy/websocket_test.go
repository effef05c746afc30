package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 6455 wants it
	"encoding/base64"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
)

// Frames of RFC 6455, with a length of 64 bits; those of a client are masked.
const (
	binaryFrame = 0x82
	closeFrame  = 0x88
	masked      = 0x80
)

var mask = [4]byte{0x12, 0x34, 0x56, 0x78}

// writeFrame writes a frame, masked if client is set.
func writeFrame(w io.Writer, kind byte, payload []byte, client bool) error {
	head := binary.BigEndian.AppendUint64([]byte{kind, 127}, uint64(len(payload)))
	body := bytes.Clone(payload)
	if client {
		head[1] |= masked
		head = append(head, mask[:]...)
		flip(body)
	}
	_, err := w.Write(append(head, body...))
	return err
}

// readFrame reads a frame of writeFrame.
func readFrame(r io.Reader) (kind byte, payload []byte, err error) {
	var head [10]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	isMasked := head[1]&masked != 0
	if isMasked {
		if _, err := io.ReadFull(r, make([]byte, len(mask))); err != nil {
			return 0, nil, err
		}
	}
	payload = make([]byte, min(binary.BigEndian.Uint64(head[2:]), 2<<20))
	_, err = io.ReadFull(r, payload)
	if isMasked {
		flip(payload)
	}
	return head[0], payload, err
}

func flip(body []byte) {
	for i := range body {
		body[i] ^= mask[i%len(mask)]
	}
}

// acceptKey is what a server returns for a Sec-WebSocket-Key.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // see above
	return base64.StdEncoding.EncodeToString(sum[:])
}

// webSocketEcho is a WebSocket server that sends each message back, and the close frame too.
func webSocketEcho(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", "websocket")
	w.Header().Set("Sec-WebSocket-Accept", acceptKey(r.Header.Get("Sec-WebSocket-Key")))
	w.WriteHeader(http.StatusSwitchingProtocols)
	conn, all, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	for {
		kind, payload, err := readFrame(all)
		if err != nil || writeFrame(conn, kind, payload, false) != nil || kind == closeFrame {
			return
		}
	}
}

// A WebSocket passes both ways: its handshake, messages of 1 MiB, and the close frames of both sides.
func TestAWebSocketPasses(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(webSocketEcho))
	defer s.Close()
	address := serve(t, proxy.Config{}, s.URL)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	_, err = io.WriteString(conn, "GET /chat HTTP/1.1\r\nHost: "+address+"\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+key+"\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatal(res, err)
	}
	for i := range 8 {
		message := bytes.Repeat([]byte{byte(i), 1, 2, 3, 0xff}, 1<<20/5)
		sent := make(chan error, 1)
		go func() { sent <- writeFrame(conn, binaryFrame, message, true) }()
		kind, got, err := readFrame(r)
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		if err != nil || kind != binaryFrame || !bytes.Equal(got, message) {
			t.Fatalf("message %d: kind %x, %d bytes, %v", i, kind, len(got), err)
		}
	}
	normal := []byte{0x03, 0xe8, 'b', 'y', 'e'} // 1000
	if err := writeFrame(conn, closeFrame, normal, true); err != nil {
		t.Fatal(err)
	}
	if kind, got, err := readFrame(r); kind != closeFrame || !bytes.Equal(got, normal) || err != nil {
		t.Errorf("kind %x, %q, %v; want the close frame", kind, got, err)
	}
	if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
		t.Errorf("after the close frame: %q, %v", rest, err)
	}
}
