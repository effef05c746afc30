//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// sayingWhere is an upstream that responds with its name and the path, and redirects /to to the URL of its query.
func sayingWhere(t *testing.T, name string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusFound)
		}
		fmt.Fprint(w, name, " ", r.URL.Path)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// An upstream may have an address of its own, from --to or from the policy file. Each address has the rules of --listen.
func TestUpstreamsByAddress(t *testing.T) {
	one, two, three := sayingWhere(t, "one"), sayingWhere(t, "two"), sayingWhere(t, "three")
	socket := filepath.Join(t.TempDir(), "s")
	file := filepath.Join(t.TempDir(), "policies.yaml")
	section := fmt.Sprintf("proxy:\n  /p: {to: %q}\n  127.0.0.1:0: {to: \"%s/v1\", policy: service}\n  unix:%s: {to: %q}\n", one, two, socket, three)
	if err := os.WriteFile(file, []byte(section), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--config", file},
		{"--to", "/p=" + one, "--to", "127.0.0.1:0=" + two + "/v1,policy=service", "--to", "unix:" + socket + "=" + three},
	} {
		c, url, log := serveProxy(t, args...)
		eventually(t, "all addresses", func() bool { return strings.Count(log.String(), "Serving ") == 3 })
		first := strings.TrimPrefix(url, "http://")
		own := regexp.MustCompile(`Serving (\S+:\d+)/ for`).FindStringSubmatch(log.String())[1]
		if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
			t.Error(info, err)
		}
		for _, tt := range []struct{ network, address, host, path, header, want string }{
			{"tcp", first, first, "/p/a", "", "one /a"},
			{"tcp", first, first, "/a", "", "404 "},
			{"tcp", own, own, "/p/a", "", "two /v1/p/a"},
			{"tcp", own, own, "/.perdure/healthz", "", "ok"},
			{"tcp", own, "localhost:" + own[strings.LastIndex(own, ":")+1:], "/", "", "two /v1/"},
			{"unix", socket, "localhost", "/a", "", "three /a"},
			{"tcp", own, first, "/", "", "421 "},
			{"tcp", first, own, "/p/", "", "421 "},
			{"tcp", own, "example.com", "/", "", "421 "},
			{"unix", socket, "example.com", "/", "", "421 "},
			{"tcp", own, own, "/", "Origin: http://" + own + "\r\n", "403 "},
			{"unix", socket, "localhost", "/", "Sec-Fetch-Site: cross-site\r\n", "403 "},
			{"tcp", own, own, "/?to=" + two + "/v1/x", "", "Location: /x\r\n"},
			{"tcp", own, own, "/?to=" + one + "/x", "", "Location: " + url + "/p/x\r\n"},
			{"tcp", first, first, "/p/?to=" + two + "/v1/x", "", "Location: http://" + own + "/x\r\n"},
			{"tcp", first, first, "/p/?to=" + two + "/x", "", "Location: " + two + "/x\r\n"},
			{"tcp", first, first, "/p/?to=" + three + "/x", "", "Location: " + three + "/x\r\n"},
			{"unix", socket, "localhost", "/?to=" + two + "/v1/x", "", "Location: http://" + own + "/x\r\n"},
		} {
			text := exchanged(t, tt.network, tt.address, "GET "+tt.path+" HTTP/1.1\r\nHost: "+tt.host+"\r\n"+tt.header+"Connection: close\r\n\r\n")
			if !strings.Contains(text, tt.want) {
				t.Errorf("%s, Host: %s, %s%s: %q, want %q\n%s", tt.address, tt.host, tt.path, tt.header, text, tt.want, log)
			}
		}
		if err := c.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(); err != nil {
			t.Errorf("%v\n%s", err, log)
		}
		if _, err := os.Stat(socket); err == nil {
			t.Error("the socket is left behind")
		}
	}
}

// Without an upstream for it, --listen is not opened.
func TestListenIsForSharedUpstreams(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, url, log := serveProxy(t, "--listen", l.Addr().String(), "--to", "127.0.0.1:0="+sayingWhere(t, "one"))
	if _, body := getFrom(t, url+"/a"); body != "one /a" {
		t.Errorf("%q\n%s", body, log)
	}
}

// exchanged sends text to an address, and returns what comes back until the connection ends.
func exchanged(t *testing.T, network, address, text string) string {
	t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(context.Background(), network, address)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Error(err)
	}
	got, _ := io.ReadAll(conn) // a reset is an end too
	return string(got)
}

// A client that repeats a request after the proxy's own attempts is counted and warned of once, by the command as well: an AWS SDK
// by its header, others by the same request shortly after its failure.
func TestAClientThatRepeatsIsCounted(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/well" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(s.Close)
	_, url, log := serveProxy(t, "--to", s.URL, "--preset", "default", "--base-delay", "1ms", "--jitter", "0", "--max-attempts", "2", "--failure-threshold", "off")
	address := strings.TrimPrefix(url, "http://")
	for _, step := range []struct {
		request string
		count   int // after the request
	}{
		{"GET /a", 0},
		{"GET /a", 1},
		{"GET /a", 2},
		{"GET /b", 2},
		{"HEAD /b", 2},
		{"GET /b?page=2", 2},
		{"PUT /p", 2},
		{"PUT /p", 3},
		{"GET /well", 3},
		{"GET /well", 3},
		{"GET /c amz-sdk-request: attempt=1; max=3", 3},
		{"GET /d amz-sdk-request: attempt=2; max=3", 4},
	} {
		line, header, _ := strings.Cut(strings.Replace(step.request, " ", "\x00", 1), " ")
		if header != "" {
			header += "\r\n"
		}
		exchanged(t, "tcp", address, strings.Replace(line, "\x00", " ", 1)+" HTTP/1.1\r\nHost: "+address+"\r\n"+header+"Connection: close\r\n\r\n")
		_, text := getFrom(t, url+"/.perdure/metrics")
		if want := fmt.Sprintf("\nperdure_proxy_client_retries_total %d\n", step.count); !strings.Contains(text, want) {
			t.Errorf("after %s: %q is missing in %s", step.request, want, text)
		}
	}
	if n := strings.Count(log.String(), "set the client's own attempts to one"); n != 1 {
		t.Errorf("%d warnings: %s", n, log)
	}
}
