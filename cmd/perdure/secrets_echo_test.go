//go:build unix

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/pipestest"
)

// echoes are responses that net/http can't read, or can't follow, and quotes. %s is a secret of the request.
var echoes = []string{
	"HTTP/1.1 200 OK\r\nX: %s\x01\r\n\r\n",
	"HTTP/1.1 %s\r\n\r\n",
	"%s\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n3\r\nabc\r\n0\r\nX: %s\x01\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n",
	"HTTP/1.1 503 %s\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 302 Found\r\nLocation: %s:x\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 302 Found\r\nLocation: http://[::%s/\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/%s?%[1]s=x&x=%[1]s\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 206 Partial Content\r\nContent-Range: %s\r\nContent-Length: 3\r\n\r\nabc",
	"HTTP/1.1 200 OK\r\nETag: \"%s\"\r\nContent-Length: 9\r\n\r\nabc",
	"HTTP/1.1 200 OK\r\nRepr-Digest: sha-256=:%s:\r\nContent-Length: 4\r\n\r\nabc",
	"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n<Error><Code>InvalidToken</Code><Token-0>%s</Token-0></Error>",
}

// echo starts a server that responds to /N as echoes[N] says, with the secret that the query's "of" names.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				req, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				user, password, _ := req.BasicAuth()
				value := map[string]string{
					"token": req.Header.Get("X-Amz-Security-Token"), "cookie": req.Header.Get("Cookie"), "apikey": req.Header.Get("X-Api-Key"),
					"key":       req.Header.Get("X-Amz-Server-Side-Encryption-Customer-Key"),
					"signature": req.URL.Query().Get("X-Amz-Signature"), "escaped": req.URL.RawQuery[strings.LastIndex(req.URL.RawQuery, "=")+1:],
					"user": user, "password": password, "field": req.Header.Get("Authorization"),
				}[req.URL.Query().Get("of")]
				var at int
				_, _ = fmt.Sscanf(req.URL.Path, "/%d", &at)
				_, _ = fmt.Fprintf(c, echoes[at], value)
			}()
		}
	}()
	return l.Addr().String()
}

// What a server sends back of a request's secrets where net/http quotes it is in nothing that the command writes, nor in the causes that Dagster is told. The value
// of a signed URL's parameter, and the user's name, used to be.
func TestEchoedSecretsStaySecret(t *testing.T) {
	addr := echo(t)
	const user, password = "hunter2user", "hunter2pass"
	forms := []string{"hunter2", "ahvudgvymn"} // the latter in Basic
	for _, flags := range [][]string{nil, {"--json", "--log-level=debug"}} {
		step := newStepWith(t, pipestest.Context("my_asset"), nil)
		dir, environ := step.dir, append(step.environ, "PERDURE_STATE="+step.dir, "PATH=")
		for at := range echoes {
			for _, of := range []string{"signature", "escaped", "user", "password", "field"} {
				url := fmt.Sprintf("http://%s:%s@%s/%d?of=%s&X-Amz-Signature=si%%2Fhunter2%%2bsig%%3D", user, password, addr, at, of)
				c := command(t, environ, append(flags, "copy", url, "got", "--max-attempts=2", "--base-delay=1ms", "--jitter=0", "--failure-threshold=off")...)
				var out bytes.Buffer
				c.Dir, c.Stdin, c.Stdout, c.Stderr = dir, nil, io.Discard, &out
				_ = c.Run() // the text tells
				for _, form := range forms {
					if strings.Contains(strings.ToLower(out.String()), form) {
						t.Errorf("%q with the %s: it says\n%.600s", echoes[at], of, &out)
					}
				}
				if c.ProcessState.ExitCode() == 0 {
					t.Errorf("%q with the %s: exit code 0", echoes[at], of)
				}
			}
		}
		for _, file := range withSecret(t, dir) {
			t.Errorf("a secret in %s", file)
		}
	}
}

// A status without a text of its own, as those of CDNs, leaves no space at the end of the line.
func TestStatusWithoutText(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(520) }))
	t.Cleanup(server.Close)
	out, _ := command(t, nil, "copy", server.URL, "got", "--max-attempts=1").CombinedOutput()
	if !strings.HasSuffix(string(out), "after 1 attempt: 520\n") {
		t.Errorf("it says %q", out)
	}
}
