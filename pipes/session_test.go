package pipes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/pipestest"
)

// Open reads the parameters. If one is wrong, the error names it and nothing is
// written.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	at := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	messages := filepath.Join(dir, "messages")
	to := dict{"path": messages}
	inline := dict{"data": pipestest.Context("my_asset")}
	for _, c := range []struct {
		name          string
		from, to      any    // parameters; a string is their text
		runID, refuse string // the session's run, or a part of the error
	}{
		{"file", dict{"path": at("context", `{"run_id":"by path","asset_keys":["a"]}`)}, to, "by path", ""},
		{"inline", inline, to, "run-1", ""},
		{"file and inline", dict{"path": at("both", `{"run_id":"by path"}`), "data": dict{"run_id": "by data"}}, to, "by path", ""},
		{"a field of the future", dict{"data": dict{"run_id": "r", "new": 1}}, to, "r", ""},
		{"no context in it", dict{}, to, "", `DAGSTER_PIPES_CONTEXT has neither "path" nor "data"`},
		{"path is no string", dict{"path": 7}, to, "", `DAGSTER_PIPES_CONTEXT: "path" is 7, want a string`},
		{"path is null", dict{"path": nil}, to, "", `"path" is null, want a string`},
		{"data is no object", dict{"data": []int{}}, to, "", "not a JSON object"},
		{"a field of another type", dict{"data": dict{"retry_number": "x"}}, to, "", "retry_number"},
		{"no such file", dict{"path": filepath.Join(dir, "none")}, to, "", "no such file"},
		{"no messages variable", inline, nil, "", "DAGSTER_PIPES_CONTEXT is set, but DAGSTER_PIPES_MESSAGES is not"},
		{"no messages in it", inline, dict{}, "", `DAGSTER_PIPES_MESSAGES has neither "path" nor "stdio" nor "buffered_stdio"`},
		{"messages path is no string", inline, dict{"path": 7}, "", `DAGSTER_PIPES_MESSAGES: "path" is 7, want a string`},
		{"unknown stream", inline, dict{"stdio": "both"}, "", `invalid value "both" for "stdio": must be stdout or stderr`},
		{"unknown buffered stream", inline, dict{"buffered_stdio": "log"}, "", `invalid value "log" for "buffered_stdio"`},
		{"stream is no string", inline, dict{"stdio": true}, "", `"stdio" is true, want a string`},
		{"stdio that is no bool", inline, dict{"path": messages, "include_stdio_in_messages": "yes"}, "", `"include_stdio_in_messages" is "yes", want true or false`},
		{"parameters that are no JSON", "{", to, "", "DAGSTER_PIPES_CONTEXT does not hold a JSON object"},
		{"parameters that are a list", "[]", to, "", "DAGSTER_PIPES_CONTEXT does not hold a JSON object"},
		{"parameters that are null", inline, "null", "", "DAGSTER_PIPES_MESSAGES holds null"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Cleanup(func() { _ = os.Remove(messages) })
			s, err := Open(t.Context(), Config{LookupEnv: environment(t, c.from, c.to), Stderr: t.Output()})
			if c.refuse == "" {
				s.Close(nil)
				if err != nil || s.Context.RunID != c.runID || !s.Launched() {
					t.Fatalf("run %q, launched %v, error %v; want run %q", s.Context.RunID, s.Launched(), err, c.runID)
				}
				compare(t, messagesIn(t, messages), []string{`opened {"extras":{}}`, "closed {}"})
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.refuse) {
				t.Fatalf("error %v, want %q", err, c.refuse)
			}
			if _, err := os.Stat(messages); err == nil {
				t.Error("there is a messages file")
			}
			if s == nil || s.Launched() || s.Log(slog.LevelDebug, "goes nowhere") != nil || s.Materialize(Materialization{}) != nil {
				t.Error("the session that came with the error is of no use")
			}
		})
	}
}

// Variables that Dagster's own library packed are read; of others the error names the
// variable.
func TestUnpack(t *testing.T) {
	for _, c := range []struct{ value, want, err string }{
		{"eJyrVipILMlQslJQ0i/JLdBPLqlQqgUAQwcGhg==", `{"path": "/tmp/ctx"}`, ""},
		{"eJyrVipILMlQslJQ0i/JLdDPLU4vVtJRUMrMS84pTUmNLy5JycyPz8yLz00tLk5MTy0GqkxLzClOrQUAMTMUOQ==", `{"path": "/tmp/msgs", "include_stdio_in_messages": false}`, ""},
		{
			"eJyrVkpJLElUslKoVkosLk4tic9OrSwGcqOVcivjwSJKsToKSkWlefGZKUBxpSJDJRA/taSoMj6vNDcptQgoagAUSq0oKUoEaa2ura0FAOVIHGY=",
			`{"data": {"asset_keys": ["my_asset"], "run_id": "r1", "retry_number": 0, "extras": {}}}`, "",
		},
		{"", "", "VARIABLE is not zlib data"},
		{"%", "", "VARIABLE is not base64"},
		{"AAAA", "", "VARIABLE is not zlib data"},
		{"eJyrVipILMlQslJQ0i/J", "", "VARIABLE is not zlib data"},
		{"H4sIAAAAAAAA", "", "VARIABLE is not zlib data"},
	} {
		p, err := unpack("VARIABLE", c.value)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("unpack(%q): error %v, want %q", c.value, err, c.err)
			}
			continue
		}
		want := map[string]json.RawMessage{}
		if uerr := json.Unmarshal([]byte(c.want), &want); uerr != nil || err != nil || fmt.Sprint(p.values) != fmt.Sprint(want) {
			t.Errorf("unpack(%q) = %s, %v, want %s", c.value, p.values, err, c.want)
		}
	}
}

// The parameters may be arguments, among arguments of the program.
func TestOpenByArguments(t *testing.T) {
	file := filepath.Join(t.TempDir(), "messages")
	from, to := pack(t, dict{"data": pipestest.Context("a")}), pack(t, dict{"path": file})
	for _, args := range [][]string{
		{"-x", "--dagster-pipes-context", from, "y", "--dagster-pipes-messages", to, "--z"},
		{"--dagster-pipes-messages=" + to, "--dagster-pipes-context=" + from, "--dagster-pipes-context"},
	} {
		s, err := Open(t.Context(), Config{Args: args, LookupEnv: environment(t, dict{}, dict{})})
		if err != nil || s.Context.RunID != "run-1" {
			t.Errorf("Open with %d arguments: run %q, %v", len(args), s.Context.RunID, err)
		}
		s.Close(nil)
	}
}

// The context of a step is read in full.
func TestContext(t *testing.T) {
	c := pipestest.Context("a")
	c["code_version_by_asset_key"] = dict{"a": "v1"}
	c["provenance_by_asset_key"] = dict{"a": dict{"code_version": "v0", "input_data_versions": dict{"x": "1"}, "is_user_provided": true}}
	c["partition_key"] = "2026-01-11"
	c["partition_key_range"] = dict{"start": "2026-01-11", "end": "2026-01-11"}
	c["partition_time_window"] = dict{"start": "2026-01-11T00:00:00+01:00", "end": "2026-01-12T00:00:00"}
	c["retry_number"] = 2
	c["extras"] = dict{"k": []any{1, dict{"a": nil}}, "big": json.Number("12345678901234567890")}
	d := listen(t, c).Context
	key, err := d.AssetKey()
	if key != "a" || err != nil {
		t.Errorf("AssetKey() = %q, %v", key, err)
	}
	version, err := d.CodeVersion()
	if version != "v1" || err != nil {
		t.Errorf("CodeVersion() = %q, %v", version, err)
	}
	provenance, err := d.Provenance()
	if err != nil || fmt.Sprint(*provenance) != "{v0 map[x:1] true}" {
		t.Errorf("Provenance() = %v, %v", provenance, err)
	}
	if partition, err := d.Partition(); partition != "2026-01-11" || err != nil {
		t.Errorf("Partition() = %q, %v", partition, err)
	}
	start, end, err := d.Window.Times()
	if err != nil || end.Sub(start) != 25*time.Hour {
		t.Errorf("Times() = %v, %v, %v, want 25h", start, end, err)
	}
	if d.RetryNumber != 2 || *d.JobName != "job" {
		t.Errorf("retry %d of job %q", d.RetryNumber, *d.JobName)
	}
	var list []any
	var big json.Number
	if err := errors.Join(d.Extra("k", &list), d.Extra("big", &big)); err != nil || fmt.Sprint(list) != "[1 map[a:<nil>]]" || big != "12345678901234567890" {
		t.Errorf("extras %v, %v, %v", list, big, err)
	}
	if err := d.Extra("none", &list); err == nil || !strings.Contains(err.Error(), `no extra "none"`) {
		t.Errorf("Extra(none): %v", err)
	}
	if err := d.Extra("k", &big); err == nil || !strings.Contains(err.Error(), `extra "k"`) {
		t.Errorf("Extra of another type: %v", err)
	}
}

// An accessor of the one asset or partition is an error if the step has none or several.
func TestContextWithoutOne(t *testing.T) {
	ranged := pipestest.Context("a", "b")
	ranged["partition_key_range"] = dict{"start": "x", "end": "y"}
	for _, c := range []struct {
		context   dict
		key, part string
	}{
		{pipestest.Context(), "the step makes 0 assets", "the step has no partition"},
		{ranged, "the step makes 2 assets", `partitions "x" to "y"`},
	} {
		d := listen(t, c.context).Context
		_, keyErr := d.AssetKey()
		_, versionErr := d.CodeVersion()
		_, provenanceErr := d.Provenance()
		_, partErr := d.Partition()
		for err, want := range map[error]string{keyErr: c.key, versionErr: c.key, provenanceErr: c.key, partErr: c.part} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
		}
	}
	if d := listen(t, pipestest.Context("a")).Context; d.Provenances != nil || d.CodeVersions != nil || d.AssetKeys == nil {
		t.Errorf("context %+v", d)
	}
	if version, err := listen(t, pipestest.Context("a")).Context.CodeVersion(); version != "" || err != nil {
		t.Errorf("no code version: %q, %v", version, err)
	}
}

// Without Dagster, Open writes one line and everything else does nothing.
func TestNotLaunched(t *testing.T) {
	var log, stderr bytes.Buffer
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	s, err := Open(t.Context(), Config{LookupEnv: environment(t, nil, dict{"path": "/nowhere"}), Stderr: &stderr})
	if err != nil || s.Launched() {
		t.Fatalf("launched %v, %v", s.Launched(), err)
	}
	if strings.Count(stderr.String(), "\n") != 1 || !strings.Contains(stderr.String(), "DAGSTER_PIPES_CONTEXT") {
		t.Errorf("stderr %q, want one line", stderr.String())
	}
	err = errors.Join(
		s.Materialize(Materialization{Metadata: Metadata{"x": JSON(1)}}), s.Check(Check{}), s.Custom(make(chan int)),
		s.Log(slog.LevelInfo, "a line with https://h/?token=1"),
	)
	s.Logger().Info("another", "a", 1)
	s.Close(errors.New("x"))
	s.Close(nil)
	if err != nil {
		t.Error(err)
	}
	if got := log.String(); !strings.Contains(got, "token=REDACTED") || !strings.Contains(got, "msg=another a=1") {
		t.Errorf("log %q", got)
	}
	new(Session).Close(nil) // the zero one, too
}

func TestStripEnv(t *testing.T) {
	env := []string{"A=1", "DAGSTER_PIPES_CONTEXT=x", "DAGSTER_PIPES_MESSAGES=y", "DAGSTER_PIPES_CONTEXT_OF_MINE=z", "B=2"}
	if got := fmt.Sprint(StripEnv(env)); got != "[A=1 DAGSTER_PIPES_CONTEXT_OF_MINE=z B=2]" || env[1] != "DAGSTER_PIPES_CONTEXT=x" {
		t.Errorf("StripEnv() = %v, from %v", got, env)
	}
}

// Only the first Close writes the end of the session; reports after it are refused.
func TestClose(t *testing.T) {
	l := listen(t, pipestest.Context("my_asset"))
	l.Close(nil)
	l.Close(errors.New("too late"))
	for name, err := range map[string]error{
		"Log": l.Log(slog.LevelInfo, "x"), "Materialize": l.Materialize(Materialization{}),
		"Check": l.Check(Check{Name: "c"}), "Custom": l.Custom(1),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v, want ErrClosed", name, err)
		}
	}
	compare(t, l.received(), []string{`opened {"extras":{}}`, "closed {}"})
}

// Messages that can't be written are lost, with one warning.
func TestUnwritable(t *testing.T) {
	for _, file := range []string{filepath.Join(t.TempDir(), "none", "messages"), "/dev/full", t.TempDir()} {
		var stderr bytes.Buffer
		s, err := Open(t.Context(), Config{
			LookupEnv: environment(t, dict{"data": pipestest.Context("a")}, dict{"path": file}), Stderr: &stderr,
		})
		err = errors.Join(err, s.Log(slog.LevelInfo, "x"), s.Materialize(Materialization{}), s.Custom(1))
		s.Close(nil)
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if got := stderr.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "messages to Dagster are lost") {
			t.Errorf("%s: stderr %q, want one line", file, got)
		}
		if d, err := s.Context.AssetKey(); d != "a" || err != nil {
			t.Errorf("%s: the context is lost, too: %q, %v", file, d, err)
		}
	}
}

// Messages are appended to the file that Dagster has made.
func TestFileIsAppendedTo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "messages")
	const before = `{"__dagster_pipes_version":"0.1","method":"opened","params":{"extras":{}}}` + "\n"
	if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Config{LookupEnv: environment(t, dict{"data": pipestest.Context()}, dict{"path": file})})
	if err != nil {
		t.Fatal(err)
	}
	s.Close(nil)
	text, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(text), before) || strings.Count(string(text), "\n") != 3 {
		t.Errorf("%v, the file holds %q", err, text)
	}
}

// A reader sees a message of up to a page as a whole, or not at all.
func TestLongMessagesAreSeenAsAWhole(t *testing.T) {
	l := listen(t, pipestest.Context("my_asset"))
	done := make(chan error, 1)
	ended, end := context.WithCancel(t.Context())
	go func() { done <- follow(ended, l.file) }()
	for i := range 4000 {
		if err := l.Log(slog.LevelInfo, strings.Repeat("x", i%(maxPart+1))); err != nil {
			t.Error(err)
		}
	}
	l.Close(nil)
	end()
	if err := <-done; err != nil {
		t.Errorf("a reader that takes what is there for lines: %v", err)
	}
	if n := len(l.received()); n != 4002 {
		t.Errorf("%d messages, want 4002", n)
	}
}

// Many goroutines report while a reader takes any text for whole lines, as Dagster's
// reader does.
func TestConcurrentReports(t *testing.T) {
	goroutines, each := 64, 1000
	if testing.Short() {
		each = 50
	}
	l := listen(t, pipestest.Context("my_asset"))
	done := make(chan error, 1)
	ended, end := context.WithCancel(t.Context())
	go func() { done <- follow(ended, l.file) }()
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			for i := range each {
				if err := l.Log(slog.LevelInfo, fmt.Sprintf("%d %d é", g, i)); err != nil {
					t.Error(err)
				}
			}
			_ = l.Materialize(Materialization{}) // of one of them, the others are too late
		})
	}
	all.Wait()
	l.Close(nil)
	end()
	if err := <-done; err != nil {
		t.Errorf("a reader that takes what is there for lines: %v", err)
	}
	next, materialized := make([]int, goroutines), 0
	for _, m := range l.received() {
		switch m.Method {
		case "log":
			var g, i int
			if _, err := fmt.Sscanf(m.Params["message"].(string), "%d %d é", &g, &i); err != nil || next[g] != i {
				t.Fatalf("message %v, want number %d of %d, %v", m.Params, next[g], g, err)
			}
			next[g]++
		case "report_asset_materialization":
			materialized++
		}
	}
	for g, n := range next {
		if n != each {
			t.Errorf("%d messages of goroutine %d, want %d", n, g, each)
		}
	}
	if materialized != 1 {
		t.Errorf("materialized %d times, want once", materialized)
	}
}

// follow reads a growing file until ctx is done and the file is read to its end.
func follow(ctx context.Context, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	chunk := make([]byte, 1<<20)
	for {
		last := ctx.Err() != nil
		n, _ := f.Read(chunk) // at the end of the file for now
		if n > 0 && n < len(chunk) && chunk[n-1] != '\n' {
			return fmt.Errorf("there was a part of a line: %.100q", chunk[max(n-100, 0):n])
		}
		if n == 0 && last {
			return nil
		}
	}
}
