//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/pipestest"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// withServers gives a step a store and a web server.
func (s *dagsterStep) withServers() *testServers {
	servers := startTestServers(s.t)
	s.environ = append(servers.environ(s.dir), s.environ...)
	return servers
}

// made returns the metadata of the only materialization, each value after its type.
func (s *dagsterStep) made() map[string]string {
	s.t.Helper()
	all := of("report_asset_materialization", s.received())
	if len(all) != 1 || all[0]["asset_key"] != "my_asset" {
		s.t.Fatalf("materialized %v, want my_asset", all)
	}
	values := map[string]string{}
	metadata, _ := all[0]["metadata"].(dict)
	for label, v := range metadata {
		values[label] = fmt.Sprint(pipestest.Member(v, "type"), " ", pipestest.Member(v, "raw_value"))
	}
	return values
}

func wantMetadata(t *testing.T, got map[string]string, want map[string]string) {
	t.Helper()
	var seconds float64
	if n, _ := fmt.Sscanf(got["duration"], "float %g", &seconds); n != 1 || seconds <= 0 || seconds > 600 {
		t.Errorf("duration is %q, want a float of seconds", got["duration"])
	}
	delete(got, "duration")
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("metadata\n%v\nwant\n%v", got, want)
	}
}

// The quickstart's asset: bytes that the step has made go to the store, through
// failures.
func TestDagsterCopyFromStandardInput(t *testing.T) {
	s := newStep(t, "my_asset")
	servers := s.withServers()
	if err := servers.strike([]string{"2", "SlowDown", "PUT"}); err != nil {
		t.Fatal(err)
	}
	s.stdin = "some bytes"
	s.run(0, "copy", "-", "s3://bikes/processed/run-1.parquet")
	if content, _ := servers.store.Object("bikes", "processed/run-1.parquet"); string(content) != "some bytes" {
		t.Errorf("the object has %q", content)
	}
	wantMetadata(t, s.made(), map[string]string{
		"source": "text -", "destination": "text s3://bikes/processed/run-1.parquet", "bytes": "int 10", "checksum": "text crc32:n1l/VQ==",
		"verified": "text crc32", "attempts": "int 3", "retries": "int 2",
	})
}

// The facts of a copy are the metadata of the asset that it makes.
func TestDagsterCopy(t *testing.T) {
	s := newStep(t, "my_asset")
	servers := s.withServers()
	if err := servers.strike([]string{"2", "SlowDown", "PUT"}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "hour.csv"), []byte("123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(0, "copy", "hour.csv", "s3://bikes/raw/")
	wantMetadata(t, s.made(), map[string]string{
		"source": "text hour.csv", "destination": "text s3://bikes/raw/hour.csv", "bytes": "int 9", "checksum": "text crc32:y/Q5Jg==",
		"verified": "text crc32", "attempts": "int 3", "retries": "int 2",
	})
	lines := s.logged()
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "INFO Retrying upload_to_s3 in ") || !strings.Contains(lines[0], "SlowDown") ||
		lines[2] != "INFO upload_to_s3 succeeded on attempt 3 (hour.csv)" || !strings.HasPrefix(lines[3], "INFO Copied hour.csv to ") {
		t.Errorf("logged %q", lines)
	}
	s.wantOutcome(dict{"outcome": "success", "attempts": 3, "exit_code": 0})
	if got := fmt.Sprint(s.outcome()["breaker"]); !strings.HasPrefix(got, "map[name:s3:") || !strings.HasSuffix(got, "state:closed]") {
		t.Errorf("breaker %s", got)
	}
}

// Metadata of type url are links that a browser can follow, without secrets.
func TestDagsterCopyURL(t *testing.T) {
	s := newStep(t, "my_asset")
	web := s.withServers().web.URL
	s.run(0, "copy", strings.Replace(web, "http://", "http://user:hush@", 1)+"/nine?token=hush", "nine")
	text, _ := os.ReadFile(s.messages)
	if strings.Contains(string(text), "hush") {
		t.Errorf("a secret in\n%s", text)
	}
	got := s.made()
	if got["source"] != "url "+strings.Replace(web, "http://", "http://REDACTED@", 1)+"/nine?token=REDACTED" || got["destination"] != "text nine" {
		t.Errorf("from %s to %s", got["source"], got["destination"])
	}
}

// Messages that Dagster wants on standard output are dropped with one warning if the
// copy writes its data there. On standard error they are written.
func TestDagsterCopyToStandardOutput(t *testing.T) {
	for _, test := range []struct {
		kind, stream string
		args         []string
		code         int
		out          string
		warned       bool
	}{
		{"stdio", "stdout", []string{"from", "-"}, 0, "the data", true},
		{"stdio", "stdout", []string{"from", "/dev/stdout"}, 0, "the data", true},
		{"buffered_stdio", "stdout", []string{"from", "-"}, 0, "the data", true},
		{"stdio", "stdout", []string{"nothing", "-"}, 1, "", true},
		{"stdio", "stdout", []string{"--wrong", "from", "-"}, 64, "", true},
		{"stdio", "stderr", []string{"from", "-"}, 0, "the data", false},
		{"stdio", "stdout", []string{"from", "to"}, 0, "opened", false},
	} {
		s := newStepWith(t, pipestest.Context("my_asset"), dict{"path": nil, test.kind: test.stream})
		if err := os.WriteFile(filepath.Join(s.dir, "from"), []byte("the data"), 0o600); err != nil {
			t.Fatal(err)
		}
		out, errs := s.run(test.code, append([]string{"copy"}, test.args...)...)
		if test.out == "opened" { // there is no data: messages are all there is
			out = strings.Trim(fmt.Sprint(methods(read(t, out))[:1]), "[]")
		}
		if out != test.out {
			t.Errorf("%s to %s, %q: wrote %q, want %q", test.kind, test.stream, test.args, out, test.out)
		}
		const warning = "messages to Dagster are lost: DAGSTER_PIPES_MESSAGES points to stdout, which carries the data: let it name a file or stderr"
		if n := strings.Count(errs, warning); (n == 1) != test.warned || n > 1 {
			t.Errorf("%s to %s, %q: %d warnings\n%s", test.kind, test.stream, test.args, n, errs)
		}
	}
}

// read reads messages that were not sent to the file.
func read(t *testing.T, text string) []pipestest.Message {
	t.Helper()
	r, err := pipestest.Read([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return r.Messages
}

// A copy that resumes the copy of another process reports how much was resumed.
func TestDagsterCopyResumed(t *testing.T) {
	s := newStep(t, "my_asset")
	web := s.withServers().web.URL
	s.run(69, "copy", web+"/halves.bin", "halves.bin", "--max-attempts", "1")
	s.wantOutcome(dict{"retryable": true, "exit_code": 69})
	if err := os.Remove(s.messages); err != nil {
		t.Fatal(err)
	}
	s.run(0, "copy", web+"/halves.bin", "halves.bin")
	if got := s.made(); got["resumed"] != "int 600000" || got["bytes"] != "int 1048583" {
		t.Errorf("resumed %s of %s, want 600000 of 1048583", got["resumed"], got["bytes"])
	}
}

// If the step has several assets, --dagster-asset selects one.
func TestDagsterCopyOfSeveralAssets(t *testing.T) {
	for _, test := range []struct {
		assets []string
		flag   string
		code   int
		want   string // that is materialized
	}{
		{[]string{"a", "b"}, "", 0, ""},
		{[]string{"a", "b"}, "b", 0, "b"},
		{[]string{"a", "b"}, "c", 64, ""},
		{[]string{`raw/a\/b`}, "", 0, `raw/a\/b`},
		{nil, "", 0, ""},
		{nil, "c", 0, "c"},
	} {
		s := newStep(t, test.assets...)
		if err := os.WriteFile(filepath.Join(s.dir, "from"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{"copy", "from", "to"}
		if test.flag != "" {
			args = append(args, "--dagster-asset", test.flag)
		}
		_, errs := s.run(test.code, args...)
		var made []string
		for _, m := range of("report_asset_materialization", s.received()) {
			made = append(made, fmt.Sprint(m["asset_key"]))
		}
		if got := strings.Join(made, " "); got != test.want {
			t.Errorf("%q, flag %q: materialized %q, want %q", test.assets, test.flag, got, test.want)
		}
		if test.code != 0 && !strings.Contains(errs, `invalid value "c" for --dagster-asset: must be one of the step's assets: a, b`) {
			t.Errorf("%s", errs)
		}
	}
	s := newStep(t, "a", "b")
	s.environ = s.environ[2:] // without Dagster the flag means nothing
	if err := os.WriteFile(filepath.Join(s.dir, "from"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(0, "copy", "from", "to", "--dagster-asset", "c")
}

// Many files are one asset, which is materialized if all files were copied.
func TestDagsterCopyTree(t *testing.T) {
	s := newStep(t, "my_asset")
	servers := s.withServers()
	for name, text := range map[string]string{"a": "12345", "b": "678", "c": "9"} {
		if err := os.MkdirAll(filepath.Join(s.dir, "files"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.dir, "files", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := servers.store.Store("bikes", "p/a", []byte("12345")); err != nil {
		t.Fatal(err)
	}
	s.run(0, "copy", "-r", "files", "s3://bikes/p")
	got := s.made()
	delete(got, "attempts")
	wantMetadata(t, got, map[string]string{
		"source": "text files", "destination": "text s3://bikes/p", "bytes": "int 4", "files_copied": "int 2", "files_skipped": "int 1",
		"files_failed": "int 0", "retries": "int 0",
	})

	s = newStep(t, "my_asset")
	s.environ = append(servers.environ(s.dir), s.environ...)
	if err := os.MkdirAll(filepath.Join(s.dir, "files"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(s.dir, "files", "link")); err != nil {
		t.Fatal(err)
	}
	s.run(1, "copy", "-r", "files", "s3://bikes/p")
	if slices.Contains(methods(s.received()), "report_asset_materialization") {
		t.Error("materialized though a file is missing")
	}
	s.wantOutcome(dict{"outcome": "permanent", "exit_code": 1, "retryable": false})
}

// When a store is down, the attempts open its breaker, and the outcome says when to
// retry. A command that runs before that sends no request.
func TestDagsterCopyToDeadStore(t *testing.T) {
	s := newStep(t, "my_asset")
	servers := s.withServers()
	s.environ = slices.DeleteFunc(s.environ, func(pair string) bool { return pair == "PERDURE_STORE=memory" })
	servers.store.SetScript(func(s3test.Request) s3test.Fault { return s3test.Reset() })
	if err := os.WriteFile(filepath.Join(s.dir, "from"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(69, "copy", "from", "s3://bikes/to")
	s.wantOutcome(dict{"outcome": "exhausted", "attempts": 5, "retryable": true, "exit_code": 69})
	if o := s.outcome(); !strings.HasSuffix(fmt.Sprint(o["breaker"]), "state:open]") || o["retry_after_s"] == nil {
		t.Errorf("breaker %v, come back after %v", o["breaker"], o["retry_after_s"])
	}
	if got := s.logged(); !slices.ContainsFunc(got, func(text string) bool {
		return strings.HasPrefix(text, "WARNING Circuit breaker 's3:") && strings.Contains(text, "from closed to open")
	}) {
		t.Errorf("no word of the breaker in %q", got)
	}
	sent := servers.store.Count("PUT", "")
	if err := os.Remove(s.messages); err != nil {
		t.Fatal(err)
	}
	s.run(75, "copy", "from", "s3://bikes/to")
	s.wantOutcome(dict{"outcome": "breaker_open", "attempts": 0, "retryable": true, "exit_code": 75})
	if again := servers.store.Count("PUT", "") - sent; again != 0 {
		t.Errorf("%d requests through an open breaker", again)
	}
}
