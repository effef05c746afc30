package pipes

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/pipestest"
)

// A dict is a JSON object.
type dict = map[string]any

// pack encodes v as Dagster encodes the value of a variable.
func pack(t *testing.T, v any) string {
	t.Helper()
	packed, err := pipestest.Pack(v)
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

// environment returns a LookupEnv for both variables; nil parameters mean that the
// variable is not set.
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

// received returns the messages of the file, which Dagster's reader must survive.
func (l *listener) received() []pipestest.Message {
	l.t.Helper()
	return messagesIn(l.t, l.file)
}

func messagesIn(t *testing.T, file string) []pipestest.Message {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pipestest.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	return r.Messages
}

// parse decodes JSON, numbers as [json.Number].
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
