//go:build unix

package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/pipestest"
)

// A dagsterStep starts the command as Dagster does, and reads its messages.
type dagsterStep struct {
	t        *testing.T
	dir      string
	messages string // the file
	stdin    string
	environ  []string
}

type dict = map[string]any

// newStep returns a step that makes those assets.
func newStep(t *testing.T, assets ...string) *dagsterStep {
	t.Helper()
	return newStepWith(t, pipestest.Context(assets...), nil)
}

// newStepWith returns a step with that context, and with further parameters of the
// messages beside the path.
func newStepWith(t *testing.T, context, messages dict) *dagsterStep {
	t.Helper()
	dir := t.TempDir()
	s := &dagsterStep{t: t, dir: dir, messages: filepath.Join(dir, "messages")}
	to := dict{"path": s.messages}
	maps.Copy(to, messages)
	if to["path"] == nil {
		delete(to, "path") // it would win
	}
	for name, params := range map[string]dict{"DAGSTER_PIPES_CONTEXT": {"data": context}, "DAGSTER_PIPES_MESSAGES": to} {
		packed, err := pipestest.Pack(params)
		if err != nil {
			t.Fatal(err)
		}
		s.environ = append(s.environ, name+"="+packed)
	}
	s.environ = append(s.environ, noRaceDelay, "PERDURE_JITTER=0", "PERDURE_BASE_DELAY=0.001", "TMPDIR="+t.TempDir(), "PERDURE_STATE="+filepath.Join(dir, "state"))
	return s
}

// run runs the command as the step does, and checks its exit code.
func (s *dagsterStep) run(code int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	var out, errs bytes.Buffer
	c := command(s.t, s.environ, args...)
	c.Dir, c.Stdin, c.Stdout, c.Stderr = s.dir, strings.NewReader(s.stdin), &out, &errs
	_ = c.Run() // the code tells
	if got := c.ProcessState.ExitCode(); got != code {
		s.t.Fatalf("exit code %d, want %d\n%s%s", got, code, &out, &errs)
	}
	return out.String(), errs.String()
}

// received returns the messages, which Dagster's reader must survive, with one opened and
// one closed.
func (s *dagsterStep) received() []pipestest.Message {
	s.t.Helper()
	text, err := os.ReadFile(s.messages)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := pipestest.Read(text)
	if err != nil || r.Opened != 1 || r.Closed != 1 {
		s.t.Fatalf("opened %d times, closed %d times: %v\n%s", r.Opened, r.Closed, err, text)
	}
	return r.Messages
}

// of returns the parameters of the messages of that method.
func of(method string, all []pipestest.Message) (found []dict) {
	for _, m := range all {
		if m.Method == method {
			found = append(found, m.Params)
		}
	}
	return found
}

// logged returns the lines of the step's log, each after its level.
func (s *dagsterStep) logged() (lines []string) {
	s.t.Helper()
	for _, p := range of("log", s.received()) {
		lines = append(lines, fmt.Sprint(p["level"], " ", p["message"]))
	}
	return lines
}

// outcome returns the only outcome.
func (s *dagsterStep) outcome() dict {
	s.t.Helper()
	all := of("report_custom_message", s.received())
	if len(all) == 0 {
		s.t.Fatalf("there is no outcome")
	}
	o, _ := all[len(all)-1]["payload"].(dict)
	if o["kind"] != "perdure/outcome" {
		s.t.Fatalf("the last custom message is %v", o)
	}
	return o
}

// wantOutcome compares some fields of the outcome, as text.
func (s *dagsterStep) wantOutcome(want dict) {
	s.t.Helper()
	o := s.outcome()
	for name, v := range want {
		if fmt.Sprint(o[name]) != fmt.Sprint(v) {
			s.t.Errorf("outcome: %s is %v, want %v\n%v", name, o[name], v, o)
		}
	}
}

// exceptions returns the messages of the exception that the session was closed
// with, outermost first.
func (s *dagsterStep) exceptions() (texts []string) {
	s.t.Helper()
	for e := of("closed", s.received())[0]["exception"]; e != nil; e = pipestest.Member(e, "cause") {
		texts = append(texts, fmt.Sprint(pipestest.Member(e, "message")))
	}
	return texts
}

func (s *dagsterStep) wantLogged(want ...string) {
	s.t.Helper()
	if got := s.logged(); !slices.Equal(got, want) {
		s.t.Errorf("logged\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Retries are in the step's log, and the outcome is reported. The child does not see
// Dagster.
func TestDagsterRun(t *testing.T) {
	s := newStep(t, "my_asset")
	out, _ := s.run(0, "run", "--", "sh", "-c", `env | grep -c DAGSTER_PIPES; echo $PERDURE_ATTEMPT; test $PERDURE_ATTEMPT = 3`)
	if out != "0\n1\n0\n2\n0\n3\n" {
		t.Errorf("the child wrote %q", out)
	}
	s.wantLogged(
		"INFO Retrying sh in 0.0010 seconds (attempt 1/5): exit status 1",
		"INFO Retrying sh in 0.0020 seconds (attempt 2/5): exit status 1",
		"INFO sh succeeded on attempt 3")
	s.wantOutcome(dict{"outcome": "success", "attempts": 3, "last_error": "exit status 1", "exit_code": 0, "retryable": false, "version": 1, "breaker": nil})
	if got := s.exceptions(); len(got) > 0 {
		t.Errorf("closed with %q", got)
	}
	if made := of("report_asset_materialization", s.received()); len(made) > 0 {
		t.Errorf("materialized %v: what a command makes is not known", made)
	}
}

// The outcome of each way to end a command has the reason, whether to retry, and the exit
// code.
func TestDagsterFailures(t *testing.T) {
	for _, test := range []struct {
		name      string
		args      string // of perdure, separated by spaces
		code      int
		want      dict
		exception string
	}{
		{"exhausted", "run --max-attempts 2 -- sh -c exit\t7", 7, dict{"outcome": "exhausted", "attempts": 2, "retryable": true, "last_error": "exit status 7"}, "sh: attempts exhausted after 2 attempts: exit status 7"},
		{"exhausted, by a code that is also ours", "run --max-attempts 1 -- sh -c exit\t1", 1, dict{"outcome": "exhausted", "attempts": 1, "retryable": true}, "sh: attempts exhausted after 1 attempt: exit status 1"},
		{"permanent", "run --stop-on-exit 69 -- sh -c exit\t69", 69, dict{"outcome": "permanent", "attempts": 1, "retryable": false}, "exit status 69"},
		{"permanent, later", "run --retry-on-exit 1 -- sh -c exit\t$PERDURE_ATTEMPT", 2, dict{"outcome": "permanent", "attempts": 2, "retryable": false}, "sh: permanent error after 2 attempts: exit status 2"},
		{"no such command", "run -- no-such-command", 127, dict{"outcome": "permanent", "retryable": false}, "no-such-command: command not found"},
		{"killed", "run --max-attempts 1 -- sh -c kill\t-9\t$$", 137, dict{"outcome": "exhausted", "last_error": "ended by signal: killed"}, "sh: attempts exhausted after 1 attempt: ended by signal: killed"},
		{"timeout", "run --max-attempts 1 --attempt-timeout 0.1 -- sleep 90", 124, dict{"outcome": "exhausted", "last_error": "timed out after 100ms"}, "sleep: attempts exhausted after 1 attempt: timed out after 100ms"},
		{"timeout that is not to be retried", "run --ignore-on timeout --attempt-timeout 0.1 -- sleep 90", 124, dict{"outcome": "permanent", "retryable": false, "last_error": "timed out after 100ms"}, "timed out after 100ms"},
		{"wrong flag", "run --max-atempts 3 -- true", 64, dict{"outcome": "permanent", "retryable": false}, "unknown flag: --max-atempts; did you mean --max-attempts?\nsee: perdure run --help"},
		{"wrong value", "run --max-attempts 0 -- true", 64, dict{"outcome": "permanent"}, `invalid value "0" for --max-attempts: must be a whole number of at least 1, or unlimited`},
		{"wrong argument", "copy a", 64, dict{"outcome": "permanent"}, "invalid number of arguments 1: must be two or more: SRC... and DST\nsee: perdure copy --help"},
		{"no such file", "copy nothing there", 1, dict{"outcome": "permanent", "retryable": false}, "read nothing: no such file or directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStep(t, "my_asset")
			args := strings.Split(test.args, " ")
			for i, arg := range args {
				args[i] = strings.ReplaceAll(arg, "\t", " ")
			}
			s.run(test.code, args...)
			test.want["exit_code"] = test.code
			s.wantOutcome(test.want)
			if got := s.exceptions(); len(got) == 0 || got[0] != test.exception {
				t.Errorf("closed with %q, want %q", got, test.exception)
			}
		})
	}
}

// In an invalid environment the command does its work, and so does the child.
func TestDagsterCorruptEnvironment(t *testing.T) {
	pack := func(v any) string {
		packed, err := pipestest.Pack(v)
		if err != nil {
			t.Fatal(err)
		}
		return packed
	}
	for name, test := range map[string]struct{ context, messages, want string }{
		"no base64":       {"%%%", pack(dict{"path": "m"}), "DAGSTER_PIPES_CONTEXT is not base64"},
		"no zlib":         {base64.StdEncoding.EncodeToString([]byte("{}")), pack(dict{"path": "m"}), "DAGSTER_PIPES_CONTEXT is not zlib data"},
		"no JSON":         {pack(`{"data"`), pack(dict{"path": "m"}), "DAGSTER_PIPES_CONTEXT does not hold a JSON object"},
		"no object":       {pack("[1]"), pack(dict{"path": "m"}), "DAGSTER_PIPES_CONTEXT does not hold a JSON object"},
		"empty":           {"", pack(dict{"path": "m"}), "DAGSTER_PIPES_CONTEXT"},
		"no context file": {pack(dict{"path": "/no/such/file"}), pack(dict{"path": "m"}), "read the context: open /no/such/file"},
		"no messages":     {pack(dict{"data": pipestest.Context()}), "", "DAGSTER_PIPES_MESSAGES"},
		"wrong messages":  {pack(dict{"data": pipestest.Context()}), pack(dict{"path": 7}), `DAGSTER_PIPES_MESSAGES: "path" is 7, want a string`},
	} {
		for _, mode := range []string{"strip", "relay"} {
			t.Run(name+"/"+mode, func(t *testing.T) {
				s := newStep(t)
				s.environ = append(s.environ[2:], "DAGSTER_PIPES_CONTEXT="+test.context, "DAGSTER_PIPES_MESSAGES="+test.messages)
				out, errs := s.run(3, "run", "--dagster", mode, "--max-attempts", "2", "--", "sh", "-c", `env | grep DAGSTER_PIPES; exit 3`)
				if out != "" {
					t.Errorf("the child saw %q", out)
				}
				if strings.Count(errs, "WARN: Nothing is reported to Dagster") != 1 || !strings.Contains(errs, test.want) {
					t.Errorf("want one warning with %q\n%s", test.want, errs)
				}
				if _, err := os.Stat(filepath.Join(s.dir, "m")); err == nil {
					t.Error("something was written")
				}
			})
		}
	}
}

// Messages that can't be written are lost, with one warning.
func TestDagsterUnwritableMessages(t *testing.T) {
	for _, path := range []string{"/no/such/directory/messages", "/dev/full"} {
		if _, err := os.Stat(path); path == "/dev/full" && err != nil {
			continue // it is Linux's
		}
		s := newStepWith(t, pipestest.Context("my_asset"), dict{"path": path})
		_, errs := s.run(0, "run", "--", "sh", "-c", "test $PERDURE_ATTEMPT = 3")
		if n := strings.Count(errs, "messages to Dagster are lost"); n != 1 {
			t.Errorf("%s: %d warnings, want one\n%s", path, n, errs)
		}
		s.run(7, "run", "--max-attempts", "2", "--", "sh", "-c", "exit 7")
	}
}

// Messages on standard output start on a new line, also if the child's output ends
// within a line.
func TestDagsterMessagesBesideOutput(t *testing.T) {
	s := newStepWith(t, pipestest.Context(), dict{"path": nil, "stdio": "stdout"})
	out, _ := s.run(0, "run", "--", "sh", "-c", `printf %s $PERDURE_ATTEMPT; test $PERDURE_ATTEMPT = 2`)
	var messages, others []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "{") {
			messages = append(messages, line)
		} else {
			others = append(others, line)
		}
	}
	got := methods(read(t, strings.Join(messages, "")))
	if want := []string{"opened", "log", "log", "report_custom_message", "closed"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q\n%s", got, want, out)
	}
	if got := strings.ReplaceAll(strings.Join(others, ""), "\n", ""); got != "12" {
		t.Errorf("the child wrote %q", got)
	}
}

// The child's output passes through unchanged, and is also sent if Dagster asks for it.
func TestDagsterStreams(t *testing.T) {
	for _, include := range []bool{false, true} {
		s := newStepWith(t, pipestest.Context(), dict{"include_stdio_in_messages": include})
		out, errs := s.run(0, "run", "--", "sh", "-c", `printf 'one\ntwo'; printf 'three\n' >&2; test $PERDURE_ATTEMPT = 2`)
		if out != "one\ntwoone\ntwo" || strings.Count(errs, "three\n") != 2 {
			t.Errorf("include %v: passed through %q and %q", include, out, errs)
		}
		sent := map[any]string{}
		for _, p := range of("log_external_stream", s.received()) {
			sent[p["stream"]] += fmt.Sprint(p["text"])
		}
		want := map[any]string{}
		if include {
			want = map[any]string{"stdout": "one\ntwoone\ntwo", "stderr": "three\nthree\n"}
		}
		if fmt.Sprint(sent) != fmt.Sprint(want) {
			t.Errorf("include %v: sent %q, want %q", include, sent, want)
		}
	}
}
