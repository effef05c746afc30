package pipes

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// object of a test's parameters.
type dict = map[string]any

// pack encodes what Dagster puts into a variable.
func pack(t *testing.T, v any) string {
	t.Helper()
	text, ok := v.(string)
	if !ok {
		encoded, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		text = string(encoded)
	}
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// environment looks up variables in a map; those with nil are not there.
func environment(t *testing.T, contextParams, messagesParams any) func(string) (string, bool) {
	t.Helper()
	return func(name string) (string, bool) {
		params := map[string]any{contextVariable: contextParams, messagesVariable: messagesParams}[name]
		if params == nil {
			return "", false
		}
		return pack(t, params), true
	}
}

// contextOf is the context of a step, as Dagster sends it, with these assets:
// nil is a step that makes none.
func contextOf(assets ...string) dict {
	c := dict{
		"asset_keys": nil, "code_version_by_asset_key": nil, "provenance_by_asset_key": nil,
		"partition_key": nil, "partition_key_range": nil, "partition_time_window": nil,
		"run_id": "run-1", "job_name": "job", "retry_number": 0, "extras": dict{},
	}
	if len(assets) > 0 {
		c["asset_keys"] = assets
	}
	return c
}

// A listener is a session whose messages go to a file.
type listener struct {
	*Session
	t      *testing.T
	file   string
	stderr *bytes.Buffer
}

// listen opens a session with that context.
func listen(t *testing.T, c dict) *listener {
	t.Helper()
	l := &listener{t: t, file: filepath.Join(t.TempDir(), "messages"), stderr: new(bytes.Buffer)}
	s, err := Open(t.Context(), Config{
		LookupEnv: environment(t, dict{"data": c}, dict{"path": l.file}),
		Stdout:    new(bytes.Buffer), Stderr: l.stderr,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(nil) })
	l.Session = s
	return l
}

// heard returns the messages of the file; the reader must have survived them.
func (l *listener) heard() []received {
	l.t.Helper()
	return messagesIn(l.t, l.file)
}

func messagesIn(t *testing.T, file string) []received {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := read(text)
	if err != nil {
		t.Fatal(err)
	}
	return r.messages
}

// parse decodes JSON, numbers as they are written.
func parse(t *testing.T, text string) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}
