//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/pipestest"
)

// line returns a message of a child.
func line(method, params string) string {
	return `{"__dagster_pipes_version": "0.1", "method": "` + method + `", "params": ` + params + "}\n"
}

// spoken returns the messages of a child that reports everything.
func spoken() string {
	return line("opened", `{"extras": {}}`) +
		line("log", `{"message": "hello é", "level": "INFO"}`) +
		line("report_asset_materialization", `{"asset_key": "my_asset", "data_version": "v", "metadata": {"rows": {"type": "int", "raw_value": 7}}}`) +
		line("report_asset_check", `{"asset_key": "my_asset", "check_name": "c", "passed": false, "severity": "WARN", "metadata": null}`) +
		line("report_custom_message", `{"payload": {"a": [1.0, null]}}`) +
		line("closed", `{}`)
}

// speaker returns a step, and the arguments of a child in it that writes these
// files.
func speaker(t *testing.T, codes string, files map[string]string) (*dagsterStep, []string) {
	t.Helper()
	s := newStep(t, "my_asset")
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(s.dir, "speak")); err != nil {
		t.Fatal(err)
	}
	return s, []string{"run", "--dagster", "relay", "--max-attempts", "3", "--", "./speak", codes, "file"}
}

func methods(all []pipestest.Message) (names []string) {
	for _, m := range all {
		names = append(names, m.Method)
	}
	return names
}

// Two attempts materialize and fail, a third succeeds: Dagster gets each report once, in
// the child's order, and the log lines of all attempts.
func TestDagsterRelay(t *testing.T) {
	s, args := speaker(t, "1,1,0", map[string]string{"file": spoken()})
	s.run(0, args...)
	received := s.received()
	if got, want := methods(received), []string{
		"opened", "log", "log", "log", "log", "log", "log", "log",
		"report_asset_materialization", "report_asset_check", "report_custom_message", "log", "report_custom_message", "closed",
	}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	s.wantLogged(
		"INFO hello é",
		"WARNING dropped, because the attempt failed: 1 materialization, 1 check, 1 custom message",
		"INFO Retrying speak in 0.0010 seconds (attempt 1/3): exit status 1",
		"INFO hello é",
		"WARNING dropped, because the attempt failed: 1 materialization, 1 check, 1 custom message",
		"INFO Retrying speak in 0.0020 seconds (attempt 2/3): exit status 1",
		"INFO hello é",
		"INFO speak succeeded on attempt 3")
	made := of("report_asset_materialization", received)[0]
	if fmt.Sprint(made) != "map[asset_key:my_asset data_version:v metadata:map[rows:map[raw_value:7 type:int]]]" {
		t.Errorf("materialized %v", made)
	}
	if fmt.Sprint(of("report_custom_message", received)[0]) != "map[payload:map[a:[1.0 <nil>]]]" {
		t.Errorf("custom message %v", of("report_custom_message", received)[0])
	}
	s.wantOutcome(dict{"outcome": "success", "attempts": 3})
	s.nothingLeft()
}

// nothingLeft checks that no private file is left.
func (s *dagsterStep) nothingLeft() {
	s.t.Helper()
	for _, pair := range s.environ {
		if dir, ok := strings.CutPrefix(pair, "TMPDIR="); ok {
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				s.t.Errorf("left behind: %v", left)
			}
		}
	}
}

// The exception of an attempt before a retry is a line of the log. The exception of the
// last attempt is the cause of the command's exception.
func TestDagsterRelayException(t *testing.T) {
	exception := func(text string) string {
		return line("opened", `{"extras": {}}`) + line("closed", `{"exception": {"message": "ValueError: `+text+`\n", "name": "ValueError",
			"stack": ["  File x\n"], "context": null, "cause": {"message": "inner", "name": null, "stack": [], "context": null, "cause": null}}}`)
	}
	exception1, exception2 := strings.ReplaceAll(exception("no luck"), "\n\t\t\t", " "), strings.ReplaceAll(exception("no more luck"), "\n\t\t\t", " ")
	s, args := speaker(t, "5,6", map[string]string{"file.1": exception1, "file.2": exception2, "file": exception2})
	args[slices.Index(args, "3")] = "2"
	s.run(6, args...)
	s.wantLogged(
		"INFO Retrying speak in 0.0010 seconds (attempt 1/2): exit status 5",
		"WARNING attempt 1: the command's exception: ValueError: no luck",
		"WARNING speak failed after 2 attempts (attempts exhausted): exit status 6")
	want := []string{"speak: attempts exhausted after 2 attempts: exit status 6", "exit status 6", "ValueError: no more luck", "inner"}
	if got := s.exceptions(); !slices.Equal(got, want) {
		t.Errorf("closed with %q, want %q", got, want)
	}
	s.wantOutcome(dict{"outcome": "exhausted", "attempts": 2, "exit_code": 6})

	s, args = speaker(t, "0", map[string]string{"file": exception1})
	s.run(0, args...)
	s.wantLogged("WARNING the command closed its session with an exception, but exited with 0: ValueError: no luck")
}

// The outcome of a child that has retried itself decides whether it is retried again.
func TestDagsterRelayNestedRetries(t *testing.T) {
	outcome := func(fields string) string {
		return line("opened", `{"extras": {}}`) + line("report_custom_message", `{"payload": {"kind": "perdure/outcome", `+fields+`}}`) + line("closed", "{}")
	}
	s, args := speaker(t, "9", map[string]string{"file": outcome(`"retryable": false`)})
	s.run(9, args...)
	s.wantOutcome(dict{"outcome": "permanent", "attempts": 1, "retryable": false, "exit_code": 9})

	s, args = speaker(t, "9", map[string]string{"file": outcome(`"retryable": true, "retry_after_s": 600.5`)})
	s.run(9, args...)
	s.wantOutcome(dict{"outcome": "retry_later", "attempts": 1, "retryable": true, "exit_code": 9})
	if after, err := strconv.ParseFloat(fmt.Sprint(s.outcome()["retry_after_s"]), 64); err != nil || after < 480 || after > 601 { // some time has passed
		t.Errorf("come back after %v s (%v), want 600", after, err)
	}
	if n := len(of("report_custom_message", s.received())); n != 1 {
		t.Errorf("%d custom messages, want one outcome", n)
	}
}

// Dagster's reader survives any text of a child, and valid messages in it are relayed.
// The rows are what ends Dagster's reader.
func TestDagsterRelayRefuses(t *testing.T) {
	metadata := func(values string) string {
		return line("report_asset_materialization", `{"asset_key": "my_asset", "data_version": null, "metadata": `+values+`}`)
	}
	long := strings.Repeat("x", 10<<20)
	for name, test := range map[string]struct {
		text string
		want string // part of the one warning; "" is none
	}{
		"blank line":            {"\n", "empty line"},
		"garbage":               {"hello\n", "not a JSON object"},
		"a list":                {"[1]\n", "not a JSON object"},
		"half a message":        {`{"__dagster_pipes_version": "0.1", "method": "log", "params": {"mess`, "not a JSON object"},
		"two in a line":         {strings.TrimSpace(line("log", `{"message": "m"}`)) + line("log", `{"message": "m"}`), "more than one JSON value"},
		"no version":            {`{"method": "log", "params": {"message": "m"}}` + "\n", "__dagster_pipes_version"},
		"no method":             {`{"__dagster_pipes_version": "0.1", "params": {}}` + "\n", "unknown method"},
		"unknown method":        {line("report_asset", `{}`), `unknown method "report_asset"`},
		"params":                {line("log", `[]`), "params must be an object"},
		"10 MB":                 {line("log", `{"message": "`+long+`"}`), "longer than 1048576 bytes"},
		"10 MB, no end":         {long, "longer than 1048576 bytes"},
		"extra key":             {line("log", `{"message": "m", "level": "INFO", "more": 1}`), `log: unknown parameter "more"`},
		"level":                 {line("log", `{"message": "m", "level": "TRACE"}`), `level is "TRACE"`},
		"level of slog":         {line("log", `{"message": "m", "level": "INFO+2"}`), `level is "INFO+2"`},
		"message an object":     {line("log", `{"message": {}}`), "message is {}, want a string"},
		"stream":                {line("log_external_stream", `{"stream": "log", "text": "t", "extras": {}}`), `invalid value "log" for stream`},
		"no data_version":       {line("report_asset_materialization", `{"asset_key": "my_asset", "metadata": null}`), "data_version is missing"},
		"no metadata":           {line("report_asset_materialization", `{"asset_key": "my_asset", "data_version": null}`), "metadata is missing"},
		"unknown asset":         {line("report_asset_materialization", `{"asset_key": "other", "data_version": null, "metadata": null}`), `invalid value "other" for asset key`},
		"no asset":              {line("report_asset_materialization", `{"asset_key": "", "data_version": null, "metadata": null}`), "asset_key is \"\", want a name"},
		"twice":                 {metadata("null") + metadata("null"), `asset "my_asset" is already materialized`},
		"not normalized":        {metadata(`{"k": 1}`), `metadata "k" is 1, want an object`},
		"type job":              {metadata(`{"k": {"type": "job", "raw_value": "j"}}`), `invalid value "job" for type`},
		"type duration":         {metadata(`{"k": {"type": "duration", "raw_value": 1}}`), `invalid value "duration" for type`},
		"int 3.0":               {metadata(`{"k": {"type": "int", "raw_value": 3.0}}`), "invalid value 3.0 for type int"},
		"bool 1":                {metadata(`{"k": {"type": "bool", "raw_value": 1}}`), "invalid value 1 for type bool"},
		"text 1":                {metadata(`{"k": {"type": "text", "raw_value": 1}}`), "invalid value 1 for type text"},
		"json text":             {metadata(`{"k": {"type": "json", "raw_value": "x"}}`), "for type json: must be"},
		"timestamp text":        {metadata(`{"k": {"type": "timestamp", "raw_value": "2024-01-01"}}`), "for type timestamp: must be"},
		"more than a value":     {metadata(`{"k": {"type": "int", "raw_value": 1, "unit": "s"}}`), `metadata "k": unknown parameter "unit"`},
		"severity":              {line("report_asset_check", `{"asset_key": "my_asset", "check_name": "c", "passed": true, "severity": "warn", "metadata": null}`), `invalid value "warn" for severity`},
		"no severity":           {line("report_asset_check", `{"asset_key": "my_asset", "check_name": "c", "passed": true, "severity": null, "metadata": null}`), "severity is null, want a string"},
		"passed":                {line("report_asset_check", `{"asset_key": "my_asset", "check_name": "c", "passed": "true", "severity": "WARN", "metadata": null}`), `passed is "true", want true or false`},
		"no payload":            {line("report_custom_message", `{}`), "payload is missing"},
		"exception, no context": {line("closed", `{"exception": {"message": "m", "stack": [], "name": null, "cause": null}}`), "closed: exception: context is missing"},
		"after closed":          {line("closed", `{}`) + line("log", `{"message": "m"}`), "a message after it closed its session"},

		"no newline":         {strings.TrimSpace(line("log", `{"message": "m"}`)), ""},
		"two programs":       {line("opened", `{"extras": {}}`) + line("closed", `{}`) + line("opened", `{"extras": {}}`) + line("log", `{"message": "m"}`) + line("closed", `{}`), ""},
		"params null":        {line("closed", `null`), ""},
		"levels":             {line("log", `{"message": "m"}`) + line("log", `{"message": "m", "level": "warning"}`) + line("log", `{"message": "m", "level": 30}`), ""},
		"version":            {strings.Replace(line("log", `{"message": "m"}`), "0.1", "9.9", 1), ""},
		"float 100":          {metadata(`{"k": {"type": "float", "raw_value": 100}}`), ""},
		"NaN":                {metadata(`{"k": {"type": "float", "raw_value": NaN}, "NaN": {"type": "__infer__", "raw_value": -Infinity}}`), ""},
		"2^70":               {metadata(`{"k": {"type": "int", "raw_value": 1180591620717411303424}, "l": {"type": "__infer__", "raw_value": [1, {"a": 1}]}}`), ""},
		"table":              {metadata(`{"k": {"type": "table", "raw_value": {"records": [{"a": 1}], "schema": [{"name": "a", "type": "int", "constraints": {"nullable": false}, "tags": {"t": "u"}}]}}}`), ""},
		"schema and lineage": {metadata(`{"k": {"type": "table_schema", "raw_value": {"columns": []}}, "l": {"type": "table_column_lineage", "raw_value": {"deps_by_column": {"c": [{"asset_key": ["a", "b"], "column_name": "d"}]}}}}`), ""},
		"invalid UTF-8":      {line("log", "{\"message\": \"\xff \\ud800\"}"), ""},
		"custom null":        {line("report_custom_message", `{"payload": null}`), ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, args := speaker(t, "0", map[string]string{"file": test.text})
			s.run(0, args...)
			var warnings []string
			for _, text := range s.logged() {
				if strings.HasPrefix(text, "WARNING ") && !strings.HasSuffix(text, " m") {
					warnings = append(warnings, text)
				}
			}
			if test.want == "" && len(warnings) > 0 || test.want != "" && (len(warnings) != 1 || !strings.Contains(warnings[0], test.want)) {
				t.Errorf("warnings %q, want one with %q", warnings, test.want)
			}
			s.wantOutcome(dict{"outcome": "success"})
		})
	}
}

// A child that writes only garbage adds a dozen lines to the log.
func TestDagsterRelayGarbage(t *testing.T) {
	s, args := speaker(t, "0", map[string]string{"file": strings.Repeat("garbage\n", 5000) + line("log", `{"message": "still there"}`)})
	s.run(0, args...)
	lines := s.logged()
	if len(lines) != 12 || lines[10] != "INFO still there" || lines[11] != "WARNING 4990 more messages of the command are not relayed" {
		t.Errorf("logged %q", lines)
	}
}

// Reports beyond the limit are dropped, and delay neither the child nor the command.
func TestDagsterRelayHoldsBackSoMuch(t *testing.T) {
	one := line("report_custom_message", `{"payload": "`+strings.Repeat("x", 40_000)+`"}`)
	s, args := speaker(t, "0", map[string]string{"file": strings.Repeat(one, 500)})
	s.run(0, args...)
	if n := len(of("report_custom_message", s.received())); n < 410 || n > 425 {
		t.Errorf("%d custom messages, want those of 16 MiB", n)
	}
	s.wantLogged("WARNING reports of the command beyond 16777216 bytes are not relayed")
}

// Passthrough is one attempt of a child that reports by itself. Without Dagster the mode
// has no effect.
func TestDagsterPassthrough(t *testing.T) {
	s, args := speaker(t, "7", map[string]string{"file": spoken()})
	if err := os.WriteFile(s.messages, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	args[2] = "passthrough"
	s.run(7, args...)
	text, err := os.ReadFile(s.messages)
	if err != nil || string(text) != spoken() {
		t.Errorf("Dagster got %q, want what the child wrote (%v)", text, err)
	}
	s.environ = s.environ[2:]
	out, _ := s.run(0, "run", "--dagster", "passthrough", "--", "sh", "-c", "echo $PERDURE_ATTEMPT; test $PERDURE_ATTEMPT = 2")
	if out != "1\n2\n" {
		t.Errorf("without Dagster: attempts %q, want two", out)
	}
}

// The mode is a flag or a variable; a wrong value is refused.
func TestDagsterMode(t *testing.T) {
	s, args := speaker(t, "0", map[string]string{"file": spoken()})
	s.environ = append(s.environ, "PERDURE_DAGSTER=relay")
	s.run(0, slices.Concat([]string{"run"}, args[3:])...)
	if n := len(of("report_asset_materialization", s.received())); n != 1 {
		t.Errorf("%d materializations by PERDURE_DAGSTER=relay, want 1", n)
	}
	s = newStep(t)
	_, errs := s.run(64, "run", "--dagster", "rely", "--", "true")
	if !strings.Contains(errs, `invalid value "rely" for --dagster`) {
		t.Errorf("the flag: %s", errs)
	}
	s = newStep(t)
	s.environ = append(s.environ, "PERDURE_DAGSTER=none")
	_, errs = s.run(64, "run", "--", "true")
	if !strings.Contains(errs, `invalid value "none" for PERDURE_DAGSTER: must be`) || !strings.Contains(errs, "strip, relay, passthrough") {
		t.Errorf("the variable: %s", errs)
	}
}
