//go:build integration && unix

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// token is what the API of the day wants.
const token = "t0ken-of-the-day" //nolint:gosec // of this test alone

// api serves trips in pages, to those that have the token, and the files of three months. Every third request of a client
// fails: with 503, with a body that breaks, or with 429.
func api(t *testing.T) *httptest.Server {
	t.Helper()
	var mu sync.Mutex
	asked := 0
	respond := func(w http.ResponseWriter, content []byte) {
		mu.Lock()
		asked++
		n := asked
		mu.Unlock()
		if n%3 != 1 {
			_, _ = w.Write(content)
			return
		}
		switch n / 3 % 3 {
		case 0:
			http.Error(w, "the database restarts", http.StatusServiceUnavailable)
		case 1:
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			_, _ = w.Write(content[:len(content)/2])
		default:
			w.Header().Set("Retry-After", "0")
			http.Error(w, "slow down", http.StatusTooManyRequests)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/trips", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			http.Error(w, "no valid token", http.StatusUnauthorized)
			return
		}
		page := 1
		_, _ = fmt.Sscan(r.URL.Query().Get("page"), &page)
		body := map[string]any{"items": []map[string]int{{"trip": 2*page - 1}, {"trip": 2 * page}}}
		if page < 4 {
			body["next"] = fmt.Sprintf("/trips?page=%d", page+1)
		}
		text, _ := json.Marshal(body) // maps of numbers and texts cannot fail
		w.Header().Set("Content-Type", "application/json")
		respond(w, text)
	})
	mux.HandleFunc("/months/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		respond(w, []byte(strings.Repeat(r.URL.Path+"\n", 1000)))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// fourthFails is a store of which every fourth request fails.
func fourthFails() s3test.Script {
	var asked atomic.Int64
	return func(s3test.Request) s3test.Fault {
		switch n := asked.Add(1); {
		case n%4 != 2:
			return s3test.Fault{}
		case n%8 == 2:
			return s3test.SlowDown()
		}
		return s3test.Reset()
	}
}

// TestWorkingDay runs the commands of docs/working-day.md, one after the other, against an API and two stores that fail often,
// and compares what they print with the page, but for numbers and for the order and number of retries. With
// PERDURE_TEST_REDRAW=1 it writes the page instead.
func TestWorkingDay(t *testing.T) {
	const name = "../../docs/working-day.md"
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	server := api(t)
	store := s3test.Start(t, s3test.Options{Buckets: []string{"bikes"}})
	store.SetScript(fourthFails())
	backup := secondStore(t, "bikes")
	backup.SetScript(fourthFails())
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "raw"), 0o700); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	environ := []string{
		"HOME=" + home, "PERDURE_STATE=" + filepath.Join(home, "state"), "PERDURE_BASE_DELAY=0.002", "PERDURE_JITTER=0", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ENDPOINT_URL=" + store.URL, "AWS_ACCESS_KEY_ID=" + store.AccessKey, "AWS_SECRET_ACCESS_KEY=" + store.SecretKey,
		"API=" + server.URL, "BACKUP=" + backup.URL, "TOKEN=" + token,
	}
	urls := strings.NewReplacer(server.URL, "http://api.test", store.URL, "http://store.test", backup.URL, "http://backup.test", dir, "~/day")
	blocks := regexp.MustCompile("(?s)```console\n(.*?)```")
	written := blocks.ReplaceAllStringFunc(string(page), func(block string) string {
		var b strings.Builder
		b.WriteString("```console\n")
		for line := range strings.SplitSeq(block, "\n") {
			text, isCommand := strings.CutPrefix(line, "$ ")
			if !isCommand {
				continue
			}
			out := urls.Replace(sh(t, dir, environ, text))
			if strings.Contains(out, token) {
				t.Errorf("%s: the output has the token:\n%s", text, out)
			}
			b.WriteString(line + "\n" + out)
		}
		return b.String() + "```"
	})
	if os.Getenv("PERDURE_TEST_REDRAW") != "" {
		if err := os.WriteFile(name, []byte(written), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, want := settled(written), settled(string(page))
	for n, line := range got {
		if n >= len(want) || line != want[n] {
			t.Fatalf("the commands print\n%s\nand not what docs/working-day.md shows, %q", written, want[min(n, len(want)-1)])
		}
	}
	if !strings.Contains(written, "Retrying ") {
		t.Error("no attempt failed")
	}
	for _, key := range store.Keys("bikes") {
		a, _ := store.Object("bikes", key)
		if b, ok := backup.Object("bikes", key); !ok || string(a) != string(b) {
			t.Errorf("%s differs between the stores: %d and %d bytes", key, len(a), len(b))
		}
	}
}

// sh runs a command line of a shell that has perdure, and returns what it prints.
func sh(t *testing.T, dir string, environ []string, text string) string {
	t.Helper()
	perdure := command(t, environ)
	c := exec.CommandContext(t.Context(), "sh", "-c", text)
	c.Dir, c.Env = dir, append(perdure.Env, "PATH="+filepath.Dir(perdure.Path)+":"+os.Getenv("PATH"))
	out, err := c.CombinedOutput()
	if err != nil {
		out = fmt.Appendf(out, "(%v)\n", err)
	}
	return string(out)
}

// settled returns the lines of text without what differs from run to run: numbers, the lines of retries, and the order of the
// lines that a command prints.
func settled(text string) (lines []string) {
	begun := 0
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "$ ") || line == "```" {
			slices.Sort(lines[begun:])
			begun = len(lines) + 1
		}
		if !strings.Contains(line, "Retrying ") && !strings.Contains(line, " succeeded on attempt ") && !strings.Contains(line, "Resum") {
			lines = append(lines, regexp.MustCompile(`[0-9]+ requests?( \([0-9]+ retr(y|ies)\))?|[0-9]+(\.[0-9]+)?( ([KMG]iB|bytes?)(/s)?)?`).ReplaceAllString(line, "#"))
		}
	}
	return lines
}
