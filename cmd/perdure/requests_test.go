package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/secrettest"
)

// A received request.
type received struct {
	Method, Path, Host, Body string
	Header                   http.Header
}

// A requestLog is a server that records the requests that it gets.
type requestLog struct {
	*httptest.Server

	mu  sync.Mutex
	got []received
}

// listen starts a server that records its requests.
func listen(t *testing.T, respond http.HandlerFunc) *requestLog {
	t.Helper()
	l := new(requestLog)
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		l.mu.Lock()
		l.got = append(l.got, received{r.Method, r.URL.Path, r.Host, string(body), r.Header.Clone()})
		l.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		respond(w, r)
	}))
	t.Cleanup(l.Close)
	return l
}

// take returns the requests since the last call.
func (l *requestLog) take() []received {
	l.mu.Lock()
	defer l.mu.Unlock()
	got := l.got
	l.got = nil
	return got
}

func fine(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "fine") }

// mustRun runs a command and wants that exit code. It returns what is logged, which must have no secrets.
func mustRun(t *testing.T, s *testServers, code int, args ...string) string {
	t.Helper()
	got, log := inProcess(t, s, args...)
	if got != code {
		t.Fatalf("perdure %q: exit code %d, want %d\n%s", args, got, code, log)
	}
	if found := secrettest.Find(log); len(found) > 0 {
		t.Errorf("perdure %q shows secrets: %v", args, found)
	}
	return log
}

// fileWith writes a file and returns its path.
func fileWith(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The server gets the header fields that it gets from curl -H.
func TestHeaderFieldsAreThoseOfCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	s, l := startTestServers(t), listen(t, fine)
	for _, lines := range [][]string{
		{"X-Api-Key: " + secrettest.Token},
		{"X-A: 1", "x-b:2", "X-A:  3 "},
		{"X-Empty;"},
		{"Accept: text/csv", "Accept: text/plain;q=0.5"},
		{"User-Agent: mine/1.0"},
		{"Host: example.org"},
		{"Host: example.org:8080"},
		{"Authorization: Bearer " + secrettest.Token, "Cookie: a=b; c=" + secrettest.Cookie},
		{"X-Colon: a: b:c"},
		{"X-Umlaut: grün"},
		{"X-Tab: a\tb"},
		{"x_under!#$%&'*+-.^`|~: ok"},
	} {
		var ours, theirs []string
		for _, line := range lines {
			ours, theirs = append(ours, "--header", line), append(theirs, "-H", line)
		}
		mustRun(t, s, 0, append([]string{"copy", l.URL + "/x", filepath.Join(t.TempDir(), "out")}, ours...)...)
		got := l.take()
		if out, err := exec.CommandContext(t.Context(), curl, append([]string{"-sS", "-q", l.URL + "/x"}, theirs...)...).CombinedOutput(); err != nil {
			t.Fatalf("curl %q: %v\n%s", theirs, err, out)
		}
		want := l.take()
		if len(got) != 1 || len(want) != 1 {
			t.Fatalf("%q: %d and %d requests, want 1 each", lines, len(got), len(want))
		}
		for _, r := range []received{got[0], want[0]} {
			for _, name := range []string{"User-Agent", "Accept", "Accept-Encoding"} {
				if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, name+":") }) {
					r.Header.Del(name)
				}
			}
		}
		if a, b := fmt.Sprint(got[0].Host, got[0].Header), fmt.Sprint(want[0].Host, want[0].Header); a != b {
			t.Errorf("%q: the server gets\n%s, from curl\n%s", lines, a, b)
		}
	}
}

// Fields come from flags, files and the environment, in one request.
func TestHeaderFieldsFromFilesAndVariables(t *testing.T) {
	s, l := startTestServers(t), listen(t, fine)
	t.Setenv("API_TOKEN", secrettest.Token)
	path := fileWith(t, "\ufeff# of the API\r\n\r\nX-One: 1\r\nCookie: session="+secrettest.Cookie+"\n  \nX-Last: {{API_TOKEN}}")
	mustRun(t, s, 0, "copy", l.URL, filepath.Join(t.TempDir(), "out"), "--header", "X-Two: 2", "--header-file", path,
		"--header-env", "Authorization: Bearer {{API_TOKEN}}", "--header-env", "X-Both: {{API_TOKEN}}-{{API_TOKEN}}")
	got := l.take()
	if len(got) != 1 {
		t.Fatalf("%d requests, want 1", len(got))
	}
	for name, want := range map[string]string{
		"X-One": "1", "X-Two": "2", "Cookie": "session=" + secrettest.Cookie, "X-Last": "{{API_TOKEN}}",
		"Authorization": "Bearer " + secrettest.Token, "X-Both": secrettest.Token + "-" + secrettest.Token,
	} {
		if value := got[0].Header.Get(name); value != want {
			t.Errorf("%s is %q, want %q", name, value, want)
		}
	}
}

// Each request of a large download has the fields: ranges, and those that resume.
func TestHeaderFieldsOfResumedRequests(t *testing.T) {
	content := generated(20 << 20)
	cuts := 0
	s := startTestServers(t)
	var mu sync.Mutex
	l := listen(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		mu.Lock()
		defer mu.Unlock()
		if cuts++; cuts <= 3 {
			w = &cutWriter{w, 1 << 20}
		}
		defer func() {
			if c, ok := w.(*cutWriter); ok && c.left <= 0 {
				panic(http.ErrAbortHandler)
			}
		}()
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
	to := filepath.Join(t.TempDir(), "out")
	mustRun(t, s, 0, "copy", l.URL+"/large", to, "--header", "Authorization: Bearer "+secrettest.Token, "--header", "X-A: 1", "--header", "Host: example.org")
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, content) {
		t.Fatalf("%d other bytes (%v)", len(got), err)
	}
	ranges := 0
	got := l.take()
	for _, r := range got {
		if r.Header.Get("Range") != "" {
			ranges++
		}
		if r.Header.Get("Authorization") != "Bearer "+secrettest.Token || r.Header.Get("X-A") != "1" || r.Host != "example.org" {
			t.Errorf("a request has %q and %v", r.Host, r.Header)
		}
	}
	if ranges < 3 {
		t.Errorf("%d of %d requests have a range, want several", ranges, len(got))
	}
}

// A cutWriter fails after some bytes.
type cutWriter struct {
	http.ResponseWriter

	left int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		n, _ := w.ResponseWriter.Write(p[:w.left])
		w.left = 0
		return n, io.ErrShortWrite
	}
	w.left -= len(p)
	return w.ResponseWriter.Write(p)
}

// After a redirect to another port or host, and back from there, no request has a field or the user of the command.
func TestHeaderFieldsStayOnTheirServer(t *testing.T) {
	s := startTestServers(t)
	other := listen(t, func(w http.ResponseWriter, r *http.Request) {
		if back := r.URL.Query().Get("back"); back != "" {
			http.Redirect(w, r, back, http.StatusFound)
			return
		}
		fine(w, r)
	})
	var own *requestLog
	own = listen(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL+"/x", http.StatusFound)
		case "/name":
			http.Redirect(w, r, strings.Replace(own.URL, "127.0.0.1", "localhost", 1)+"/end", http.StatusFound)
		case "/slashes": // a relative address with another host, which keeps the Host of net/http
			http.Redirect(w, r, strings.TrimPrefix(other.URL, "http:")+"/x", http.StatusTemporaryRedirect)
		case "/back":
			http.Redirect(w, r, other.URL+"/?back="+own.URL+"/end", http.StatusFound)
		case "/same":
			http.Redirect(w, r, "/end", http.StatusFound)
		default:
			fine(w, r)
		}
	})
	netrc := fileWith(t, "\ufeffmachine 127.0.0.1 login user password "+secrettest.Password)
	for _, given := range [][]string{
		{"--header", "Authorization: Bearer " + secrettest.Token, "--header", "X-Mine: 1", "--header", "Cookie: a=" + secrettest.Cookie, "--header", "Host: secret.example.org", "--header", "User-Agent: mine", "--header", "Accept: text/mine"},
		{"--netrc-file", netrc, "--header", "X-Mine: 1"},
	} {
		for path, left := range map[string]bool{"/away": true, "/name": true, "/slashes": true, "/back": true, "/same": false} {
			mustRun(t, s, 0, append([]string{"copy", own.URL + path, filepath.Join(t.TempDir(), "out")}, given...)...)
			all := append(other.take(), own.take()...)
			for _, r := range all {
				text := fmt.Sprint(r.Host, r.Header)
				first := r.Path == path
				if has := strings.Contains(text, "X-Mine"); has != (first || !left) {
					t.Errorf("%s: the request for %s has X-Mine: %v", path, r.Path, has)
				}
				if left && !first && (len(secrettest.Find(text)) > 0 || strings.Contains(text, "mine") || strings.Contains(text, "secret") || r.Header.Get("Authorization") != "") {
					t.Errorf("%s: the request for %s has %s", path, r.Path, text)
				}
			}
			if len(all) < 2 {
				t.Errorf("%s: %d requests", path, len(all))
			}
		}
	}
}

// The message has the beginning of an error's body: one line, nothing that a terminal obeys, and no secret of the request.
func TestBodiesOfErrors(t *testing.T) {
	s := startTestServers(t)
	body := ""
	l := listen(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, strings.NewReplacer("AUTH", r.Header.Get("Authorization"), "KEY", r.Header.Get("X-Mine")).Replace(body))
	})
	long := strings.Repeat("0123456789", 19) + "abcdefgh"
	for _, row := range []struct{ body, want string }{
		{`{"error": "no such scope"}`, `403 Forbidden: {"error": "no such scope"}`},
		{"", "403 Forbidden"},
		{"first\n\tsecond\r\n", "403 Forbidden: first second"},
		{"\x1b[31mred\x07\x1b]0;title\x07", `403 Forbidden: \x1b[31mred\a\x1b]0;title\a`},
		{"bad \xff\xfe bytes", `403 Forbidden: bad \xff\xfe bytes`},
		{"you sent AUTH and KEY", "403 Forbidden: you sent REDACTED and REDACTED"},
		{"password=hunter2 is wrong", "403 Forbidden: password=REDACTED is wrong"},
		{long, "403 Forbidden: " + long},
		{long + "ijklm", "403 Forbidden: " + long + "ij ..."},
		{strings.Repeat("ä", 150), "403 Forbidden: " + strings.Repeat("ä", 100) + " ..."},
		{long + `{"access_token": "` + strings.Repeat("hunter2", 100) + `"}`, "403 Forbidden: " + long + `{" ...`},
		{long + " AUTH", "403 Forbidden: " + long + " REDACTED ..."}, // on both sides of the cut
		{strings.Repeat("x", 199) + "KEY" + strings.Repeat("y", 200_000), "403 Forbidden: " + strings.Repeat("x", 199) + "REDACTED ..."},
	} {
		body = row.body
		log := mustRun(t, s, 1, "copy", l.URL+"/x", filepath.Join(t.TempDir(), "out"),
			"--header", "Authorization: Bearer "+secrettest.Token, "--header", "X-Mine: "+secrettest.Password)
		want := fmt.Sprintf("perdure: read %q: %s\n", l.URL+"/x", row.want)
		if log != want {
			t.Errorf("a body %.300q gives\n%s, want\n%s", row.body, log, want)
		}
	}
}

// The last part of a URL is no name of a secret, even if it reads like one. The word after it used to be redacted.
func TestURLThatEndsLikeASecret(t *testing.T) {
	s := startTestServers(t)
	l := listen(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	log := mustRun(t, s, 69, "copy", l.URL+"/oauth2/token", "-", "--max-attempts", "1")
	if want := fmt.Sprintf("perdure: read %q: attempts exhausted after 1 attempt: 503 Service Unavailable\n", l.URL+"/oauth2/token"); log != want {
		t.Errorf("the error is %s, want %s", log, want)
	}
}

// What cannot be sent is refused before a request, with the reason and without the value.
func TestRequestsThatAreRefused(t *testing.T) {
	s, l := startTestServers(t), listen(t, fine)
	t.Setenv("EMPTY", "")
	secret := secrettest.Token
	for _, row := range []struct{ args, want string }{
		{"--header|" + secret, "--header: a header field must be NAME: VALUE"},
		{"--header|Na me: " + secret, "must be NAME: VALUE"},
		{"--header|X-Token: ", "--header: the header field X-Token has no value"},
		{"--header|X-Token: " + secret + "\nX: 1", "--header: the value of the header field X-Token must not have control characters"},
		{"--header|range: bytes=1-", "the header field Range cannot be set: copy requests ranges itself"},
		{"--header|Content-Length: 1", "Content-Length cannot be set"},
		{"--header|TE: x", "Te cannot be set"},
		{"--header|Accept-Encoding: gzip", "Accept-Encoding cannot be set"},
		{"--header|If-None-Match: x", "a 304 has nothing to copy"},
		{"--header|Host: a/b", "Host must be a host"},
		{"--header|Authorization: a|--header|authorization: b", "the header field Authorization is given twice"},
		{"--header|X: " + strings.Repeat("x", 70_000), "more than 65536 bytes"},
		{"--header-file|/nonexistent/file", "--header-file /nonexistent/file: open /nonexistent/file: no such file"},
		{"--header-file|" + fileWith(t, "X: 1\n"+secret), "line 2: a header field must be NAME: VALUE"},
		{"--header-env|Authorization: Bearer " + secret, "must have a {{VARIABLE}}, such as {{API_TOKEN}}"},
		{"--header-env|Authorization: Bearer {{EMPTY}}", "--header-env: the environment variable EMPTY is not set, or empty"},
		{"--netrc-file|" + fileWith(t, "login user"), "line 1: must begin with machine or default"},
		{"--netrc-file|" + fileWith(t, "machine example.org login user password "+secret), "has no entry for 127.0.0.1, and no default"},
		{"--netrc-file|" + fileWith(t, "default login user") + "|--header|Authorization: x", "--netrc cannot be used with the header field Authorization; remove one"},
		{"--netrc-file|", "invalid value \"\" for --netrc-file"},
		{"--netrc", "no such file"},
		{"--method|PUT", "invalid value \"PUT\" for --method: must be GET or POST"},
		{"--method|GET|--data|x", "--data cannot be used with --method GET"},
		{"--idempotent", "--idempotent can only be used with --method POST or --data"},
		{"--data|@/nonexistent/file", "--data @/nonexistent/file: open /nonexistent/file: no such file"},
		{"--data|x|--no-resume", "--no-resume cannot be used with a POST as SRC: nothing of it is resumed"},
		{"--method|POST|--parallel|2", "--parallel cannot be used with a POST as SRC, unless DST is an object"},
		{"--next|link|--no-resume", "--no-resume cannot be used with --next and --items as SRC"},
		{"--items|.|--parallel|2", "--parallel cannot be used with --next and --items as SRC, unless DST is an object"},
		{"--header|X: 1|-r", "--header is for one file: it cannot be used with --recursive"},
	} {
		log := mustRun(t, s, 64, append([]string{"copy", l.URL, filepath.Join(t.TempDir(), "out")}, strings.Split(row.args, "|")...)...)
		if !strings.Contains(log, row.want) {
			t.Errorf("%.200s:\n%s, want %s", row.args, log, row.want)
		}
	}
	for _, args := range [][]string{{"s3://bikes/x", "--no-resume"}, {filepath.Join(t.TempDir(), "out"), "--parallel", "2"}} {
		if log := mustRun(t, s, 64, append([]string{"copy", "-"}, args...)...); !strings.Contains(log, args[1]+" cannot be used with standard input as SRC") {
			t.Errorf("%v: %s, want that %s is refused", args, log, args[1])
		}
	}
	log := mustRun(t, s, 64, "copy", fileWith(t, "x"), filepath.Join(t.TempDir(), "out"), "--header", "X: 1")
	if want := "--header can only be used with an http or https URL as SRC"; !strings.Contains(log, want) {
		t.Errorf("%s, want %s", log, want)
	}
	log = mustRun(t, s, 64, "copy", strings.Replace(l.URL, "://", "://u:"+secrettest.Password+"@", 1), filepath.Join(t.TempDir(), "out"), "--netrc-file", fileWith(t, "default login x"))
	if want := "--netrc cannot be used with a URL that has a user"; !strings.Contains(log, want) {
		t.Errorf("%s, want %s", log, want)
	}
	if got := l.take(); len(got) > 0 {
		t.Errorf("%d requests, want none", len(got))
	}
}

// A response that is not HTTP is quoted by net/http: what it repeats of the request is in no message and no event.
func TestResponsesThatRepeatTheRequest(t *testing.T) {
	s := startTestServers(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				body, _ := io.ReadAll(req.Body)
				fmt.Fprintf(conn, "HTTP/1.1 %s%s%s\r\n\r\n", req.Header.Get("X-Mine"), req.Header.Get("Authorization"), body)
			}
			_ = conn.Close()
		}
	}()
	to := filepath.Join(t.TempDir(), "out")
	for _, args := range [][]string{{}, {"--json", "--log-level", "debug"}, {"--idempotent", "--data", "secret=" + secrettest.Password}, {"--idempotent", "--json", "--data", `{"a": ["` + secrettest.Password + `"]}`}} {
		log := mustRun(t, s, 69, append([]string{"copy", "http://" + l.Addr().String(), to, "--max-attempts", "2", "--header", "X-Mine: " + secrettest.Cookie, "--header", "Authorization: Bearer " + secrettest.Token}, args...)...)
		if !strings.Contains(log, "malformed") || !strings.Contains(log, "REDACTED") {
			t.Errorf("%q: %s, want what is malformed", args, log)
		}
	}
}

// Another run resumes a download with its own credentials, but not if it asks for another representation.
func TestAnotherRunResumesWithItsHeaderFields(t *testing.T) {
	s, content := startTestServers(t), generated(3<<20)
	breaks := false
	l := listen(t, func(w http.ResponseWriter, r *http.Request) {
		if breaks && r.Header.Get("Range") != "" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("ETag", `"1"`)
		if breaks {
			defer panic(http.ErrAbortHandler)
			w = &cutWriter{w, 2 << 20}
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
	for accept, resumes := range map[string]bool{"text/csv": true, "text/html": false} {
		to := filepath.Join(t.TempDir(), "out")
		breaks = true
		if log := mustRun(t, s, 1, "copy", l.URL+"/x", to, "--header", "Authorization: Bearer first", "--header", "Accept: text/csv"); !strings.Contains(log, "run the same command to resume") {
			t.Fatal(log)
		}
		l.take()
		breaks = false
		mustRun(t, s, 0, "copy", l.URL+"/x", to, "--header", "Authorization: Bearer second", "--header", "Accept: "+accept)
		got := l.take()
		if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d other bytes (%v)", len(got), err)
		}
		if len(got) == 0 || (got[0].Header.Get("Range") != "") != resumes || got[0].Header.Get("Authorization") != "Bearer second" || got[0].Header.Get("Accept") != accept {
			t.Errorf("%s: the server gets %+v", accept, got)
		}
	}
}
