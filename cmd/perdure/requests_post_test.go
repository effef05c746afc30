package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/secrettest"
)

// What --netrc-file sends is what curl sends, and --netrc reads the file of HOME; without them no file is read.
func TestNetrcIsThatOfCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	s, l := startTestServers(t), listen(t, fine)
	for _, text := range []string{
		"machine 127.0.0.1 login user password pass",
		"machine 127.0.0.1\n\tlogin user\n\tpassword pass\n",
		"machine example.org login a password b\nmachine 127.0.0.1 login user password pass\nmachine 127.0.0.1 login second password other",
		"machine 127.0.0.1 password pass login user",
		"machine 127.0.0.1 login user account x password pass",
		"default login any password one\nmachine 127.0.0.1 login user password pass",
		"machine example.org login a password b default login any password one",
		"# machine 127.0.0.1 login no password no\nmachine 127.0.0.1 # a comment\nlogin user password pass # another",
		"machine 127.0.0.1 login user password pa#ss",
		"macdef init\nmachine 127.0.0.1 login no password no\n\nmachine 127.0.0.1 login user password pass",
		`machine 127.0.0.1 login "us er" password "pa\"s\\s#"`,
		`machine 127.0.0.1 login "machine" password "login"`,
		"machine 127.0.0.1 login user:x password pa:ss",
		"machine 127.0.0.1 login grün password schön",
		"machine 127.0.0.1\r\nlogin user\r\npassword pass\r\n",
		"machine 127.0.0.10 login a password b\nmachine 127.0.0.1 login user password pass",
	} {
		path := fileWith(t, text)
		mustRun(t, s, 0, "copy", l.URL, filepath.Join(t.TempDir(), "out"), "--netrc-file", path)
		got := l.take()
		if out, err := exec.CommandContext(t.Context(), curl, "-sS", "-q", "--netrc-file", path, l.URL).CombinedOutput(); err != nil {
			t.Fatalf("curl with %q: %v\n%s", text, err, out)
		}
		want := l.take()
		if len(got) != 1 || len(want) != 1 || got[0].Header.Get("Authorization") != want[0].Header.Get("Authorization") || want[0].Header.Get("Authorization") == "" {
			t.Errorf("%q: the server gets %v, from curl %v", text, got, want)
		}
	}
	for args, has := range map[string]bool{"--netrc": true, "--no-resume": false} {
		home := t.TempDir()
		if err := os.WriteFile(filepath.Join(home, ".netrc"), []byte("default login user password "+secrettest.Password), 0o600); err != nil {
			t.Fatal(err)
		}
		_, log := inHome(t, s, home, "copy", l.URL, filepath.Join(t.TempDir(), "out"), args)
		if got := l.take(); len(got) != 1 || (got[0].Header.Get("Authorization") != "") != has {
			t.Errorf("%s: the server gets %v\n%s", args, got, log)
		}
	}
}

// A POST is sent once, unless it is idempotent by a flag or by its key.
func TestPOST(t *testing.T) {
	s := startTestServers(t)
	form := "grant_type=client_credentials&client_secret=" + secrettest.Password
	path := fileWith(t, form)
	const plain = "application/x-www-form-urlencoded"
	var fails atomic.Int32
	var how atomic.Value
	l := listen(t, func(w http.ResponseWriter, r *http.Request) {
		if fails.Add(-1) >= 0 {
			switch how.Load() {
			case "503":
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = w.Write([]byte("busy with " + form))
			case "cut":
				w.Header().Set("Content-Length", "100")
				fine(w, r)
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			case "reset":
				panic(http.ErrAbortHandler)
			}
			return
		}
		fine(w, r)
	})
	for _, row := range []struct {
		how      string
		fails    int32
		args     string
		code     int
		requests int
		kind     string // Content-Type
		says     string
	}{
		{"", 0, "--data|@" + path, 0, 1, plain, "Copied"},
		{"", 0, "--data|@" + path + "|--header|Content-Type: application/json", 0, 1, "application/json", "Copied"},
		{"", 0, "--method|POST|--data|" + form, 0, 1, plain, "Copied"},
		{"503", 1, "--data|@" + path, 1, 1, plain, "503 Service Unavailable (not repeated: request may have been processed and is not idempotent): busy with REDACTED"},
		{"reset", 1, "--data|@" + path, 1, 1, plain, "not repeated"},
		{"cut", 1, "--data|@" + path, 1, 1, plain, "not repeated"},
		{"503", 2, "--data|@" + path + "|--idempotent", 0, 3, plain, "Retrying"},
		{"reset", 1, "--data|@" + path + "|--idempotent", 0, 2, plain, "Retrying"},
		{"cut", 1, "--data|@" + path + "|--idempotent", 0, 2, plain, "Retrying"},
		{"503", 1, "--data|@" + path + "|--header|Idempotency-Key: 1", 0, 2, plain, "Retrying"},
		{"cut", 1, "--data|@" + path + "|--header|Idempotency-Key: 1", 0, 2, plain, "Retrying"},
	} {
		how.Store(row.how)
		fails.Store(row.fails)
		to := filepath.Join(t.TempDir(), "out")
		code, log := inProcess(t, s, append([]string{"copy", l.URL + "/x", to}, strings.Split(row.args, "|")...)...)
		got := l.take()
		if code != row.code || len(got) != row.requests || !strings.Contains(log, row.says) {
			t.Errorf("%s %s: exit code %d after %d requests, want %d after %d\n%s", row.how, row.args, code, len(got), row.code, row.requests, log)
		}
		for _, r := range got {
			if r.Method != "POST" || r.Body != form || r.Header.Get("Content-Type") != row.kind {
				t.Errorf("%s %s: the server gets %+v", row.how, row.args, r)
			}
		}
		text, _ := os.ReadFile(to)
		if want := map[bool]string{true: "fine"}[code == 0]; string(text) != want {
			t.Errorf("%s %s: the file has %q, want %q", row.how, row.args, text, want)
		}
		if found := secrettest.Find(log); len(found) > 0 {
			t.Errorf("%s %s shows %v", row.how, row.args, found)
		}
	}
	mustRun(t, s, 0, "copy", l.URL, filepath.Join(t.TempDir(), "out"), "--method", "POST")
	if got := l.take(); len(got) != 1 || got[0].Method != "POST" || got[0].Body != "" {
		t.Errorf("the server gets %+v, want an empty POST", got)
	}
}

// The body goes to no other server.
func TestBodyStaysOnItsServer(t *testing.T) {
	s, other := startTestServers(t), listen(t, fine)
	own := listen(t, func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusSeeOther
		if r.URL.Path == "/307" {
			status = http.StatusTemporaryRedirect
		}
		switch r.URL.Path {
		case "/here":
			http.Redirect(w, r, "/end", http.StatusTemporaryRedirect)
		case "/end":
			fine(w, r)
		default:
			http.Redirect(w, r, other.URL, status)
		}
	})
	args := func(path string) []string {
		return []string{"copy", own.URL + path, filepath.Join(t.TempDir(), "out"), "--data", "a=" + secrettest.Password, "--header", "X-Mine: 1"}
	}
	log := mustRun(t, s, 1, args("/307")...)
	if got := other.take(); len(got) > 0 || !strings.Contains(log, "--data is sent to that of the URL only") {
		t.Errorf("after a 307 the other server gets %v\n%s", got, log)
	}
	own.take()
	mustRun(t, s, 0, args("/303")...)
	if got := other.take(); len(got) != 1 || got[0].Method != "GET" || got[0].Body != "" || strings.Contains(fmt.Sprint(got[0].Header), "Mine") {
		t.Errorf("after a 303 the other server gets %+v, want a GET without fields", got)
	}
	own.take()
	mustRun(t, s, 0, args("/here")...)
	if got := own.take(); len(got) != 2 || got[1].Method != "POST" || got[1].Body != "a="+secrettest.Password {
		t.Errorf("after a 307 to itself the server gets %+v, want the same POST twice", got)
	}
}

// --data @- sends standard input, and --data @FILE at most 64 MiB.
func TestDataOfStandardInput(t *testing.T) {
	s, l := startTestServers(t), listen(t, fine)
	s.setenv(t.TempDir(), t.Setenv)
	text := "{\"a\":\r\n\x00 1}\n"
	in, err := os.Open(fileWith(t, text))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	a := &app{stdin: in, stdout: out, stderr: out, environ: os.Environ()}
	if code := a.main(t.Context(), []string{"copy", l.URL, "-", "--data", "@-"}); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got := l.take(); len(got) != 1 || got[0].Method != "POST" || got[0].Body != text {
		t.Errorf("the server gets %+v, want a POST with %q", got, text)
	}
	large := fileWith(t, "")
	if err := os.Truncate(large, 64<<20+1); err != nil {
		t.Fatal(err)
	}
	if log := mustRun(t, s, 64, "copy", l.URL, "-", "--data", "@"+large); !strings.Contains(log, "--data @"+large+": more than 67108864 bytes") || len(l.take()) > 0 {
		t.Errorf("%s, want the limit", log)
	}
}
