//go:build unix

package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// A slowServer serves one resource at 32 MiB a second, and counts the bytes.
type slowServer struct {
	*httptest.Server

	sent   atomic.Int64
	hold   atomic.Int64 // where no more is sent; 0 is nowhere
	ranges atomic.Int64 // requests for a part
	tick   *time.Ticker // for each piece
}

func startSlow(t *testing.T, content []byte) *slowServer {
	t.Helper()
	s := &slowServer{tick: time.NewTicker(2 * time.Millisecond)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			s.ranges.Add(1)
		}
		w.Header().Set("ETag", `"large"`)
		http.ServeContent(slowWriter{w, s, r}, r, "large.bin", time.Time{}, bytes.NewReader(content))
	}))
	t.Cleanup(func() { s.Close(); s.tick.Stop() })
	return s
}

type slowWriter struct {
	http.ResponseWriter

	server *slowServer
	r      *http.Request
}

func (w slowWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		select {
		case <-w.server.tick.C:
		case <-w.r.Context().Done():
			return n, w.r.Context().Err()
		}
		if held(&w.server.sent, &w.server.hold) {
			continue
		}
		var wrote int
		wrote, err = w.ResponseWriter.Write(p[:min(len(p), 64<<10)])
		w.server.sent.Add(int64(wrote))
		n, p = n+wrote, p[wrote:]
	}
	return n, err
}

// held tells whether so much has passed that no more is to.
func held(passed, hold *atomic.Int64) bool {
	most := hold.Load()
	return most > 0 && passed.Load() >= most
}

// A download that is killed again and again, and started again, arrives whole,
// and what was there is not fetched again: the server sends little more than
// there is.
func TestKilledDownloadResumes(t *testing.T) {
	content := generated(48 << 20)
	server := startSlow(t, content)
	seed := testseed.Of(t, 1)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	to := filepath.Join(dir, "large.bin")
	there := int64(0) // bytes that the killed ones have written down
	for run := range 4 {
		before := server.sent.Load()
		limit := before + 5<<20 + random.Int64N(5<<20)
		server.hold.Store(limit)
		c := start(t, command(t, []string{"HOME=" + dir}, "copy", server.URL+"/large.bin", to))
		eventually(t, "enough is sent", func() bool { return server.sent.Load() >= limit })
		came := server.sent.Load() - before
		eventually(t, "it is written down, but for a mebibyte of each of four requests", func() bool {
			_, now := written(strings.Join(staged(dir, ".state"), ""))
			return now > there+came-4<<20
		})
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait() // it was killed
		if _, err := os.Stat(to); err == nil {
			t.Fatalf("seed %d: the file was there after run %d", seed, run+1)
		}
		_, there = written(strings.Join(staged(dir, ".state"), ""))
	}
	server.hold.Store(0)
	var log bytes.Buffer
	c := command(t, []string{"HOME=" + dir}, "copy", server.URL+"/large.bin", to)
	c.Stderr = &log
	start(t, c)
	interrupted(t, c, &log, 0)
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, content) {
		t.Errorf("seed %d: %d other bytes arrived (%v)", seed, len(got), err)
	}
	if !strings.Contains(log.String(), "Resuming ") {
		t.Errorf("seed %d: it did not say that it continues:\n%s", seed, &log)
	}
	t.Logf("seed %d: 4 kills; sent %.1f MiB of %d", seed, float64(server.sent.Load())/(1<<20), len(content)>>20)
	if most := int64(len(content)) * 3 / 2; server.sent.Load() > most {
		t.Errorf("seed %d: %d bytes were sent, want at most %d", seed, server.sent.Load(), most)
	}
	onlyFile(t, dir, "large.bin")
}

// onlyFile checks that nothing else is in a directory, but what the command
// keeps of its breakers.
func onlyFile(t *testing.T, dir, name string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name() != name && (!f.IsDir() || strings.HasPrefix(f.Name(), ".perdure-")) {
			t.Errorf("%s is left behind", f.Name())
		}
	}
}

// copies runs copy in a process of its own and returns its code and what it said.
func copies(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var log bytes.Buffer
	c := command(t, []string{"HOME=" + t.TempDir(), "PERDURE_BASE_DELAY=0.002", "PERDURE_JITTER=0"}, append([]string{"copy"}, args...)...)
	c.Stderr = &log
	_ = start(t, c).Wait() // its code tells
	return c.ProcessState.ExitCode(), log.String()
}

// An resource that changes between runs is fetched from scratch: nothing of the old one is
// in the file, and nothing of the new one is taken for the old when that comes
// back.
func TestChangedBetweenRuns(t *testing.T) {
	old, changed := generated(600_000), bytes.Repeat([]byte("new!"), 150_000)
	type page struct {
		httptestfault.Resource
		cut int // where each response is cut; 0: nowhere
	}
	var serve atomic.Pointer[page]
	serve.Store(&page{httptestfault.Resource{Body: old, ETag: `"old"`}, 400_000})
	server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Response {
		now := serve.Load()
		switch {
		case now.cut == 0:
			return now.Respond(r)
		case r.Header.Get("Range") != "" && r.Header.Get("If-Range") == now.ETag:
			return httptestfault.Response{Status: http.StatusServiceUnavailable}
		}
		return now.Respond(r).With(httptestfault.CutBody(now.cut))
	})
	defer server.Close()
	dir := t.TempDir()
	to := filepath.Join(dir, "x.bin")
	fail := func() {
		t.Helper()
		if code, log := copies(t, server.URL+"/x", to, "--max-attempts", "1"); code != 69 || !strings.Contains(log, " are kept in ") {
			t.Fatalf("exit code %d, want 69 and a partial file\n%s", code, log)
		}
	}
	fail() // 400,000 bytes of the old one
	serve.Store(&page{httptestfault.Resource{Body: changed, ETag: `"new"`}, 200_000})
	fail() // 200,000 of the new one over them
	serve.Store(&page{httptestfault.Resource{Body: old, ETag: `"old"`}, 0})
	code, log := copies(t, server.URL+"/x", to)
	if got, _ := os.ReadFile(to); code != 0 || !bytes.Equal(got, old) {
		t.Fatalf("exit code %d, %d other bytes\n%s", code, len(got), log)
	}
	if !strings.Contains(log, "has changed since the earlier run") {
		t.Errorf("it did not say that there is another resource:\n%s", log)
	}
	onlyFile(t, dir, "x.bin")
}

// Another address is another resource, though the server gives both the same tag.
// What is signed again each time is the same one.
func TestAnotherAddressIsAnotherResource(t *testing.T) {
	var broken atomic.Bool
	server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Response {
		body := bytes.Repeat([]byte(r.URL.Path), 100_000)
		whole := httptestfault.Resource{Body: body, ETag: `"same"`}.Respond(r)
		if broken.Load() && r.Header.Get("Range") != "" {
			return httptestfault.Response{Status: http.StatusServiceUnavailable}
		}
		if broken.Load() {
			return whole.With(httptestfault.ResetBody(150_000))
		}
		return whole
	})
	defer server.Close()
	for _, c := range []struct{ first, then, from string }{
		{"/a?X-Amz-Date=1&X-Amz-Signature=one", "/a?X-Amz-Date=2&X-Amz-Signature=two", "bytes="},
		{"/a?page=1", "/a?page=2", ""},
		{"/a", "/b", ""},
	} {
		dir := t.TempDir()
		to := filepath.Join(dir, "x.bin")
		broken.Store(true)
		if code, log := copies(t, server.URL+c.first, to, "--max-attempts", "1"); code != 69 {
			t.Fatalf("%s: exit code %d\n%s", c.first, code, log)
		}
		broken.Store(false)
		code, log := copies(t, server.URL+c.then, to)
		path, _, _ := strings.Cut(c.then, "?")
		if got, _ := os.ReadFile(to); code != 0 || !bytes.Equal(got, bytes.Repeat([]byte(path), 100_000)) {
			t.Errorf("%s: exit code %d, %d other bytes\n%s", c.then, code, len(got), log)
		}
		requests := server.Requests()
		if got := requests[len(requests)-1].Header.Get("Range"); !strings.HasPrefix(got, c.from) || (got == "") != (c.from == "") {
			t.Errorf("%s after %s: asked for range %q, want %q...", c.then, c.first, got, c.from)
		}
		onlyFile(t, dir, "x.bin")
	}
}

// Two processes that fetch to the same file do not write into one another's.
func TestTwoDownloadsOfOneFile(t *testing.T) {
	content := generated(4 << 20)
	server := startSlow(t, content)
	dir := t.TempDir()
	to := filepath.Join(dir, "large.bin")
	var both []*exec.Cmd
	for range 2 {
		both = append(both, start(t, command(t, []string{"HOME=" + dir}, "copy", server.URL+"/large.bin", to)))
	}
	for _, c := range both {
		_ = c.Wait() // its code tells
		if code := c.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d other bytes (%v)", len(got), err)
	}
	onlyFile(t, dir, "large.bin")
}

// A large resource comes in parallel ranges, if the server knows them; and
// whatever is interrupted says what it keeps.
func TestInterruptedDownloadSaysWhatItKeeps(t *testing.T) {
	server := startSlow(t, generated(16<<20))
	server.hold.Store(4 << 20)
	dir := t.TempDir()
	to := filepath.Join(dir, "large.bin")
	var log bytes.Buffer
	c := command(t, []string{"HOME=" + dir}, "copy", server.URL+"/large.bin", to, "--parallel", "3")
	c.Stderr = &log
	start(t, c)
	eventually(t, "some has come, and a part was requested", func() bool { return unfinished(t, dir) > 0 && server.ranges.Load() > 0 })
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	interrupted(t, c, &log, 130)
	if want := "of 16.0 MiB are kept in " + strings.Join(staged(dir, ".part"), "") + "; run the same command to resume\n"; !strings.HasSuffix(log.String(), want) {
		t.Errorf("it says\n%swant at its end\n%s", &log, want)
	}
	if _, err := os.Stat(to); err == nil {
		t.Error("the file is there")
	}
	if got := server.ranges.Load(); got < 1 {
		t.Errorf("%d requests for a part, want one beside the first", got)
	}
}

// A copy of many files that is interrupted ends at once, leaves nothing
// half-written, and says how many are left.
func TestInterruptedTree(t *testing.T) {
	s := startTestServers(t)
	for i := range 40 {
		if err := s.store.Store("bikes", fmt.Sprintf("raw/%02d", i), generated(100_000)); err != nil {
			t.Fatal(err)
		}
	}
	s.store.SetScript(func(r s3test.Request) s3test.Fault {
		if slices.Contains([]string{"00", "01", "02", "39"}, path.Base(r.Path)) {
			return s3test.StallBody(50_000, 0)
		}
		return s3test.Fault{}
	})
	dir := t.TempDir()
	manifest := filepath.Join(t.TempDir(), "manifest")
	var log bytes.Buffer
	c := command(t, s.environ(t.TempDir()), "copy", "-r", "s3://bikes/raw", dir, "--parallel", "4", "--manifest", manifest)
	c.Stderr = &log
	start(t, c)
	eventually(t, "the others are there, so that all are listed", func() bool { return s.store.Count("GET", "/bikes/raw/39") > 0 })
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	interrupted(t, c, &log, 130)
	if !strings.HasSuffix(log.String(), "perdure: stopped by signal: interrupt; 4 of 40 files were not tried\n") {
		t.Errorf("it says\n%s", &log)
	}
	if there := found(t, dir); len(there) != 36 || there[0] != "03" || there[35] != "38" {
		t.Errorf("%q are there, want 03 to 38", there)
	}
	if got := entries(t, manifest); len(got) != 40 {
		t.Errorf("the manifest has %d files, want 40", len(got))
	}
}

// An upload that is killed leaves its parts in the store; they can be cleaned
// away.
func TestKilledUploadCanBeCleaned(t *testing.T) {
	s := startTestServers(t)
	environ := s.environ(t.TempDir())
	c := command(t, environ, "copy", "-", "s3://bikes/stations.bin")
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, c)
	if _, err := io.Copy(stdin, bytes.NewReader(generated(12<<20))); err != nil { // two parts, and some of the third
		t.Fatal(err)
	}
	eventually(t, "two parts are there", func() bool { return s.store.Count("PUT", "/bikes/stations.bin") >= 2 })
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // it was killed
	if len(s.store.Uploads()) != 1 {
		t.Fatalf("uploads under way: %v, want one", s.store.Uploads())
	}
	for _, c := range []struct {
		age  string
		left int
	}{{"1h", 1}, {"0", 0}} {
		cleaned(t, environ, c.age)
		if left := s.store.Uploads(); len(left) != c.left {
			t.Errorf("older than %s: %v are left, want %d", c.age, left, c.left)
		}
	}
}

func cleaned(t *testing.T, environ []string, age string) {
	t.Helper()
	var log bytes.Buffer
	c := command(t, environ, "s3", "clean", "s3://bikes", "--older-than", age)
	c.Stderr = &log
	interrupted(t, start(t, c), &log, 0)
}
