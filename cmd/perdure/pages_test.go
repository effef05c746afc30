//go:build unix

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/servertest"
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
		body, known := map[string]string{"/stations.json": `{"stations": ["north", "south"]}`, "/trips.csv": "from,to\nnorth,south\n", "/v1/stations": "[]"}[r.URL.Path]
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
		"hour.csv": "hour,trips\n7,12\n", "trips/2024/may.csv": "a\n", "trips/notes.txt": "b\n", "trips/tmp/x.csv": "c\n",
		"policies.yaml": "policies: {default: {preset: service}}\n", "Makefile": "load:\n", "docs/outage.svg": "",
		// the reader's own programs
		"fetch.sh": "#!/bin/sh\n", "load-trips.sh": "#!/bin/sh\n", "report.sh": "#!/bin/sh\n",
		"bin/psql": "#!/bin/sh\n", "bin/producer": "#!/bin/sh\necho a; echo b\n", "bin/process": "#!/bin/sh\necho \"processed $1\"\n",
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
		"PATH=" + filepath.Join(dir, "bin") + ":" + os.Getenv("PATH"), "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, "TMPDIR=" + dir, "GORACE=atexit_sleep_ms=0", "PERDURE_STATE=" + filepath.Join(dir, "state"),
		"PERDURE_BASE_DELAY=0.002", "PERDURE_JITTER=0",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_ENDPOINT_URL=" + store.URL, "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=" + store.AccessKey, "AWS_SECRET_ACCESS_KEY=" + store.SecretKey,
		"RCLONE_CONFIG_S3_TYPE=s3", "RCLONE_CONFIG_S3_PROVIDER=Other", "RCLONE_CONFIG_S3_ENV_AUTH=true", "RCLONE_CONFIG_S3_ENDPOINT=" + store.URL,
	}}
}

// prelude starts a proxy beside the commands that follow it, which begin once it listens, and stops it after them.
const prelude = `
proxies=
finish() { for pid in $proxies; do kill $pid; wait $pid; done; }
perdure() {
	if [ "$1" != proxy ]; then command perdure "$@"; return; fi
	case "$*" in *--listen*|*--to\ 127*) ;; *) set -- "$@" --listen 127.0.0.1:9000 ;; esac
	rm -f proxy.log # of an earlier script
	command perdure "$@" >proxy.log 2>&1 & proxies="$proxies $!"
	until grep -qs Serving proxy.log || ! kill -0 $!; do sleep 0.1; done
	grep -q Serving proxy.log || { cat proxy.log; return 1; }
}
`

// run runs a script of a page, and returns what it prints.
func (s *pageShell) run(t *testing.T, script string) string {
	t.Helper()
	own := regexp.MustCompile(`127\.0\.0\.1:9\d{3}`)
	hosts := regexp.MustCompile(`https://\w+\.example\.(com|org)`)
	port, err := servertest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	script = own.ReplaceAllString(prelude+script+"\nfinish\n", fmt.Sprintf("127.0.0.1:%d", port))
	script = strings.ReplaceAll(script, "/var/lib/node_exporter", s.dir)
	c := exec.CommandContext(t.Context(), "bash", "-euc", hosts.ReplaceAllString(script, s.web)) //nolint:gosec // the pages' own
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

// TestCommandsOfThePages runs each command of perdure that a page shows, in the order of the page, but for the pages that
// have a test of their own. Each must succeed.
func TestCommandsOfThePages(t *testing.T) {
	elsewhere := map[string]string{
		"docs/policies.md": "TestCheckOfThePoliciesPage", "docs/shared-state.md": "TestOpenBreakerOfThePage", "docs/simulate.md": "TestSimulatePage",
		"docs/working-day.md": "TestWorkingDay", "docs/from-other-tools.md": "the test below",
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, file := range append(pages, "../../README.md") {
		name := strings.TrimPrefix(file, "../../")
		scripts := pageScripts(t, file)
		if elsewhere[name] != "" || len(scripts) == 0 {
			continue
		}
		n += len(scripts)
		t.Run(filepath.Base(name), func(t *testing.T) {
			s := newPageShell(t)
			for i, script := range scripts {
				if printed := s.run(t, script); i == 0 && name == "docs/tutorial.md" {
					sameLog(t, pageText(t, "tutorial.md"), printed)
				}
			}
		})
	}
	if n < 20 {
		t.Errorf("the pages have %d blocks of commands, want at least 20", n)
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

// pageScripts returns the blocks of shell commands with perdure of a page, without the commands of other programs that need
// a server or a key of their own: those of an S3 client have tests of their own (TestAWSCLIThroughTheProxy).
func pageScripts(t *testing.T, file string) (scripts []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	foreign := regexp.MustCompile("(?m)^(aws |curl --aws|export AWS).*\n")
	for _, block := range regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
		script := strings.TrimPrefix(foreign.ReplaceAllString(block[2], ""), "0 3 * * * ")
		if regexp.MustCompile(`(?m)^(\$ | *|[A-Z_]+=\S+ )perdure [a-z]`).MatchString(script) && block[1] != "go" && block[1] != "python" {
			scripts = append(scripts, strings.Replace(script, "| man -l -", "| grep -q perdure", 1))
		}
	}
	return scripts
}

// sameLog compares the log that a page shows with what was printed, but for the durations.
func sameLog(t *testing.T, page, printed string) {
	t.Helper()
	durations := regexp.MustCompile(`[0-9.]+ seconds|[0-9.]+ s, [0-9.]+ \S+/s`)
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
