//go:build unix

package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// A pageShell runs the commands of a page in one directory, against a store and a web server. It has the files that the
// pages name.
type pageShell struct {
	dir string
	env []string
	web string
}

// newPageShell starts the servers. The web server fails the first request for each path with a 503.
func newPageShell(t *testing.T) *pageShell {
	t.Helper()
	for _, program := range []string{"bash", "curl", "tar"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	store := s3test.Start(t, s3test.Options{Buckets: []string{"bikes", "backup"}})
	var mu sync.Mutex
	seen := make(map[string]bool)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		first := !seen[r.URL.Path]
		seen[r.URL.Path] = true
		mu.Unlock()
		body, known := map[string]string{"/stations.json": `{"stations": ["north", "south"]}`, "/trips.csv": "from,to\nnorth,south\n"}[r.URL.Path]
		switch {
		case !known:
			http.NotFound(w, r)
		case first:
			http.Error(w, "not now", http.StatusServiceUnavailable)
		default:
			_, _ = w.Write([]byte(body))
		}
	}))
	t.Cleanup(web.Close)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"hour.csv": "hour,trips\n7,12\n", "trips/2024/may.csv": "a\n", "trips/notes.txt": "b\n", "trips/tmp/x.csv": "c\n", "fetch.sh": "#!/bin/sh\nexit 0\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o700); err != nil { //nolint:gosec // a script is executed
			t.Fatal(err)
		}
	}
	return &pageShell{dir: dir, web: web.URL, env: []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "GORACE=atexit_sleep_ms=0", "PERDURE_STATE=" + filepath.Join(dir, "state"),
		"PERDURE_BASE_DELAY=0.002", "PERDURE_JITTER=0",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_ENDPOINT_URL=" + store.URL, "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=" + store.AccessKey, "AWS_SECRET_ACCESS_KEY=" + store.SecretKey,
		"RCLONE_CONFIG_S3_TYPE=s3", "RCLONE_CONFIG_S3_PROVIDER=Other", "RCLONE_CONFIG_S3_ENV_AUTH=true", "RCLONE_CONFIG_S3_ENDPOINT=" + store.URL,
	}}
}

// run runs a script of a page, and returns what it prints.
func (s *pageShell) run(t *testing.T, script string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), "bash", "-euc", strings.ReplaceAll(script, "https://api.example.com", s.web)) //nolint:gosec // the pages' own
	c.Dir, c.Env = s.dir, s.env
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%s\n%v\n%s", script, err, out)
	}
	t.Logf("%s\n%s", script, out)
	return strings.ReplaceAll(string(out), s.web, "https://api.example.com")
}

func pageText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestCommandsOfThePages runs each command of perdure that the tutorial, the recipes and the tables of other tools show, in
// the order of the page. Each must succeed.
func TestCommandsOfThePages(t *testing.T) {
	for name, want := range map[string]int{"tutorial.md": 6, "recipes.md": 9} {
		t.Run(name, func(t *testing.T) {
			s, n := newPageShell(t), 0
			for _, block := range regexp.MustCompile("(?s)```(sh|cron)\n(.*?)```").FindAllStringSubmatch(pageText(t, name), -1) {
				script := block[2]
				if block[1] == "cron" {
					script = strings.TrimPrefix(script, "0 3 * * * ")
				}
				printed := s.run(t, script)
				if n++; n == 1 && name == "tutorial.md" {
					sameLog(t, pageText(t, name), printed)
				}
			}
			if n != want {
				t.Errorf("%s has %d blocks of commands, want %d", name, n, want)
			}
		})
	}
	t.Run("from-other-tools.md", func(t *testing.T) {
		s := newPageShell(t)
		rows := tableCommands(t)
		for _, row := range rows {
			s.run(t, row[1])
		}
		if len(rows) != 24 {
			t.Errorf("the tables have %d rows, want 24", len(rows))
		}
	})
}

// sameLog compares the log that a page shows with what was printed, but for the durations.
func sameLog(t *testing.T, page, printed string) {
	t.Helper()
	durations := regexp.MustCompile(`[0-9.]+ seconds`)
	shown := regexp.MustCompile("(?s)```\n(INFO: .*?)```").FindStringSubmatch(page)
	if shown == nil || durations.ReplaceAllString(shown[1], "") != durations.ReplaceAllString(printed, "") {
		t.Errorf("the page shows %q, and this was printed:\n%s", shown, printed)
	}
}

// tableCommands returns the two commands of each row of the tables of docs/from-other-tools.md.
func tableCommands(t *testing.T) (rows [][2]string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?m)^\\| `?([^|]*?)`? \\| `(perdure [^|`]+)` \\|").FindAllStringSubmatch(pageText(t, "from-other-tools.md"), -1) {
		rows = append(rows, [2]string{m[1], m[2]})
	}
	return rows
}
