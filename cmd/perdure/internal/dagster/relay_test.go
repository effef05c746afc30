package dagster

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/pipestest"
)

// open opens a session of a step with one asset. The function that it returns calls
// end, which closes the session, and returns what Dagster's reader has read.
func open(t *testing.T) (*Session, func(end func()) *pipestest.Reader) {
	t.Helper()
	messages := filepath.Join(t.TempDir(), "messages")
	environ := []string{}
	for name, params := range map[string]any{
		"DAGSTER_PIPES_CONTEXT":  map[string]any{"data": pipestest.Context("my_asset")},
		"DAGSTER_PIPES_MESSAGES": map[string]any{"path": messages},
	} {
		packed, err := pipestest.Pack(params)
		if err != nil {
			t.Fatal(err)
		}
		environ = append(environ, name+"="+packed)
	}
	var errs bytes.Buffer
	s, err := Open(t.Context(), environ, &errs, &errs)
	if err != nil {
		t.Fatal(err)
	}
	return s, func(end func()) *pipestest.Reader {
		t.Helper()
		end()
		text, err := os.ReadFile(messages)
		if err != nil {
			t.Fatal(err)
		}
		r, err := pipestest.Read(text)
		if err != nil || r.Opened != 1 || r.Closed != 1 || errs.Len() > 0 {
			t.Fatalf("opened %d times, closed %d times: %v\n%s%s", r.Opened, r.Closed, err, text, &errs)
		}
		return r
	}
}

// Dagster's reader survives what is relayed of any text, read in pieces of any size.
func FuzzRelay(f *testing.F) {
	line := func(method, params string) string {
		return `{"__dagster_pipes_version":"0.1","method":"` + method + `","params":` + params + "}\n"
	}
	for _, seed := range []string{
		"", "\n", "garbage\n", line("opened", `{"extras":{}}`),
		line("log", `{"message":"\ud800 é`+"\xff"+`","level":30}`),
		line("log_external_stream", `{"stream":"stdout","text":"t","extras":{}}`),
		line("report_asset_materialization", `{"asset_key":"my_asset","data_version":null,"metadata":{"a":{"type":"float","raw_value":100},"b":{"type":"__infer__","raw_value":NaN}}}`),
		line("report_asset_materialization", `{"asset_key":"my_asset","data_version":"","metadata":{"t":{"type":"table","raw_value":{"records":[{"a":1}],"schema":[{"name":"a","type":"int","tags":{"x":"y"},"constraints":{"nullable":true,"unique":false,"other":[]}}]}}}}`),
		line("report_asset_materialization", `{"asset_key":"my_asset","data_version":null,"metadata":{"l":{"type":"table_column_lineage","raw_value":{"deps_by_column":{"a":[{"asset_key":["x"],"column_name":"y"}]}}}}}`),
		line("report_asset_check", `{"asset_key":"my_asset","check_name":"c","passed":true,"severity":"ERROR","metadata":{}}`),
		line("report_custom_message", `{"payload":[1e999,{"a":[[[1.0]]]}]}`),
		line("closed", `{"exception":{"message":"m\n","stack":["s\n"],"name":null,"cause":null,"context":{"message":"","stack":[],"name":"n","cause":null,"context":null}}}`),
		line("report_custom_message", `{"payload":{"kind":"perdure/outcome","retryable":true,"retry_after_s":1e308}}`),
	} {
		f.Add([]byte(seed), uint8(7), false)
	}
	f.Fuzz(func(t *testing.T, text []byte, piece uint8, failed bool) {
		t.Setenv("TMPDIR", t.TempDir())
		s, end := open(t)
		r, err := s.newRelay()
		if err != nil {
			t.Fatal(err)
		}
		go r.follow()
		rest := text
		for len(rest) > 0 {
			n := min(int(piece)+1, len(rest))
			if err := appendTo(r.file.Name(), rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		reported := r.end(failed)
		end(func() { s.Close(reported) })
	})
}

func appendTo(name string, p []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if _, err := f.Write(p); err != nil {
		return err
	}
	return f.Close()
}

// A panic is reported to Dagster with its stack, and with the exit code of a Go
// program that panics.
func TestPanic(t *testing.T) {
	s, end := open(t)
	r := end(func() { s.Panicked("no good", []byte("goroutine 1\nmain.go:7\n")) })
	last := r.Messages[len(r.Messages)-1].Params["exception"]
	if pipestest.Member(last, "message") != "no good" || pipestest.Member(last, "name") != "panic" {
		t.Errorf("closed with %v", last)
	}
	outcome := r.Messages[len(r.Messages)-2].Params["payload"]
	if got := pipestest.Member(outcome, "exit_code"); fmt.Sprint(got) != "2" {
		t.Errorf("exit code %v, want 2", got)
	}
}

// A log of any length is at most maxLines lines for Dagster.
func TestLinesAreLimited(t *testing.T) {
	s, end := open(t)
	var errs strings.Builder
	log := s.Logger(slog.New(slog.NewTextHandler(&errs, nil)))
	for range 3000 {
		log.Info("again")
	}
	r := end(func() { s.Close(nil) })
	lines := 0
	for _, m := range r.Messages {
		if m.Method == "log" {
			lines++
		}
	}
	if lines != maxLines || strings.Count(errs.String(), "again") != 3000 {
		t.Errorf("%d lines, want %d, and all on standard error", lines, maxLines)
	}
}
