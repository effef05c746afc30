package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

// raw sends text to the proxy at address, and returns what comes back until the connection ends, and how it ended. The proxy
// may respond to a part of text and close the connection before the rest is sent.
func raw(t *testing.T, network, address, text string) (string, error) {
	t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, text)
	got, err := io.ReadAll(conn)
	return string(got), err
}

// digested returns a header with the digest of body.
func digested(body string) http.Header {
	sum := sha256.Sum256([]byte(body))
	return http.Header{"Repr-Digest": {"sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"}}
}

// endedWell reports whether a client of that response would take it for complete: all of its Content-Length, the last chunk,
// or, without either, the end of the connection without an error.
func endedWell(t *testing.T, text string, end error) bool {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(text)), nil)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	delimited := res.ContentLength >= 0 || len(res.TransferEncoding) > 0
	return res.StatusCode == http.StatusOK && err == nil && (delimited || end == nil)
}

// A body that is not what the upstream means must never look complete, whatever marks its end.
func TestAnIncompleteOrCorruptBodyNeverLooksComplete(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 20<<10)
	for _, size := range []string{"", "short", long} {
		for _, tt := range []struct {
			name   string
			step   httptestfault.Response
			passes bool
		}{
			{"complete", httptestfault.Response{}, true},
			{"digest matches", httptestfault.Response{Header: digested(size)}, true},
			{"digest differs", httptestfault.Response{Header: digested("other")}, false},
			{"cut", httptestfault.Response{Fault: httptestfault.CutBody(len(size) / 2)}, false},
			{"reset", httptestfault.Response{Fault: httptestfault.ResetBody(len(size) / 2)}, false},
		} {
			for _, framing := range []httptestfault.Framing{0, httptestfault.Chunked, httptestfault.UntilClose} {
				if framing == httptestfault.UntilClose && tt.name == "cut" || framing == 0 && size == "" && tt.step.Fault != (httptestfault.Fault{}) {
					continue // without the proxy, no client could tell this from a complete body
				}
				step := tt.step
				step.Body, step.Framing = []byte(size), framing
				s := upstream(t, httptestfault.Responses(step))
				address := serve(t, proxy.Config{}, s.URL)
				for _, version := range []string{"1.0", "1.1"} {
					text, err := raw(t, "tcp", address, "GET / HTTP/"+version+"\r\nHost: "+address+"\r\nConnection: close\r\n\r\n")
					if endedWell(t, text, err) != tt.passes {
						t.Errorf("%s, %d bytes, framing %d, HTTP/%s: ends well: %v (%v); the response is %.400q", tt.name, len(size), framing, version, !tt.passes, err, text)
					}
					if tt.passes && !strings.Contains(text, size[max(len(size)-4, 0):]) {
						t.Errorf("%s, %d bytes, framing %d, HTTP/%s: the end of the body is missing", tt.name, len(size), framing, version)
					}
				}
			}
		}
	}
}

// A body that ends with the upstream's connection does not get a clean end of the proxy's making.
func TestABodyThatEndsWithTheConnectionStaysSo(t *testing.T) {
	s := upstream(t, httptestfault.Responses(httptestfault.Response{Body: []byte("body"), Framing: httptestfault.UntilClose}))
	address := serve(t, proxy.Config{}, s.URL)
	text, err := raw(t, "tcp", address, "GET / HTTP/1.1\r\nHost: "+address+"\r\n\r\n")
	head, body, _ := strings.Cut(text, "\r\n\r\n")
	if err != nil || body != "body" || strings.Contains(head, "chunked") || !strings.Contains(head, proxy.HeaderUnbounded) {
		t.Errorf("%q, %v", text, err)
	}
}

// On a Unix socket no reset tells a client of HTTP/1.0 that a body without a length was cut: it gets none.
func TestAUnixSocketRefusesBodiesWithoutAnEnd(t *testing.T) {
	s := upstream(t, httptestfault.Responses(httptestfault.Response{Body: []byte("body"), Framing: httptestfault.Chunked}))
	path := filepath.Join(t.TempDir(), "s")
	l, err := proxy.Listen(t.Context(), "--listen", "unix:"+path, false)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, proxy.Config{}, s.URL)
	for version, want := range map[string]string{"1.0": "502 Bad Gateway", "1.1": "200 OK"} {
		text, _ := raw(t, "unix", path, "GET / HTTP/"+version+"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		if !strings.Contains(text, want) {
			t.Errorf("HTTP/%s: %q; want %s", version, text, want)
		}
	}
}

// A body that breaks again and again is resumed, and arrives whole.
func TestABodyIsResumed(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	resource := httptestfault.Resource{Body: body, ETag: `"one"`}
	s := upstream(t, func(_ int, r *http.Request) httptestfault.Response {
		return resource.Respond(r).With(httptestfault.CutBody(100 << 10))
	})
	res, got, err := get(t, "http://"+serve(t, proxy.Config{}, s.URL)+"/")
	if err != nil || got != string(body) || len(s.Requests()) < 10 || res.Header.Get(proxy.HeaderAttempts) != "1" {
		t.Errorf("%d bytes in %d requests, %v, %v", len(got), len(s.Requests()), res.Header, err)
	}
}

// The reset of a connection is seen as one.
func TestARestartedBodyOfAnotherVersionIsAnError(t *testing.T) {
	body := strings.Repeat("x", 1<<20)
	s := upstream(t, func(n int, r *http.Request) httptestfault.Response {
		return httptestfault.Resource{Body: []byte(body), ETag: fmt.Sprintf(`"%d"`, n)}.Respond(r).With(httptestfault.CutBody(100 << 10))
	})
	_, got, err := get(t, "http://"+serve(t, proxy.Config{}, s.URL)+"/")
	if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d bytes, %v; want an incomplete body", len(got), err)
	}
}

// A body that a client breaks off or encodes wrongly is the client's fault, and was not processed.
func TestAMalformedRequestBodyIsTheClientsFault(t *testing.T) {
	s := upstream(t, httptestfault.Responses(httptestfault.Response{}))
	address := serve(t, proxy.Config{}, s.URL)
	for _, method := range []string{"POST", "PUT", "PATCH", "GET"} {
		for _, body := range []string{"zz\r\nhello\r\n0\r\n\r\n", "5\r\nhelloXX0\r\n\r\n", "5\nhello\n0\n\n", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"} {
			text, _ := raw(t, "tcp", address, method+" / HTTP/1.1\r\nHost: "+address+"\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"+body)
			if !strings.HasPrefix(text, "HTTP/1.1 400 ") || !strings.Contains(text, `"error":"bad_body"`) || strings.Contains(text, proxy.HeaderAmbiguous) {
				t.Errorf("%s with the body %q: %q", method, body, text)
			}
		}
	}
}

// A status that HTTP does not have becomes a response of the proxy's own, not none.
func TestAStatusBelow100IsAnUpstreamFailure(t *testing.T) {
	for _, status := range []string{"000", "001", "099"} {
		address := serve(t, proxy.Config{}, "http://"+rawUpstream(t, "HTTP/1.1 "+status+" X\r\nContent-Length: 2\r\n\r\nok"))
		text, _ := raw(t, "tcp", address, "GET / HTTP/1.1\r\nHost: "+address+"\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(text, "HTTP/1.1 502 ") || !strings.Contains(text, `"error":"upstream_failed"`) {
			t.Errorf("%s: %q", status, text)
		}
	}
}

// A response without a Content-Type stays without one: a client must not take the proxy's guess for the upstream's word.
func TestNoContentTypeIsGuessed(t *testing.T) {
	for _, head := range []string{"", "Content-Type: text/x\r\n"} {
		address := serve(t, proxy.Config{}, "http://"+rawUpstream(t, "HTTP/1.1 200 OK\r\n"+head+"Content-Length: 6\r\n\r\n<html>"))
		text, _ := raw(t, "tcp", address, "GET / HTTP/1.1\r\nHost: "+address+"\r\nConnection: close\r\n\r\n")
		if !strings.HasSuffix(text, "\r\n\r\n<html>") || !strings.Contains(text, head) || strings.Count(text, "Content-Type") != strings.Count(head, "Content-Type") {
			t.Errorf("the upstream sends %q, the client gets %q", head, text)
		}
	}
}

// rawUpstream starts a server that sends text to each request, and returns its address.
func rawUpstream(t *testing.T, text string) string {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.WriteString(conn, text)
			}
			conn.Close()
		}
	}()
	return l.Addr().String()
}
