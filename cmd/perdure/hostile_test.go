//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// forged is a line that the command never writes by itself.
const forged = "INFO: Copied everything"

// hostileName is a text that forges a line, clears the terminal, and is no text.
const hostileName = "a\n" + forged + "\r\x1b[2J\x07\x7f\u009b31m\u0085\u2028\u202e\xff b"

// hostileRuns are commands to which that is given wherever they take a text.
func hostileRuns(s *testServers, rude string) [][]string {
	in := func(args ...string) []string { return args }
	return [][]string{
		in("run", "--name", hostileName, "--max-attempts", "2", "--", "false"),
		in("run", "--max-attempts", "2", "--", hostileName),
		in("run", "--max-attempts", "2", "--", "./"+hostileName),
		in("breaker", "trip", hostileName),
		in("run", "--name", hostileName, "--", "true"),
		in("status"),
		in("__complete", "breaker", "trip", ""),
		in("breaker", "trip", "not "+hostileName),
		in("plan", "--name", hostileName),
		in("plan", "--config", "name.yaml"),
		in("plan", "--config", "key.yaml"),
		in("plan", "--config", "value.yaml"),
		in("plan", "--config", "raw.yaml"),
		in("plan", "--config", hostileName),
		in("plan", "--preset", hostileName),
		in("plan", "--svg", hostileName+"/x"),
		in("plan", "--"+hostileName),
		in("plan", hostileName),
		in("status", "--store", hostileName),
		in("status", "--log-level", hostileName),
		in(hostileName),
		in("copy", hostileName+" absent", "x"),
		in("copy", hostileName, "copied"),
		in("copy", hostileName, "s3://bikes/x"+hostileName),
		in("copy", hostileName, "s3://bikes/x"+strings.ToValidUTF8(hostileName, "")),
		in("copy", "-r", "s3://bikes", "back"),
		in("copy", "-r", ".", "s3://bikes/all", "--manifest", "-"),
		in("copy", hostileName, "s3://"+hostileName+"/x"),
		in("copy", hostileName, "s3://bikes/x", "--endpoint-url", rude, "--max-attempts", "2"),
		in("copy", "s3://bikes/x", "got", "--endpoint-url", rude, "--max-attempts", "2"),
		in("copy", rude+"/x", "got", "--max-attempts", "2"),
		in("copy", rude+"/"+hostileName, "got", "--max-attempts", "2"),
		in("copy", s.web.URL+"/whole.bin", "got", "--checksum", hostileName),
		in("s3", "clean", "s3://bikes/"+hostileName),
		in("s3", "clean", "s3://bikes", "--endpoint-url", rude, "--max-attempts", "2"),
	}
}

// Texts of others forge no line of the log, and drive no terminal, wherever the command writes them. A line feed
// in the name of a file used to begin a line of its own, and C1 bytes went to the terminal.
func TestHostileTexts(t *testing.T) {
	rude := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.Header().Set("X-Amz-Request-Id", "id \u009b31m\xff")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<Error><Code>Odd&#10;"+forged+"&#127;</Code><Message>"+strings.NewReplacer("\x1b", "", "\x07", "").Replace(hostileName)+"</Message></Error>")
	}))
	t.Cleanup(rude.Close)
	for _, flag := range []string{"", "--json", "--log-level=debug"} {
		s := startTestServers(t)
		dir := t.TempDir()
		files := map[string]string{
			hostileName: "x", "name.yaml": `policy: {name: "a\n` + forged + `\e[2J\x9b\x7f"}`, "key.yaml": `policy: {"a\n` + forged + `\e[2J\x9b\x7f": 1}`,
			"value.yaml": `policy: {preset: "a\n` + forged + `\e[2J\x9b\x7f"}`, "raw.yaml": "a: \u2028" + hostileName,
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		environ := append(s.environ(dir), "PERDURE_STORE=host", "PERDURE_"+strings.ToUpper("odd \x1b[2J\n"+forged)+"=1")
		for _, args := range hostileRuns(s, rude.URL) {
			isJSON := flag == "--json" && args[0] != "__complete" // that is for a shell
			if flag != "" && args[0] != "__complete" {
				args = append([]string{flag}, args...)
			}
			var stdout, stderr bytes.Buffer
			c := command(t, environ, args...)
			c.Dir, c.Stdout, c.Stderr = dir, &stdout, &stderr
			_ = c.Run() // how it ends is not what this is about
			for _, wrong := range append(shown(stdout.String(), isJSON), shown(stderr.String(), isJSON)...) {
				t.Errorf("%.200q: %s", args, wrong)
			}
		}
	}
}

// shown returns what is wrong with an output.
func shown(text string, isJSON bool) (wrong []string) {
	at := strings.IndexFunc(text, func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' || r == '\u2028' || r == '\u202e'
	})
	if at >= 0 || !utf8.ValidString(text) {
		wrong = append(wrong, fmt.Sprintf("it drives the terminal: %.300q", text[max(at-50, 0):]))
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimLeft(line, " \r"), forged) {
			wrong = append(wrong, fmt.Sprintf("a forged line in %.300q", text))
		}
		if isJSON && !json.Valid([]byte(line)) {
			wrong = append(wrong, fmt.Sprintf("no JSON: %.300q", line))
		}
	}
	return wrong
}

// What an interrupted download has left does not go up with the directory that it lies in, also if a byte of the file that
// says whose it is was altered, or another version has made it; and the next copy clears it.
func TestDamagedLeftoversAreNotUploaded(t *testing.T) {
	s := startTestServers(t)
	environ, dir, content := s.environ(t.TempDir()), t.TempDir(), generated(17<<20)
	var requests atomic.Int64
	var well atomic.Bool
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		switch n := requests.Add(1); {
		case n == 1:
			w.Header().Set("Content-Length", strconv.Itoa(len(content)))
			_, _ = w.Write(content[:9<<20]) // it breaks here
		case !well.Load():
			http.Error(w, "none", http.StatusForbidden)
		default:
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		}
	}))
	t.Cleanup(web.Close)
	copied := func(args ...string) (int, string) {
		var log bytes.Buffer
		c := command(t, environ, append([]string{"copy"}, args...)...)
		c.Stderr = &log
		_ = c.Run() // its code tells
		return c.ProcessState.ExitCode(), log.String()
	}
	write(t, filepath.Join(dir, "mine"), []byte("mine"))
	code, log := copied("--parallel", "1", web.URL+"/x", filepath.Join(dir, "x"))
	owners, _ := filepath.Glob(filepath.Join(dir, ".perdure-*", "owner"))
	if len(owners) != 1 {
		t.Fatalf("%q are left by a copy that ended with %d, want one owner file:\n%s", owners, code, log)
	}
	text, err := os.ReadFile(owners[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{"perdure-staging-1", "perdure-staging-33"} {
		owner, _, _ := strings.Cut(strings.Replace(string(text), "perdure-staging-2", other, 1), "} ")
		write(t, owners[0], []byte(owner+"}"))
		code, log := copied("-r", dir, "s3://bikes/up")
		if keys := s.store.Keys("bikes"); code != 0 || !slices.Equal(keys, []string{"up/mine"}) {
			t.Fatalf("of %s: there are %q, want up/mine; exit code %d\n%s", other, keys, code, log)
		}
	}
	for at := 0; at < len(text); at += 16 {
		altered := bytes.Clone(text)
		altered[at] ^= 1
		write(t, owners[0], altered)
		code, log := copied("-r", dir, "s3://bikes/up")
		if keys := s.store.Keys("bikes"); code != 0 || !slices.Equal(keys, []string{"up/mine"}) {
			t.Fatalf("byte %d altered: there are %q, want up/mine; exit code %d\n%s", at, keys, code, log)
		}
	}
	well.Store(true)
	code, log = copied(web.URL+"/x", filepath.Join(dir, "x"))
	left, _ := filepath.Glob(filepath.Join(dir, ".perdure-*"))
	if got, err := os.ReadFile(filepath.Join(dir, "x")); code != 0 || err != nil || !bytes.Equal(got, content) || len(left) > 0 || strings.Contains(log, "Resuming") {
		t.Errorf("exit code %d, %d bytes (%v), %q left; want all, from scratch, and nothing\n%s", code, len(got), err, left, log)
	}
}
