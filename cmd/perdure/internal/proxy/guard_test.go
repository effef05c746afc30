package proxy_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// The proxy serves programs of this host for one address: no web page, no name that DNS lets point to it, no other host.
func TestTheProxyIsNotOpen(t *testing.T) {
	s := upstream(t, httptestfault.Responses(httptestfault.Response{Body: []byte("secret")}))
	address := serve(t, proxy.Config{Hosts: []string{"proxy.test"}}, s.URL)
	_, port, _ := net.SplitHostPort(address)
	for _, tt := range []struct {
		name, request string
		passes        bool
	}{
		{"the address", "GET / HTTP/1.1\r\nHost: " + address, true},
		{"localhost", "GET / HTTP/1.1\r\nHost: LOCALHOST:" + port, true},
		{"IPv6", "GET / HTTP/1.1\r\nHost: [::1]:" + port, true},
		{"a name of --host", "GET / HTTP/1.1\r\nHost: proxy.test:" + port, true},
		{"absolute form of itself", "GET http://" + address + "/ HTTP/1.1\r\nHost: " + address, true},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: " + address, true},
		{"another host", "GET / HTTP/1.1\r\nHost: example.com", false},
		{"another host at its port", "GET / HTTP/1.1\r\nHost: rebound.example:" + port, false},
		{"another port", "GET / HTTP/1.1\r\nHost: 127.0.0.1:1", false},
		{"no port", "GET / HTTP/1.1\r\nHost: 127.0.0.1", false},
		{"a suffix", "GET / HTTP/1.1\r\nHost: " + address + ".example", false},
		{"user in Host", "GET / HTTP/1.1\r\nHost: x@" + address, false},
		{"no Host", "GET / HTTP/1.0", false},
		{"an open proxy", "GET http://example.com/ HTTP/1.1\r\nHost: " + address, false},
		{"an open proxy for itself", "GET http://example.com/ HTTP/1.1\r\nHost: example.com", false},
		{"https", "GET https://" + address + "/ HTTP/1.1\r\nHost: " + address, false},
		{"CONNECT", "CONNECT " + address + " HTTP/1.1\r\nHost: " + address, false},
		{"CONNECT elsewhere", "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443", false},
		{"a web page", "GET / HTTP/1.1\r\nOrigin: http://example.com\r\nHost: " + address, false},
		{"a web page of no origin", "GET / HTTP/1.1\r\nOrigin: null\r\nHost: " + address, false},
		{"a web page at the address", "GET / HTTP/1.1\r\nOrigin: http://" + address + "\r\nHost: " + address, false},
		{"a second Sec-Fetch-Site", "GET / HTTP/1.1\r\nSec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\nHost: " + address, false},
		{"a list of Sec-Fetch-Site", "GET / HTTP/1.1\r\nSec-Fetch-Site: none, same-origin\r\nHost: " + address, false},
		{"an empty Sec-Fetch-Site", "GET / HTTP/1.1\r\nSec-Fetch-Site:\r\nHost: " + address, false},
		{"an empty Origin", "GET / HTTP/1.1\r\nOrigin:\r\nHost: " + address, false},
		{"typed by a user", "GET / HTTP/1.1\r\nSec-Fetch-Site: none\r\nHost: " + address, true},
		{"a list of Hosts", "GET / HTTP/1.1\r\nHost: " + address + ", example.com", false},
		{"an image of a web page", "GET / HTTP/1.1\r\nSec-Fetch-Site: cross-site\r\nHost: " + address, false},
		{"a WebSocket of a web page", "GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: http://example.com\r\nHost: " + address, false},
		{"two Hosts", "GET / HTTP/1.1\r\nHost: " + address + "\r\nHost: example.com", false},
		{"a length twice", "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\nHost: " + address, false},
		{"an unknown coding", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\nHost: " + address, false},
		{"a folded coding", "POST / HTTP/1.1\r\nTransfer-Encoding:\r\n chunked\r\nTransfer-Encoding: identity\r\nHost: " + address, false},
		{"a header too large", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 100<<10) + "\r\nHost: " + address, false},
		{"metrics for another host", "GET /.perdure/metrics HTTP/1.1\r\nHost: example.com", false},
	} {
		sent := len(s.Requests())
		text, _ := raw(t, "tcp", address, tt.request+"\r\nConnection: close\r\n\r\n")
		if passed := len(s.Requests()) > sent; passed != tt.passes || strings.Contains(text, "secret") && !tt.passes {
			t.Errorf("%s: passed: %v; the response is %q", tt.name, passed, text)
		}
	}
}

// Of a request with both lengths the upstream gets one, whose end both servers see at the same place.
func TestARequestIsNotTwo(t *testing.T) {
	s := upstream(t, httptestfault.Responses(httptestfault.Response{}))
	address := serve(t, proxy.Config{}, s.URL)
	text, _ := raw(t, "tcp", address, "POST / HTTP/1.1\r\nHost: "+address+"\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: "+address+"\r\n\r\n")
	if strings.Count(text, "HTTP/1.1 ") != 1 {
		t.Errorf("%q", text)
	}
	for _, r := range s.Requests() {
		if r.Target != "/" || len(r.Body) > 0 {
			t.Errorf("the upstream got %s with %q", r.Target, r.Body)
		}
	}
}

// An upgrade to HTTP/2 would be a tunnel to the upstream for requests that the proxy does not see.
func TestNoTunnelOfHTTP2(t *testing.T) {
	s := upstream(t, httptestfault.Responses(httptestfault.Response{Body: []byte("well")}))
	address := serve(t, proxy.Config{}, s.URL)
	for _, protocol := range []string{"h2c", "H2C"} {
		text, _ := raw(t, "tcp", address, "GET / HTTP/1.1\r\nHost: "+address+"\r\nConnection: close, Upgrade, HTTP2-Settings\r\nUpgrade: "+protocol+"\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
		if !strings.HasSuffix(text, "well") {
			t.Errorf("%q", text)
		}
	}
	for _, r := range s.Requests() {
		if len(r.Header["Upgrade"])+len(r.Header["Http2-Settings"]) > 0 {
			t.Errorf("the upstream got %v", r.Header)
		}
	}
}

// Without being told so, the proxy listens for this host only, and on a Unix socket for this user only.
func TestListen(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "example.com:0", "9000", "unix:"} {
		l, err := proxy.Listen(t.Context(), "--listen", address, false)
		if _, refused := errors.AsType[*setting.Error](err); !refused {
			l.Close()
			t.Errorf("%s: %v", address, err)
		}
	}
	l, err := proxy.Listen(t.Context(), "--listen", "0.0.0.0:0", true)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	path := filepath.Join(t.TempDir(), "s")
	open := func(path string) (net.Listener, error) {
		return proxy.Listen(t.Context(), "--listen", "unix:"+path, false)
	}
	if l, err = open(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || info.Mode().Type() != fs.ModeSocket {
		t.Error(info.Mode(), err)
	}
	if _, err := open(path); err == nil {
		t.Error("a second proxy took the socket of the first")
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as a process that is killed leaves it
	l.Close()
	if l, err = open(path); err != nil {
		t.Fatal("a socket that no process serves is in the way:", err)
	}
	l.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(file); err == nil {
		t.Error("a file was replaced by a socket")
	}
}

// A client of a Unix socket sends any of the usual names.
func TestAUnixSocketServes(t *testing.T) {
	s := upstream(t, httptestfault.Responses(httptestfault.Response{Body: []byte("well")}))
	path := filepath.Join(t.TempDir(), "s")
	l, err := proxy.Listen(t.Context(), "--listen", "unix:"+path, false)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, proxy.Config{}, s.URL)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	for url, status := range map[string]int{"http://localhost/": 200, "http://127.0.0.1:80/": 200, "http://example.com/": 421} {
		res, err := (&http.Client{Transport: transport}).Do(request(t, http.MethodGet, url, nil))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != status {
			t.Error(url, res.Status)
		}
	}
}
