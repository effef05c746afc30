//go:build unix

package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/internal/record"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// A slowLine carries the requests to a store, and its responses, at 64 MiB a second
// in all, counts the bytes, and keeps what was asked for.
type slowLine struct {
	*httptest.Server

	passed atomic.Int64
	hold   atomic.Int64 // where no more passes; 0 is nowhere
	tick   *time.Ticker // for each piece

	mu    sync.Mutex
	asked []string // as "PUT 3" and "GET 8388608"; guarded by mu
}

func startLine(t *testing.T, store string) *slowLine {
	t.Helper()
	target, err := url.Parse(store)
	if err != nil {
		t.Fatal(err)
	}
	l := &slowLine{tick: time.NewTicker(time.Millisecond)}
	l.Server = httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
			l.note(r.In)
			if r.Out.Body != nil {
				r.Out.Body = slowBody{r.Out.Body, l, r.In}
			}
		},
		ModifyResponse: func(r *http.Response) error {
			r.Body = slowBody{r.Body, l, r.Request}
			return nil
		},
		ErrorLog:     log.New(io.Discard, "", 0), // of connections that were killed
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	})
	t.Cleanup(func() { l.Close(); l.tick.Stop() })
	return l
}

// note keeps which part a request sends, and where one begins that asks for
// bytes.
func (l *slowLine) note(r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	number, from := r.URL.Query().Get("partNumber"), int64(0)
	switch n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); {
	case number != "":
		l.asked = append(l.asked, "PUT "+number)
	case n == 1:
		l.asked = append(l.asked, fmt.Sprint("GET ", from))
	}
}

// forget returns what was asked for since it was last called.
func (l *slowLine) forget() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() { l.asked = nil }()
	return l.asked
}

type slowBody struct {
	io.ReadCloser

	line *slowLine
	r    *http.Request
}

func (b slowBody) Read(p []byte) (int, error) {
	for passes := false; !passes; passes = !held(&b.line.passed, &b.line.hold) {
		select {
		case <-b.line.tick.C:
		case <-b.r.Context().Done():
			return 0, b.r.Context().Err()
		}
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), 64<<10)])
	b.line.passed.Add(int64(n))
	return n, err
}

// staged returns what copies that are under way, or were killed, have beside the files in a directory: the parts of those,
// with .part, or what is known of them, with .state.
func staged(dir, suffix string) []string {
	names, _ := filepath.Glob(filepath.Join(dir, ".perdure-*", "*"+suffix))
	return names
}

// written returns the parts that a state file has, from 0, and the bytes that it has.
func written(path string) (parts []int, size int64) {
	text, _ := os.ReadFile(path)
	ends := make(map[int64]int64)
	for line := range bytes.Lines(text) {
		var p struct {
			Part *int   `json:"part"` // of an upload
			Size int64  `json:"size"`
			From *int64 `json:"from"` // of a file
			To   int64  `json:"to"`
		}
		switch {
		case !record.Decode(line, &p):
		case p.Part != nil:
			parts, size = append(parts, *p.Part), size+p.Size
		case p.From != nil:
			size += max(p.To, ends[*p.From]) - max(ends[*p.From], *p.From)
			ends[*p.From] = max(p.To, ends[*p.From])
		}
	}
	for from, to := range ends {
		for n := (from + part - 1) / part; (n+1)*part <= to; n++ {
			parts = append(parts, int(n))
		}
	}
	return parts, size
}

// part is the size of those that the store gets, and that it is asked for.
const part = 8 << 20

// outlived runs copy again and again, and kills it each time when some more has
// passed over the line, and lets it end the last time. What the state file has
// when a process dies must not be sent again by the next.
func outlived(t *testing.T, l *slowLine, environ []string, kills int, state func() string, args ...string) {
	t.Helper()
	seed := testseed.Of(t, 1)
	random := rand.New(rand.NewPCG(seed, 0))
	var known []int
	var there int64
	for run := range kills + 1 {
		limit := l.passed.Load() + part + random.Int64N(part) // of all kills less than the whole
		if l.hold.Store(0); run < kills {
			l.hold.Store(limit)
		}
		var said bytes.Buffer
		c := command(t, environ, append([]string{"copy", "--parallel", "2"}, args...)...)
		c.Stderr = &said
		start(t, c)
		if run < kills {
			eventually(t, "enough has passed", func() bool { return l.passed.Load() >= limit })
			_ = c.Process.Kill()
		}
		_ = c.Wait() // its code tells
		if code := c.ProcessState.ExitCode(); code != 0 && run == kills || code == 0 && run < kills {
			t.Fatalf("seed %d: run %d ended with %d\n%s", seed, run, code, &said)
		}
		if going := strings.Contains(said.String(), ": "+report.Bytes(there)+" of "); going != (there > 0) {
			t.Errorf("seed %d: run %d says that it resumes %d bytes: %v\n%s", seed, run, there, going, &said)
		}
		asked := l.forget()
		for _, n := range known {
			if again := []string{fmt.Sprint("PUT ", n+1), fmt.Sprint("GET ", n*part)}; slices.Contains(asked, again[0]) || slices.Contains(asked, again[1]) {
				t.Errorf("seed %d: run %d: part %d had come, and was asked for again: %q", seed, run, n, asked)
			}
		}
		known, there = written(state())
	}
	t.Logf("seed %d: %d kills; %.1f MiB passed", seed, kills, float64(l.passed.Load())/(1<<20))
}

// An upload that is killed again and again, and started again, arrives whole. No
// part is sent again that the store had, and no upload is left.
func TestKilledUploadResumes(t *testing.T) {
	s := startTestServers(t)
	line := startLine(t, s.store.URL)
	home := t.TempDir()
	environ := append(s.environ(home), "AWS_ENDPOINT_URL="+line.URL)
	content := generated(10*part + 12345)
	from := filepath.Join(home, "large.bin")
	if err := os.WriteFile(from, content, 0o600); err != nil {
		t.Fatal(err)
	}
	uploads := filepath.Join(home, "state", "uploads")
	outlived(t, line, environ, 4, func() string {
		names, _ := filepath.Glob(filepath.Join(uploads, "*.parts"))
		return strings.Join(names, "")
	}, from, "s3://bikes/large.bin")
	if got, _ := s.store.Object("bikes", "large.bin"); !bytes.Equal(got, content) {
		t.Errorf("%d other bytes arrived", len(got))
	}
	if left := s.store.Uploads(); len(left) > 0 {
		t.Errorf("uploads are left: %v", left)
	}
	if left, _ := os.ReadDir(uploads); len(left) > 0 {
		t.Errorf("state is left: %v", left)
	}
	if most := int64(len(content)) * 2; line.passed.Load() > most {
		t.Errorf("%d bytes passed, want at most %d", line.passed.Load(), most)
	}
}

// The same for an object that becomes a file.
func TestKilledObjectResumes(t *testing.T) {
	s := startTestServers(t)
	line := startLine(t, s.store.URL)
	home := t.TempDir()
	environ := append(s.environ(t.TempDir()), "AWS_ENDPOINT_URL="+line.URL)
	content := generated(10*part + 12345)
	if err := s.store.Store("bikes", "large.bin", content); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(home, "large.bin")
	outlived(t, line, environ, 4, func() string { return strings.Join(staged(home, ".state"), "") }, "s3://bikes/large.bin", to)
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d other bytes arrived (%v)", len(got), err)
	}
	onlyFile(t, home, "large.bin")
	if most := int64(len(content)) * 2; line.passed.Load() > most {
		t.Errorf("%d bytes passed, want at most %d", line.passed.Load(), most)
	}
}
