//go:build integration && unix

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

// startProxy starts perdure proxy in front of an upstream. It returns the process, its URL and its log.
func startProxy(t *testing.T, upstream string) (c *exec.Cmd, url string, log *text) {
	t.Helper()
	return serveProxy(t, "--to", upstream, "--preset", "default", "--base-delay", "10ms", "--jitter", "0", "--failure-threshold", "100")
}

// faulty is an upstream like those that clients meet: /large is cut each 5 MiB, /digest does not match its digest, /changed
// is another version after each cut, /flaky fails twice, /delete and /create lose the response of what they have done.
func faulty(t *testing.T, large []byte) *httptestfault.Server {
	t.Helper()
	seen := map[string]int{}
	sum := sha256.Sum256([]byte("another body"))
	s := httptestfault.New(func(_ int, r *http.Request) httptestfault.Response {
		seen[r.Method+r.URL.Path]++
		n := seen[r.Method+r.URL.Path]
		switch path := r.URL.Path; {
		case path == "/large":
			return httptestfault.Resource{Body: large, ETag: `"large"`}.Respond(r).With(httptestfault.CutBody(5 << 20))
		case path == "/digest":
			return httptestfault.Response{Body: large[:1<<20], Header: http.Header{"Repr-Digest": {"sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"}}}
		case path == "/changed":
			return httptestfault.Resource{Body: large, ETag: fmt.Sprintf(`"%d"`, n)}.Respond(r).With(httptestfault.CutBody(5 << 20))
		case path == "/chunked":
			return httptestfault.Response{Body: large[:1<<20], Framing: httptestfault.Chunked, Fault: httptestfault.CutBody(1 << 19)}
		case path == "/flaky" && n%3 != 0:
			return httptestfault.Response{Status: 503}
		case path == "/delete" && n == 2:
			return httptestfault.Response{Status: 404}
		case path == "/create" && n == 2:
			return httptestfault.Response{Status: 412}
		case path == "/delete", path == "/create", path == "/post":
			return httptestfault.Response{Fault: httptestfault.Reset()}
		}
		return httptestfault.Response{Body: []byte("well")}
	})
	t.Cleanup(s.Close)
	return s
}

// curl runs curl, and returns what it wrote and its exit code.
func curl(t *testing.T, args ...string) (string, int) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "curl", append([]string{"-sS"}, args...)...)
	out, _ := c.CombinedOutput() // the code says whether it failed
	return string(out), c.ProcessState.ExitCode()
}

// Through the proxy, curl gets what it does not get by itself, and never takes a wrong response for a right one.
func TestCurlThroughTheProxy(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl")
	}
	large := bytes.Repeat([]byte("0123456789abcde\n"), 64<<20/16)
	s := faulty(t, large)
	_, url, log := startProxy(t, s.URL)
	file := filepath.Join(t.TempDir(), "large")
	if out, code := curl(t, "-o", file, s.URL+"/large"); code == 0 {
		t.Error("without the proxy curl ends well:", out)
	}
	if out, code := curl(t, "-o", file, url+"/large"); code != 0 {
		t.Errorf("curl ends with %d: %s\n%s", code, out, log)
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, large) {
		t.Errorf("%d bytes of %d, %v", len(got), len(large), err)
	}
	for _, tt := range []struct {
		name string
		args []string
		code int // 0, or -1 for any failure
		out  string
	}{
		{"fails twice", []string{"-f", url + "/flaky"}, 0, "well"},
		{"digest", []string{"-o", file, url + "/digest"}, -1, ""},
		{"digest, HTTP/1.0", []string{"-0", "-o", file, url + "/digest"}, -1, ""},
		{"another version", []string{"-o", file, url + "/changed"}, -1, ""},
		{"cut without a length", []string{"-o", file, url + "/chunked"}, -1, ""},
		{"cut without a length, HTTP/1.0", []string{"-0", "-o", file, url + "/chunked"}, -1, ""},
		{"deleted, response lost", []string{"-f", "-X", "DELETE", "-w", "%{http_code}", url + "/delete"}, 0, "204"},
		{"created, response lost", []string{"-X", "PUT", "-H", "If-None-Match: *", "-d", "x", "-o", "/dev/null", "-w", "%{http_code}", url + "/create"}, 0, "504"},
		{"a POST without a key", []string{"-d", "x", "-o", "/dev/null", "-w", "%{http_code}", url + "/post"}, 0, "502"},
		{"a large upload with Expect", []string{"-H", "Expect: 100-continue", "-T", file, "-w", "%{http_code}", url + "/upload"}, 0, "well200"},
		{"an open proxy", []string{"-x", url, "-o", "/dev/null", "-w", "%{http_code}", "http://192.0.2.1/"}, 0, "421"},
	} {
		out, code := curl(t, tt.args...)
		if (code == 0) != (tt.code == 0) || tt.out != "" && out != tt.out {
			t.Errorf("%s: curl ends with %d and writes %q; want %d and %q\n%s", tt.name, code, out, tt.code, tt.out, log)
		}
	}
}

// requestsProgram is what a program in Python does with requests: without retries of its own.
const requestsProgram = `
import sys, hashlib, requests
base = sys.argv[1]
s = requests.Session()
s.mount("http://", requests.adapters.HTTPAdapter(max_retries=0))
assert s.get(base + "/flaky", timeout=30).text == "well"
got = s.get(base + "/large", timeout=30)
print(len(got.content), hashlib.sha256(got.content).hexdigest())
assert s.delete(base + "/delete", timeout=30).status_code == 204
put = s.put(base + "/create", data=b"x", headers={"If-None-Match": "*"}, timeout=30)
assert put.status_code == 504 and put.headers["Perdure-Ambiguous"] == "true", put.status_code
for path in ["/digest", "/changed", "/chunked"]:
    try:
        r = s.get(base + path, timeout=30)
    except requests.exceptions.RequestException as e:
        continue
    raise SystemExit("%s: %d bytes taken for complete" % (path, len(r.content)))
print("done")
`

// Through the proxy, requests gets what it does not get by itself, unchanged but for the address.
func TestRequestsThroughTheProxy(t *testing.T) {
	interpreter := os.Getenv("PERDURE_TEST_REQUESTS")
	if interpreter == "" {
		t.Skip("PERDURE_TEST_REQUESTS names no python with requests: see make servers")
	}
	large := bytes.Repeat([]byte("0123456789abcde\n"), 16<<20/16)
	s := faulty(t, large)
	run := func(base string) (string, error) {
		out, err := exec.CommandContext(t.Context(), interpreter, "-c", requestsProgram, base).CombinedOutput()
		return string(out), err
	}
	if out, err := run(s.URL); err == nil {
		t.Error("without the proxy it ends well:", out)
	}
	s = faulty(t, large)
	_, url, log := startProxy(t, s.URL)
	out, err := run(url)
	if want := fmt.Sprintf("%d %x\ndone\n", len(large), sha256.Sum256(large)); err != nil || out != want {
		t.Errorf("%v: %s; want %s\n%s", err, out, want, log)
	}
}

// SIGTERM ends the proxy once its requests have ended: a client in the middle of a response gets all of it.
func TestTheProxyEndsAfterItsRequests(t *testing.T) {
	more, asked := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "first ")
		_ = http.NewResponseController(w).Flush()
		close(asked)
		<-more
		fmt.Fprint(w, "last")
	}))
	defer server.Close()
	c, proxied, log := startProxy(t, server.URL)
	out := make(chan string, 1)
	go func() {
		text, code := curl(t, proxied+"/")
		out <- fmt.Sprint(text, code)
	}()
	<-asked
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the proxy accepts no more", func() bool {
		_, code := curl(t, "--max-time", "1", proxied+"/.perdure/healthz")
		return code != 0
	})
	close(more)
	if got := <-out; got != "first last0" {
		t.Errorf("%q\n%s", got, log)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("%v\n%s", err, log)
	}
}
