package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Paths lead to the upstream of their prefix, as they were sent.
func TestPathsLeadToTheirUpstream(t *testing.T) {
	script := httptestfault.Responses(httptestfault.Response{})
	root, bikes, deep := upstream(t, script), upstream(t, script), upstream(t, script)
	address := serve(t, proxy.Config{}, root.URL, "/bikes="+bikes.URL+"/v1/", "/bikes/deep="+deep.URL)
	for _, tt := range []struct {
		path string
		to   *httptestfault.Server
		want string
	}{
		{"/", root, "/"},
		{"/a%2Fb/%7e?x=%2F&;y", root, "/a%2Fb/%7e?x=%2F&;y"},
		{"/bikesx", root, "/bikesx"},
		{"/bikes", bikes, "/v1"},
		{"/bikes/", bikes, "/v1/"},
		{"/bikes/a//b", bikes, "/v1/a//b"},
		{"/bikes?q", bikes, "/v1?q"},
		{"/bikes/deep/x", deep, "/x"},
		{"/bikes/deep", deep, "/"},
		{"/.perdurex", root, "/.perdurex"},
	} {
		text, _ := raw(t, "tcp", address, "GET "+tt.path+" HTTP/1.1\r\nHost: "+address+"\r\nConnection: close\r\n\r\n")
		all := tt.to.Requests()
		if len(all) == 0 || all[len(all)-1].Target != tt.want {
			t.Errorf("%s: the upstream got %v; want %s; the response is %q", tt.path, all, tt.want, text)
		}
	}
	for _, bad := range []string{"ftp://x", "x", "https://user:pw@x", "/p=", "/.perdure=http://x", "/.perdure/x=http://x", "http://x?q", "http://x#f"} {
		if _, err := proxy.ParseUpstreams("--to", []string{bad}); err == nil || strings.Contains(err.Error(), "pw") {
			t.Errorf("--to %s: %v", bad, err)
		}
	}
}

// What leads a client to another place leads back through the proxy.
func TestURLsAndCookiesLeadBack(t *testing.T) {
	var h http.Header
	s := upstream(t, func(int, *http.Request) httptestfault.Response { return httptestfault.Response{Status: 201, Header: h} })
	address := serve(t, proxy.Config{}, s.URL, "/p="+s.URL+"/v1")
	for _, tt := range []struct{ path, name, value, want string }{
		{"/", "Location", s.URL + "/x?y=1#z", "/x?y=1#z"},
		{"/", "Location", strings.TrimPrefix(s.URL, "http:") + "/x", "/x"},
		{"/", "Location", s.URL, "/"},
		{"/", "Location", "/x", "/x"},
		{"/", "Location", "x", "x"},
		{"/", "Location", "https://example.com/x", "https://example.com/x"},
		{"/", "Location", strings.Replace(s.URL, "http", "https", 1) + "/x", strings.Replace(s.URL, "http", "https", 1) + "/x"},
		{"/", "Location", s.URL + "/a%2Fb", "/a%2Fb"},
		{"/p/a", "Location", s.URL + "/v1/b", "/p/b"},
		{"/p/a", "Location", "/v1/b?c", "/p/b?c"},
		{"/p/a", "Content-Location", "/v1/b", "/p/b"},
		{"/p/a", "Link", `<` + s.URL + `/v1/s?page=2>; rel="next", </v1/s>; rel="first", <?page=9>; rel="last"`, `</p/s?page=2>; rel="next", </p/s>; rel="first", <?page=9>; rel="last"`},
		{"/p/a", "Set-Cookie", "a=b; Domain=example.com; Path=/v1/x; Secure; HttpOnly", "a=b; Path=/p/x; HttpOnly"},
		{"/p/a", "Set-Cookie", "a=b; Path=/", "a=b; Path=/p"},
		{"/x", "Set-Cookie", "a=b; path=/; Max-Age=3", "a=b; Path=/; Max-Age=3"},
		{"/x", "Set-Cookie", "a=b", "a=b"},
	} {
		h = http.Header{tt.name: {tt.value}}
		res, _, _ := get(t, "http://"+address+tt.path)
		if got := res.Header.Get(tt.name); got != tt.want {
			t.Errorf("%s: %s: %s becomes %q; want %q", tt.path, tt.name, tt.value, got, tt.want)
		}
	}
}

// Everything else passes as it is, both ways: fields, trailers, 100 Continue, events as they come.
func TestEverythingElsePasses(t *testing.T) {
	next := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/events" {
			for range 2 {
				fmt.Fprint(w, "event\n\n")
				_ = http.NewResponseController(w).Flush()
				<-next
			}
			return
		}
		w.Header().Set("Trailer", "Sum")
		fmt.Fprintf(w, "%s|%s|%s|%s|%s|%q", body, r.Trailer.Get("Check"), r.Header.Get("X-Forwarded-For"), r.Header.Get("Forwarded"), r.Header.Get("User-Agent"), r.Header["Accept-Encoding"])
		w.Header().Set("Sum", "42")
	}))
	defer s.Close()
	address := serve(t, proxy.Config{}, s.URL)
	text, _ := raw(t, "tcp", address, "PUT / HTTP/1.1\r\nHost: "+address+"\r\nX-Forwarded-For: 192.0.2.7\r\nForwarded: for=x\r\nExpect: 100-continue\r\n"+
		"Connection: close\r\nTE: trailers\r\nTrailer: Check\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nCheck: 7\r\n\r\n")
	for _, want := range []string{"HTTP/1.1 100 Continue\r\n", "body|7|192.0.2.7|for=x||[]", "\r\nSum: 42\r\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in %q", want, text)
		}
	}
	res := send(t, request(t, http.MethodGet, "http://"+address+"/events", nil))
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for range 2 {
		if line, err := lines.ReadString('\n'); line != "event\n" || err != nil {
			t.Fatal(line, err)
		}
		_, _ = lines.ReadString('\n')
		next <- struct{}{} // the upstream waits until the event has arrived
	}
}

// A client that leaves ends its request at the upstream.
func TestAClientThatLeaves(t *testing.T) {
	came, left := make(chan struct{}), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(came)
		<-r.Context().Done()
		close(left)
	}))
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	req := request(t, http.MethodGet, "http://"+serve(t, proxy.Config{}, s.URL), nil).WithContext(ctx)
	go func() { <-came; cancel() }()
	if _, err := client(t).Do(req); err == nil {
		t.Error("a response")
	}
	<-left
}

// echo is an upstream that speaks another protocol after an upgrade, until its client closes.
func echo(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, buffered)
	}))
	t.Cleanup(s.Close)
	return s
}

// upgrade opens an upgraded connection, and returns a function that sends a line and returns what comes back.
func upgrade(t *testing.T, address string) (conn net.Conn, say func(string) string) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", address)
	back := bufio.NewReader(conn)
	res, err := http.ReadResponse(back, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(res, err)
	}
	return conn, func(line string) string {
		fmt.Fprint(conn, line)
		got, err := back.ReadString('\n')
		if err != nil {
			return err.Error()
		}
		return got
	}
}

// When it is told to end, the proxy accepts no more connections, and lets upgraded ones end, for Grace at most.
func TestTheEndLetsConnectionsEnd(t *testing.T) {
	for _, tt := range []struct {
		name  string
		grace time.Duration
		close bool // the client closes its connection
	}{
		{"the client ends", time.Hour, true},
		{"the client does not end", time.Millisecond, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := echo(t)
			l, err := proxy.Listen(t.Context(), "--listen", "127.0.0.1:0", false)
			if err != nil {
				t.Fatal(err)
			}
			c := proxy.Config{Grace: tt.grace, Policy: &retry.Policy{}, Log: slog.New(slog.DiscardHandler)}
			if c.Upstreams, err = proxy.ParseUpstreams("--to", []string{s.URL}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- proxy.New(c, l.Addr()).Serve(ctx, l) }()
			conn, say := upgrade(t, l.Addr().String())
			if got := say("one\n"); got != "one\n" {
				t.Fatal(got)
			}
			cancel()
			if tt.close {
				for { // until it accepts no more
					other, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
					if err != nil {
						break
					}
					other.Close()
				}
				if got := say("two\n"); got != "two\n" {
					t.Error(got)
				}
				conn.Close()
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if got := say("three\n"); got == "three\n" {
				t.Error("the connection outlived the proxy")
			}
		})
	}
}

// No secret of a request is in a log, a metric or a failure's page.
func TestSecretsOfRequestsAreNotShown(t *testing.T) {
	const secret = "s3cr3t-value"
	var logs bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := upstream(t, func(n int, r *http.Request) httptestfault.Response {
		switch r.URL.Path {
		case "/cut":
			return httptestfault.Resource{Body: bytes.Repeat([]byte("x"), 1<<20), ETag: fmt.Sprint(n)}.Respond(r).With(httptestfault.CutBody(100 << 10))
		case "/resume":
			return httptestfault.Resource{Body: bytes.Repeat([]byte("x"), 1<<20), ETag: `"a"`}.Respond(r).With(httptestfault.CutBody(300 << 10))
		}
		return httptestfault.Response{Fault: httptestfault.Reset()}
	})
	policy := &retry.Policy{MaxAttempts: 2, BaseDelay: time.Millisecond, Jitter: retry.NoJitter, Observe: retry.LogTo(log)}
	address := serve(t, proxy.Config{Policy: policy, Log: log}, s.URL)
	var shown strings.Builder
	for _, path := range []string{"/", "/cut", "/resume", "/", "/.perdure/metrics", "/.perdure/none"} {
		req := request(t, http.MethodGet, "http://"+address+path+"?X-Amz-Signature="+secret+"&token="+secret, nil)
		req.Header.Set("Authorization", "Bearer "+secret)
		req.Header.Set("Cookie", "session="+secret)
		res := send(t, req)
		_, _ = io.Copy(&shown, res.Body)
		res.Body.Close()
		fmt.Fprint(&shown, res.Header)
	}
	for name, text := range map[string]string{"log": logs.String(), "responses": shown.String()} {
		if strings.Contains(text, secret) {
			t.Errorf("the %s has the secret: %s", name, text)
		}
	}
	for _, event := range []string{"event=retrying", "event=resumed", "event=aborted", "event=client_retry"} {
		if !strings.Contains(logs.String(), event) {
			t.Errorf("%s is missing in %s", event, logs.String())
		}
	}
}
