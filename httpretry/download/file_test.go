package download_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/download"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/retry"
)

// rounds calls f for each of n rounds, several at a time, with its own random numbers.
func rounds(t *testing.T, n int, f func(round int, random *rand.Rand)) {
	t.Helper()
	seed := testseed.Of(t, 1)
	var all sync.WaitGroup
	free := make(chan struct{}, 16) // a file waits for the disk, mostly
	for round := range n {
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			f(round, rand.New(rand.NewPCG(seed, uint64(round))))
		})
	}
	all.Wait()
}

// nothing checks that a directory is empty.
func nothing(t *testing.T, dir string) {
	t.Helper()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("%v, %v; want an empty directory", entries, err)
	}
}

// alone checks that the directory of path holds that file with that content and nothing else.
func alone(t *testing.T, path string, want []byte) {
	t.Helper()
	var names []string
	entries, err := os.ReadDir(filepath.Dir(path))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	got, gone := os.ReadFile(path)
	if err := errors.Join(err, gone); err != nil || !bytes.Equal(got, want) || len(names) != 1 {
		t.Errorf("%d bytes beside %v, %v; want %d", len(got), names, err, len(want))
	}
}

func TestFile(t *testing.T) {
	big, small := content(10*part+7, 1), content(1000, 1)
	sum := sha256.Sum256(big)
	digested := withHeader(resource(big, `"1"`), field("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":"))
	corrupt := digested
	corrupt.Body = content(len(big), 2)
	for _, tt := range []struct {
		name     string
		resource httptestfault.Resource
		change   func(httptestfault.Response) httptestfault.Response
		options  download.Options
		requests int // 0: any number
		err      error
		verified string // size if empty
	}{
		{name: "small", resource: resource(small, `"1"`), requests: 1},
		{name: "empty", resource: resource(nil, `"1"`), requests: 1},
		{name: "large", resource: resource(big, `"1"`)},
		{name: "large, one at a time", resource: resource(big, `"1"`), options: download.Options{Parallel: -1}, requests: 1},
		{name: "large, many at a time", resource: resource(big, `"1"`), options: download.Options{Parallel: 64}},
		{name: "large, by date", resource: httptestfault.Resource{Body: big, LastModified: time.Now().Add(-time.Hour)}},
		{name: "large, with a digest", resource: digested, verified: "sha256"},
		{name: "large, with a digest, one at a time", resource: digested, options: download.Options{Parallel: -1}, requests: 1, verified: "sha256"},
		{name: "large, corrupt", resource: corrupt, err: download.ErrChecksum},
		{name: "large, corrupt, one at a time", resource: corrupt, options: download.Options{Parallel: -1}, requests: 3, err: download.ErrChecksum},
		{name: "the checksum that is wanted", resource: resource(big, `"1"`), options: download.Options{Checksum: "sha256:" + hex.EncodeToString(sum[:])}, verified: "sha256"},
		{name: "not the checksum that is wanted", resource: resource(small, `"1"`), options: download.Options{Checksum: "sha256:" + hex.EncodeToString(sum[:])}, requests: 1, err: download.ErrChecksum},
		{name: "no validator", resource: resource(big, ""), requests: 1},
		{name: "weak tag", resource: resource(big, `W/"1"`), requests: 1},
		{name: "no length", resource: resource(big, `"1"`), requests: 1, verified: "none", change: func(s httptestfault.Response) httptestfault.Response {
			s.Framing = httptestfault.Chunked
			s.Header.Del("Content-Length")
			return s
		}},
		{name: "until close", resource: resource(big, `"1"`), requests: 1, err: download.ErrTruncatable, change: func(s httptestfault.Response) httptestfault.Response {
			s.Framing = httptestfault.UntilClose
			s.Header.Del("Content-Length")
			return s
		}},
		{name: "does not say that it knows ranges", resource: resource(big, `"1"`), requests: 1, change: func(s httptestfault.Response) httptestfault.Response {
			s.Header.Del("Accept-Ranges")
			return s
		}},
		{name: "says that it knows ranges, but does not", resource: resource(big, `"1"`), change: func(httptestfault.Response) httptestfault.Response {
			return httptestfault.Response{Body: big, Header: http.Header{"Etag": {`"1"`}, "Accept-Ranges": {"bytes"}}, Slice: part, Gap: time.Millisecond}
		}},
		{name: "a range is another", resource: resource(big, `"1"`), change: spoilt(func(s *httptestfault.Response) {
			s.Header.Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(s.Body)-1, len(big)))
		})},
		{name: "a range is none", resource: resource(big, `"1"`), change: spoilt(func(s *httptestfault.Response) { s.Header.Del("Content-Range") })},
		{name: "a range is of another version", resource: resource(big, `"1"`), err: download.ErrChanged, change: spoilt(func(s *httptestfault.Response) { s.Header.Set("ETag", `"2"`) })},
		{name: "a range is of another size", resource: resource(big, `"1"`), err: download.ErrChanged, change: spoilt(func(s *httptestfault.Response) {
			s.Header.Set("Content-Range", strings.Replace(s.Header.Get("Content-Range"), fmt.Sprint("/", len(big)), fmt.Sprint("/", len(big)+1), 1))
		})},
		{name: "a range is not there", resource: resource(big, `"1"`), err: errStatus, change: spoilt(func(s *httptestfault.Response) { *s = httptestfault.Response{Status: 404} })},
		{name: "more than any disk has", resource: resource(small, `"1"`), requests: 1, err: errSize, change: func(s httptestfault.Response) httptestfault.Response {
			s.Header.Set("Content-Length", fmt.Sprint(int64(1)<<60))
			return s
		}},
		{name: "404", resource: resource(big, `"1"`), requests: 1, err: errStatus, change: func(httptestfault.Response) httptestfault.Response {
			return httptestfault.Response{Status: 404}
		}},
		{name: "503", resource: resource(big, `"1"`), requests: 20, err: retry.ErrExhausted, change: func(httptestfault.Response) httptestfault.Response {
			return httptestfault.Response{Status: 503}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // where ranges arrive before a slow whole has ended
				server := httptestfault.NewInMemory(func(_ int, r *http.Request) httptestfault.Response {
					step := tt.resource.Respond(r)
					if tt.change != nil {
						step = tt.change(step)
					}
					return step
				})
				defer server.Close()
				c := client(server)
				defer c.CloseIdleConnections()
				path := filepath.Join(t.TempDir(), "file")
				progress := int64(0)
				o := tt.options
				o.Client, o.Piece, o.Progress = c, part, func(done, _ int64) { progress = done }
				r, err := download.File(request(t, server), path, o)
				if n := len(server.Requests()); tt.requests != 0 && n != tt.requests {
					t.Errorf("%d requests; want %d", n, tt.requests)
				}
				if !errors.Is(kindOf(err), tt.err) || (err == nil) != (tt.err == nil) {
					t.Fatalf("%v; want %v", err, tt.err)
				}
				if err != nil {
					if r.Bytes == 0 {
						nothing(t, filepath.Dir(path))
					}
					return
				}
				alone(t, path, tt.resource.Body)
				verified := map[string]string{"": "size", "none": "", "sha256": "sha256"}[tt.verified]
				if n := int64(len(tt.resource.Body)); progress != n || r.Bytes != n || r.Resumed != 0 || r.Verified != verified || r.Header.Get("Date") == "" || r.Checksum == "" {
					t.Errorf("progress %d, %+v; want %d bytes, verified by %q", progress, r, n, verified)
				}
			})
		})
	}
}

// spoilt changes the responses that are ranges, and slows down the whole resource so that there are ranges.
func spoilt(spoil func(*httptestfault.Response)) func(httptestfault.Response) httptestfault.Response {
	return func(s httptestfault.Response) httptestfault.Response {
		if s.Status == 206 {
			spoil(&s)
		} else {
			s.Slice, s.Gap = part/4, time.Millisecond
		}
		return s
	}
}

var errSize = errors.New("a size that cannot be")

// kindOf returns one of our own errors for those that have no sentinel.
func kindOf(err error) error {
	if status, ok := errors.AsType[*httpretry.StatusError](err); ok && status.Status == 404 {
		return errStatus
	}
	if err != nil && strings.Contains(err.Error(), "the file system only") {
		return errSize
	}
	return err
}

func TestFileRefuses(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses())
	defer server.Close()
	c := client(server)
	defer c.CloseIdleConnections()
	dir := t.TempDir()
	post := request(t, server)
	post.Method = http.MethodPost
	for _, tt := range []struct {
		req  *http.Request
		path string
		o    download.Options
		says string
	}{
		{req: post, path: "x", says: `invalid value "POST" for method`},
		{path: "x", o: download.Options{Checksum: "sha256:12"}, says: `invalid value "sha256:12" for Checksum`},
		{path: "missing/x", says: "no such file"},
		{path: ".", says: "is a directory"},
	} {
		if tt.req == nil {
			tt.req = request(t, server)
		}
		tt.o.Client = c
		_, err := download.File(tt.req, filepath.Join(dir, tt.path), tt.o)
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s, %+v: %v; want %q", tt.path, tt.o, err, tt.says)
		}
	}
	if n := len(server.Requests()); n > 0 {
		t.Errorf("%d requests; want none", n)
	}
	nothing(t, dir)
}

// Interrupted runs in sequence complete the file: no byte is fetched twice, the file is always the resource, and nothing is
// left beside it.
func TestFileAcrossRuns(t *testing.T) {
	rounds(t, 50, func(round int, random *rand.Rand) {
		want := content(1+random.IntN(20*part), uint64(round))
		e := resource(want, `"1"`)
		var left atomic.Int64
		server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Response {
			step := e.Respond(r)
			if left.Add(-int64(len(step.Body))) < 0 {
				return httptestfault.Response{Status: 404} // which is not retried
			}
			return step.With(httptestfault.CutBody(random.IntN(len(step.Body) + 1)))
		})
		defer server.Close()
		c := client(server)
		defer c.CloseIdleConnections()
		path := filepath.Join(t.TempDir(), "file")
		for kept, run := int64(0), 0; ; run++ {
			left.Store(22 * part)
			r, err := download.File(request(t, server), path, download.Options{Client: c, Piece: part, Parallel: run % 5})
			if err == nil && r.Resumed != kept || errors.Is(kindOf(err), errStatus) && r.Bytes < kept || run == 500 {
				t.Errorf("round %d, run %d: %+v, %v; %d bytes were kept", round, run, r, err, kept)
			}
			if err == nil || run == 500 {
				break
			}
			kept = r.Bytes
		}
		alone(t, path, want)
	})
}

// A file has one version, at whatever moment the resource is replaced, by one of the same size or of another size.
func TestFileOfAResourceThatIsReplaced(t *testing.T) {
	var complete atomic.Int64
	rounds(t, 500, func(round int, random *rand.Rand) {
		size := part + random.IntN(6*part)
		versions := []httptestfault.Resource{resource(content(size, 1), `"1"`), resource(content(size, 2), `"2"`), resource(content(size-random.IntN(2)*100, 3), `"3"`)}
		for v := range versions {
			if round%3 == 0 {
				versions[v].ETag, versions[v].LastModified = "", time.Date(2026, 1, 1+v, 0, 0, 0, 0, time.UTC)
			}
		}
		all := slices.Clone(versions)
		server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Response {
			if round%5 == 0 { // a server that does not know If-Range
				r.Header.Del("If-Range")
			}
			step := versions[0].Respond(r)
			if len(versions) > 1 && random.IntN(3) == 0 {
				versions = versions[1:]
			}
			return step.With(httptestfault.Fault{Kind: httptestfault.Cut, Bytes: random.IntN(len(step.Body) + 1), RST: random.IntN(2) == 1})
		})
		defer server.Close()
		c := client(server)
		defer c.CloseIdleConnections()
		path := filepath.Join(t.TempDir(), "file")
		_, err := download.File(request(t, server), path, download.Options{Client: c, Piece: part, Parallel: 1 + round%4})
		if err == nil {
			complete.Add(1)
		}
		got, missing := os.ReadFile(path)
		isOne := slices.ContainsFunc(all, func(e httptestfault.Resource) bool { return bytes.Equal(e.Body, got) })
		if (err == nil) != (missing == nil) || missing == nil && !isOne {
			t.Errorf("round %d: %v, and %d bytes that are one version: %t (%v)", round, err, len(got), isOne, missing)
		}
	})
	if n := complete.Load(); n < 250 {
		t.Errorf("%d of 500 complete", n)
	}
}

// The file is the resource after every kind of cut.
func TestFileOfBodiesThatAreCut(t *testing.T) {
	bodies := [][]byte{content(5_000, 1), content(50_000, 2), content(5*part+1, 3)}
	rounds(t, 1000, func(round int, random *rand.Rand) {
		e := resource(bodies[round%3], `"1"`)
		cuts := 0
		server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Response {
			step := e.Respond(r)
			if cuts++; len(step.Body) <= 1000 || cuts > 100 {
				return step
			}
			if step.Status == 200 && round%2 == 0 {
				step.Status = 203
			}
			return step.With(httptestfault.Fault{Kind: httptestfault.Cut, Bytes: 1 + random.IntN(len(step.Body)-1), RST: random.IntN(2) == 1})
		})
		defer server.Close()
		c := client(server)
		defer c.CloseIdleConnections()
		path := filepath.Join(t.TempDir(), "file")
		r, err := download.File(request(t, server), path, download.Options{Client: c, Piece: part})
		if err != nil || r.Bytes != int64(len(e.Body)) {
			t.Errorf("round %d: %+v, %v", round, r, err)
			return
		}
		alone(t, path, e.Body)
	})
}

// Several downloads to one path at once each succeed, or report that another was there at the same moment.
func TestFilesAtOnePath(t *testing.T) {
	want := content(3*part, 1)
	server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Response { return resource(want, `"1"`).Respond(r) })
	defer server.Close()
	c := client(server)
	defer c.CloseIdleConnections()
	path := filepath.Join(t.TempDir(), "file")
	var complete atomic.Int64
	rounds(t, 8, func(int, *rand.Rand) {
		switch _, err := download.File(request(t, server), path, download.Options{Client: c, Piece: part}); {
		case err == nil:
			complete.Add(1)
		case !strings.Contains(err.Error(), "replaced by another process"):
			t.Error(err)
		}
	})
	if complete.Load() == 0 {
		t.Error("none is complete")
	}
	alone(t, path, want)
}

// sourceOf returns the text that identifies the resource at u to a later process.
func sourceOf(u *url.URL) string {
	return newGetter(&http.Request{URL: u}, http.DefaultClient).Source()
}

func TestSource(t *testing.T) {
	const base = "https://example.org/a/b?x=1&y=2"
	for _, tt := range []struct {
		url  string
		same bool
	}{
		{base, true},
		{"https://user:secret@example.org/a/b?x=1&y=2#there", true},
		{base + "&X-Amz-Signature=a&X-Amz-Date=b&AWSAccessKeyId=c&Expires=1&Signature=d", true},
		{base + "&X-Goog-Signature=a&GoogleAccessId=b", true},
		{base + "&sig=a&se=b&st=c&skt=d&ske=e", true},
		{"https://example.org/a/b?x=1&y=3", false},
		{"https://example.org/a/c?x=1&y=2", false},
		{"https://example.com/a/b?x=1&y=2", false},
		{"http://example.org/a/b?x=1&y=2", false},
		{base + "&token=x", false},
	} {
		a, err := url.Parse(base)
		b, also := url.Parse(tt.url)
		if err := errors.Join(err, also); err != nil {
			t.Fatal(err)
		}
		if got := sourceOf(b); (got == sourceOf(a)) != tt.same || strings.Contains(got, "secret") {
			t.Errorf("%s: %s; want that of %s: %t", tt.url, got, base, tt.same)
		}
	}
}
