package pipes

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/pipestest"
)

// Messages go to a standard stream between the program's lines, at once or at the end.
func TestStandardStreams(t *testing.T) {
	for _, c := range []struct{ kind, stream string }{
		{"stdio", Stdout}, {"stdio", Stderr}, {"buffered_stdio", Stdout}, {"buffered_stdio", Stderr},
	} {
		var out, other bytes.Buffer
		config := Config{LookupEnv: environment(t, dict{"data": pipestest.Context("a")}, dict{c.kind: c.stream}), Stdout: &out, Stderr: &other}
		if c.stream == Stderr {
			config.Stdout, config.Stderr = &other, &out
		}
		s, err := Open(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString("noise\n")
		if err := s.Log(slog.LevelInfo, "x"); err != nil {
			t.Error(err)
		}
		if sent := strings.Contains(out.String(), `"log"`); sent != (c.kind == "stdio") {
			t.Errorf("%s on %s: the log is written before the end: %v", c.kind, c.stream, sent)
		}
		s.Close(nil)
		before, after, _ := strings.Cut(out.String(), "noise\n")
		if strings.Contains(before, "{") != (c.kind == "stdio") {
			t.Errorf("%s on %s: before the noise there is %q", c.kind, c.stream, before)
		}
		r, err := pipestest.Read([]byte(before + after))
		if err != nil {
			t.Fatal(err)
		}
		compare(t, r.Messages, []string{`opened {"extras":{}}`, `log {"level":"INFO","message":"x"}`, "closed {}"})
		if other.Len() > 0 {
			t.Errorf("the other stream has %q", other.String())
		}
	}
}

// Messages start on a new line, also if the program's own output ends within a line.
func TestMessagesBeginLines(t *testing.T) {
	for _, kind := range []string{"stdio", "buffered_stdio"} {
		var out bytes.Buffer
		s, err := Open(t.Context(), Config{
			LookupEnv: environment(t, dict{"data": pipestest.Context("a")}, dict{kind: Stdout}), Stdout: &out, Stderr: new(bytes.Buffer),
		})
		if err != nil {
			t.Fatal(err)
		}
		w, err := s.Stream(Stdout)
		if err != nil || !s.ForwardsStdio() {
			t.Fatalf("%v, included: %v", err, s.ForwardsStdio())
		}
		for _, text := range []string{"a line\n", "half a line", " and more"} {
			if _, err := io.WriteString(w, text); err != nil {
				t.Fatal(err)
			}
		}
		errs := []error{s.Log(slog.LevelInfo, "x"), s.Log(slog.LevelInfo, "y")}
		_, err = io.WriteString(w, "the end")
		s.Close(nil)
		if err := errors.Join(append(errs, err)...); err != nil {
			t.Fatal(err)
		}
		var messages, others []string
		for line := range strings.Lines(out.String()) {
			if strings.HasPrefix(line, "{") {
				messages = append(messages, line)
			} else {
				others = append(others, line)
			}
		}
		r, err := pipestest.Read([]byte(strings.Join(messages, "")))
		if err != nil || len(r.Messages) != 4 || r.Closed != 1 {
			t.Errorf("%s: %v, %d messages of 4\n%s", kind, err, len(r.Messages), &out)
		}
		want := map[string]string{"stdio": "a line\nhalf a line and more\nthe end\n", "buffered_stdio": "a line\nhalf a line and morethe end\n"}
		if got := strings.Join(others, ""); got != want[kind] {
			t.Errorf("%s: the other lines are %q, want %q", kind, got, want[kind])
		}
	}
}

// Messages beyond the limit of a buffered stream are lost, but not closed.
func TestBufferedIsBounded(t *testing.T) {
	var out, stderr bytes.Buffer
	s, err := Open(t.Context(), Config{LookupEnv: environment(t, dict{"data": pipestest.Context("a")}, dict{"buffered_stdio": Stdout}), Stdout: &out, Stderr: &stderr})
	if err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if err := s.Custom(strings.Repeat("x", 40_000)); err != nil {
			t.Fatal(err)
		}
	}
	s.Close(nil)
	r, err := pipestest.Read(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(r.Messages); n < 400 || n > 420 || r.Closed != 1 {
		t.Errorf("%d messages, closed %d times", n, r.Closed)
	}
	if strings.Count(stderr.String(), "\n") != 1 {
		t.Errorf("stderr %q, want one line", stderr.String())
	}
}

// If Dagster asked for it, the text of the standard streams is also sent, in whole lines
// or in parts of a very long line.
func TestStream(t *testing.T) {
	for _, include := range []bool{true, false} {
		file := filepath.Join(t.TempDir(), "messages")
		var stdout, stderr bytes.Buffer
		s, err := Open(t.Context(), Config{
			LookupEnv: environment(t, dict{"data": pipestest.Context("a")}, dict{"path": file, "include_stdio_in_messages": include}),
			Stdout:    &stdout, Stderr: &stderr,
		})
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.Stream(Stdout)
		if err != nil {
			t.Fatal(err)
		}
		again, err := s.Stream(Stdout)
		if err != nil {
			t.Fatal(err)
		}
		bad, err := s.Stream(Stderr)
		if err != nil {
			t.Fatal(err)
		}
		long := strings.Repeat("é", 20_000)
		for _, step := range []struct {
			to   interface{ Write([]byte) (int, error) }
			text string
		}{
			{out, "one\ntw"}, {bad, "e\n"}, {again, "o \xc3"}, {out, "\xa9\nhttps://h/?sig=1\nthree"}, {bad, long},
		} {
			if n, err := step.to.Write([]byte(step.text)); n != len(step.text) || err != nil {
				t.Errorf("Write(%.10q) = %d, %v", step.text, n, err)
			}
		}
		s.Close(nil)
		if n, err := out.Write([]byte("late\n")); n != 5 || err != nil {
			t.Errorf("Write after Close = %d, %v", n, err)
		}
		if stdout.String() != "one\ntwo é\nhttps://h/?sig=1\nthreelate\n" || stderr.String() != "e\n"+long {
			t.Errorf("stdout %q, stderr %.20q", stdout.String(), stderr.String())
		}
		var sent [2]string
		for _, m := range messagesIn(t, file) {
			if m.Method == "log_external_stream" {
				i := map[any]int{Stdout: 0, Stderr: 1}[m.Params["stream"]]
				sent[i] += m.Params["text"].(string)
			}
		}
		want := [2]string{"one\ntwo é\nhttps://h/?sig=REDACTED\nthree", "e\n" + long}
		if !include {
			want = [2]string{}
		}
		if sent != want {
			t.Errorf("included %v: sent %.80q, want %.80q", include, sent, want)
		}
	}
	if _, err := new(Session).Stream("log"); err == nil || !strings.Contains(err.Error(), `invalid value "log" for stream`) {
		t.Errorf("Stream(log): %v", err)
	}
}

// Files reads a context and writes chunks of messages.
func TestFilesAsBlobs(t *testing.T) {
	for _, c := range []struct{ from, to dict }{
		{dict{"bucket": "b", "key": "in/context"}, dict{"bucket": "b", "key_prefix": "out"}},
		{dict{"path": "b/in/context"}, dict{"path": "b/out"}},
	} {
		root := t.TempDir()
		store := Files{Root: root}
		if err := store.WriteBlob(t.Context(), "b", "in/context", []byte(`{"run_id":"r","asset_keys":["a"]}`)); err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), Config{Context: store, Messages: store, LookupEnv: environment(t, c.from, c.to)})
		if err != nil || s.Context.RunID != "r" {
			t.Fatalf("run %q, %v", s.Context.RunID, err)
		}
		for range 100 { // more than a chunk
			if err := s.Custom(strings.Repeat("x", 40_000)); err != nil {
				t.Error(err)
			}
		}
		s.Close(nil)
		chunks := chunksIn(t, filepath.Join(root, "b", "out"))
		r, err := pipestest.Read([]byte(strings.Join(chunks, "\n") + "\n"))
		if err != nil || len(r.Messages) != 102 || r.Closed != 1 {
			t.Errorf("%d messages in %d chunks, %v; want 102", len(r.Messages), len(chunks), err)
		}
	}
}

// A blob is not written through a link or a FIFO, nor over the blob of a similar key. A failed write leaves nothing. A
// link at the name plus .part used to be written through, and a blob of that name was lost.
func TestBlobsOfFilesDoNotMeet(t *testing.T) {
	store := Files{Root: t.TempDir()}
	dir, victim := filepath.Join(store.Root, "b"), filepath.Join(store.Root, "victim")
	err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(victim, []byte("precious"), 0o600), os.Symlink(victim, filepath.Join(dir, "x.part")))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for _, key := range []string{"x", "y.part", "y", "z", "z", "z", "z"} {
		all.Go(func() {
			if err := store.WriteBlob(t.Context(), "b", key, []byte(key)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := store.WriteBlob(t.Context(), "", "b", []byte("in the place of a directory")); err == nil {
		t.Error("a directory is replaced by a blob")
	}
	for path, want := range map[string]string{"victim": "precious", "b/x": "x", "b/y": "y", "b/y.part": "y.part", "b/z": "z"} {
		if got, err := os.ReadFile(filepath.Join(store.Root, path)); err != nil || string(got) != want {
			t.Errorf("%s has %q, %v; want %q", path, got, err, want)
		}
	}
	for path, want := range map[string]int{store.Root: 2, dir: 5} {
		if entries, err := os.ReadDir(path); err != nil || len(entries) != want {
			t.Errorf("%v in %s, %v; want %d", entries, path, err, want)
		}
	}
}

// chunksIn returns the chunks 1, 2 and so on of a directory that has only chunks.
func chunksIn(t *testing.T, dir string) (chunks []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for n := range files {
		text, err := os.ReadFile(filepath.Join(dir, string(rune('1'+n))+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if len(text) == 0 || bytes.HasSuffix(text, []byte("\n")) {
			t.Errorf("chunk %d is empty or ends with a newline", n+1)
		}
		chunks = append(chunks, string(text))
	}
	return chunks
}

func TestBlobParameters(t *testing.T) {
	store := Files{Root: t.TempDir()}
	good, to := dict{"bucket": "b", "key": "k"}, dict{"bucket": "b", "key_prefix": nil}
	if err := store.WriteBlob(t.Context(), "b", "k", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from, to dict
		err      string
	}{
		{good, to, ""},
		{good, dict{"bucket": "b"}, ""},
		{dict{"bucket": "b"}, to, `DAGSTER_PIPES_CONTEXT has no "key"`},
		{dict{"bucket": 1, "key": "k"}, to, `"bucket" is 1, want a string`},
		{dict{"bucket": "b", "key": 2}, to, `"key" is 2, want a string`},
		{dict{"key": "k"}, to, `has neither "bucket" nor "path"`},
		{dict{"bucket": "b", "key": "none"}, to, "no such file"},
		{good, dict{"bucket": "b", "key_prefix": 7}, `"key_prefix" is 7, want a string`},
		{good, dict{"stdio": "stdout"}, `DAGSTER_PIPES_MESSAGES has neither "bucket" nor "path"`},
	} {
		s, err := Open(t.Context(), Config{Context: store, Messages: store, LookupEnv: environment(t, c.from, c.to)})
		s.Close(nil)
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("from %v to %v: error %v, want %q", c.from, c.to, err, c.err)
		}
	}
	if _, err := os.Stat(filepath.Join(store.Root, "b", "1.json")); err != nil {
		t.Errorf("without a prefix: %v", err)
	}
}

// shelf is a store in memory whose first writes fail.
type shelf struct {
	mu     sync.Mutex
	fails  int // writes that still fail
	chunks map[string]string
	bodies []string // of every try
}

func (s *shelf) WriteBlob(_ context.Context, bucket, key string, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bodies = append(s.bodies, string(body))
	if s.fails > 0 {
		s.fails--
		return errors.New("no response")
	}
	s.chunks[bucket+"/"+key] = string(body)
	return nil
}

func (s *shelf) tries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.bodies)
}

// A chunk is written every ten seconds. A chunk that failed is written again
// unchanged: Dagster may have read it.
func TestChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &shelf{fails: 2, chunks: map[string]string{}}
		s, err := Open(t.Context(), Config{Messages: store, LookupEnv: environment(t, dict{"data": pipestest.Context("a")}, dict{"bucket": "b", "key_prefix": "p"})})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := store.tries(); n > 0 {
			t.Errorf("sent at once, %d times", n)
		}
		<-time.After(10*time.Second + time.Millisecond) // the first try
		if err := s.Log(slog.LevelInfo, "later"); err != nil {
			t.Error(err)
		}
		<-time.After(40 * time.Second)
		s.Close(nil)
		if n := len(store.bodies); n < 4 || store.bodies[0] != store.bodies[1] || store.bodies[1] != store.bodies[2] {
			t.Errorf("bodies %q, want the first three alike", store.bodies)
		}
		if len(store.chunks) != 3 {
			t.Errorf("chunks %q, want 3", store.chunks)
		}
		r, err := pipestest.Read([]byte(store.chunks["b/p/1.json"] + "\n" + store.chunks["b/p/2.json"] + "\n" + store.chunks["b/p/3.json"] + "\n"))
		if err != nil || len(r.Messages) != 3 {
			t.Errorf("%v, %v", r.Messages, err)
		}
	})
}

// A store that always fails delays Close by at most a minute.
func TestChunksThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stderr bytes.Buffer
		store := &shelf{fails: 1 << 30}
		s, err := Open(t.Context(), Config{Messages: store, Stderr: &stderr, LookupEnv: environment(t, dict{"data": pipestest.Context("a")}, dict{"bucket": "b"})})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		s.Close(nil)
		if took := time.Since(start); took > time.Minute {
			t.Errorf("Close took %v", took)
		}
		if !strings.Contains(stderr.String(), "no response") || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("stderr %q", stderr.String())
		}
	})
}
