//go:build integration && unix

package main

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// forgeries are texts that end a line, or reach the terminal.
var forgeries = []string{
	"\nFORGED: all is well", "\r\x1b[31mFORGED\x7f", "\u009b31mFORGED\u0085", "\x9b31mFORGED", "\a\b\v\f",
}

// plain checks that a text reaches a terminal, and a log, as the lines that it is.
func plain(t *testing.T, what, text string) {
	t.Helper()
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "FORGED") {
			t.Errorf("%s: a line is forged: %q", what, line)
			return
		}
		if !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return r != '\t' && unicode.IsControl(r) }) {
			t.Errorf("%s: it has control characters: %q", what, line)
			return
		}
	}
}

// What is in names, keys and responses forges no line, and does not reach the
// terminal, whatever is said about them.
func TestNamesForgeNothing(t *testing.T) {
	for i, forgery := range forgeries {
		t.Run(fmt.Sprintf("%d %q", i, forgery), func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			name := "x" + forgery
			many := filepath.Join(s.home, "many")
			manifest := filepath.Join(s.home, "manifest")
			path := filepath.Join(many, name)
			if err := os.MkdirAll(many, 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, path, []byte("x"))
			write(t, filepath.Join(s.home, "p.yaml"), fmt.Appendf(nil, "%q: 1\n", "max"+strings.ToValidUTF8(forgery, "\u009b")))
			_ = s.store.Store("bikes", "raw/"+name, []byte("x"))
			_ = s.store.Store("bikes", "raw/../"+name, []byte("x"))
			s.store.Deny("/bikes/denied")
			message := func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusForbidden)
				text := strings.NewReplacer("\r", "&#13;", "\x1b", "&#155;", "\x7f", "&#127;", "\a", "", "\b", "", "\v", "", "\f", "", "\x9b", "\u009b").Replace(forgery)
				fmt.Fprintf(w, "<Error><Code>Access%sDenied</Code><Message>no%s</Message></Error>", text, text)
			}
			reported := startFront(t, "", func(w http.ResponseWriter, r *http.Request) bool { message(w, r); return true })
			for _, args := range [][]string{
				{path + "none", "s3://bikes/x"},
				{path, "s3://bikes/up"},
				{path, "s3://bikes/"},
				{path, s.dir},
				{path, s.dir + "/none/" + name},
				{"s3://bikes/none/" + name, s.dir},
				{"s3://bikes/raw/" + name, s.dir},
				{"s3://bikes/raw/" + name, "s3://bikes/twin/" + name},
				{"-r", many, "s3://bikes/many" + forgery},
				{"-r", many, "s3://bikes/denied"},
				{"-r", "s3://bikes/raw", s.dir, "--manifest", manifest},
				{"-r", "s3://bikes/none" + forgery, s.dir},
				{"-r", many + forgery, "s3://bikes/x"},
				{s.web.URL + "/" + url.PathEscape(name), s.dir},
				{s.web.URL + "/" + name, s.dir},
				{"x" + forgery + "://host/x", s.dir},
				{path, "s3://bikes/x", "--checksum", "md5:" + forgery},
				{path, "s3://bikes/x", "--name", name, "--endpoint-url", "http://127.0.0.1:1"},
				{path, "s3://bikes/x", "--endpoint-url", "http://host/" + forgery},
				{path, "s3://bikes/x", "--preset", name},
				{path, "s3://bikes/x", "--config", many + forgery},
				{path, "s3://bikes/x", "--config", filepath.Join(s.home, "p.yaml")},
				{"--" + forgery, "x", "y"},
				{"s3://bi" + forgery + "kes/x", s.dir},
				{"s3://bikes/x", s.dir, "--endpoint-url", reported.URL},
				{"-r", "s3://bikes/x", s.dir, "--endpoint-url", reported.URL},
				{path, "s3://bikes/x", "--endpoint-url", reported.URL},
			} {
				for _, flags := range [][]string{{"--max-attempts", "2"}, {"--max-attempts", "2", "--json"}} {
					e := s.run(t, append(flags, args...)...)
					plain(t, fmt.Sprintf("%q", args), e.out+e.log)
					if len(flags) > 2 {
						jsonLines(t, fmt.Sprintf("%q", args), e.log)
					}
				}
			}
			if text, err := os.ReadFile(manifest); err == nil {
				plain(t, "the manifest", string(text))
				jsonLines(t, "the manifest", string(text))
			}
		})
	}
}

func jsonLines(t *testing.T, what, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if !json.Valid([]byte(line)) {
			t.Errorf("%s: a line is not JSON: %q", what, line)
		}
	}
}

// A customer's key is in nothing that the command says, though the store says it
// in its responses.
func TestCustomerKeyThatIsEchoed(t *testing.T) {
	key := []byte("0123456789abcdef0123456789ABCDEF")
	encoded := base64.StdEncoding.EncodeToString(key)
	forms := []string{encoded, url.QueryEscape(encoded)}
	for name, status := range map[string]int{"an error": 403, "a failure": 503, "a page": 200} {
		for how, echo := range map[string]func(w http.ResponseWriter, status int, header string){
			"in XML": func(w http.ResponseWriter, status int, header string) {
				w.WriteHeader(status)
				fmt.Fprintf(w, "<Error><Code>%s</Code><Message>you sent %s</Message><RequestId>%s</RequestId></Error>", header, header, header)
			},
			"in a page": func(w http.ResponseWriter, status int, header string) {
				w.Header().Set("Content-Type", "text/html")
				w.WriteHeader(status)
				fmt.Fprintf(w, "<html>you sent %s</html>", header)
			},
			"in headers": func(w http.ResponseWriter, status int, header string) {
				w.Header().Set("X-Amz-Request-Id", header)
				w.Header().Set("X-Amz-Id-2", header)
				w.Header().Set("ETag", `"`+header+`"`)
				w.WriteHeader(status)
			},
		} {
			for i, form := range forms {
				t.Run(fmt.Sprintf("%s, %s, form %d", name, how, i), func(t *testing.T) {
					t.Parallel()
					s := newScene(t)
					s.from(t, "file", "x", []byte("a file"))
					server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if r.Header.Get("X-Amz-Server-Side-Encryption-Customer-Key") != encoded {
							t.Errorf("%s %s has no key", r.Method, r.URL)
						}
						echo(w, status, form)
					}))
					t.Cleanup(server.Close)
					keyFile, ca := filepath.Join(s.home, "key"), filepath.Join(s.home, "ca.pem")
					write(t, keyFile, key)
					write(t, ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
					s.environ = append(s.environ, "AWS_ENDPOINT_URL="+server.URL, "AWS_CA_BUNDLE="+ca)
					for way, flag := range map[string]string{"s3 to file": "--json", "s3 to s3": "--log-level=debug", "file to s3": "--log-level=debug"} {
						e := s.run(t, append([]string{"--max-attempts", "2", "--sse-c-key", keyFile, flag}, s.ways(t)[way]...)...)
						if containsAny(e.out+e.log, forms) {
							t.Errorf("%s: it says the key: %v", way, e)
						}
					}
				})
			}
		}
	}
}

// A key with control characters is listed, and comes and goes, like any other; so
// it does not stop what cleans.
func TestKeysWithControlCharacters(t *testing.T) {
	s := newScene(t)
	want := map[string]string{"a\x01b": "1", "tab\t": "2", "line\nbreak": "3", "cr\r": "4", "esc\x1b": "5", "del\x7f": "6", "\u0085": "7", "plus+ %20&": "8"}
	dir := t.TempDir()
	for name, content := range want {
		write(t, filepath.Join(dir, name), []byte(content))
	}
	s.runs(t, 0, "-r", dir, "s3://bikes/odd")
	sameAs(t, "up", s.objects("odd/"), want)
	s.runs(t, 0, "-r", "s3://bikes/odd", s.dir)
	sameAs(t, "down", below(t, s.dir), want)
	delete(want, "esc\x1b") // the server lists its upload by another name
	for name := range want {
		_ = s.abandon("odd/" + name) // the SDK can't read each response
	}
	s.store.Reset()
	cleaned(t, s.environ, "0")
	aborted := 0
	for _, r := range s.store.Requests() {
		if r.Operation == "AbortMultipartUpload" && r.Status == http.StatusNoContent {
			aborted++
		}
	}
	if aborted != len(want) {
		t.Errorf("%d of %d uploads are aborted", aborted, len(want))
	}
}
