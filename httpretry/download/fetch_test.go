package download_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/download"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

const part = 64 << 10

// content is a body of n bytes that differ from those of another version.
func content(n int, version uint64) []byte {
	body := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(version)}).Read(body)
	return body
}

func entity(body []byte, tag string) httptestfault.Entity {
	return httptestfault.Entity{Body: body, ETag: tag}
}

func client(server *httptestfault.Server) *http.Client {
	policy := retry.Policy{MaxAttempts: 20, BaseDelay: 100 * time.Microsecond, MaxDelay: time.Millisecond, Jitter: retry.NoJitter, Observe: func(retry.Event) {}}
	return &http.Client{Transport: httpretry.NewTransport(server.Transport(), httpretry.Options{Policy: &policy, OnResume: func(httpretry.Resumption) {}})}
}

func request(t *testing.T, server *httptestfault.Server) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func newFile(t *testing.T) *os.File {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "partial"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	})
	return file
}

func holds(t *testing.T, file *os.File, want []byte) bool {
	t.Helper()
	got, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(got, want)
}

// later is s as another process reads it.
func later(t *testing.T, s download.State) download.State {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var read download.State
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return read
}

func TestFetch(t *testing.T) {
	big, small := content(10*part+7, 1), content(1000, 1)
	sum := sha256.Sum256(big)
	digested := entity(big, `"1"`)
	digested.Header = http.Header{"Repr-Digest": {"sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"}}
	corrupt := digested
	corrupt.Body = content(len(big), 2)
	for _, tt := range []struct {
		name     string
		entity   httptestfault.Entity
		change   func(httptestfault.Step) httptestfault.Step
		parallel int
		requests int // 0: any number
		err      error
		unclear  bool
	}{
		{name: "small", entity: entity(small, `"1"`), requests: 1},
		{name: "empty", entity: entity(nil, `"1"`), requests: 1},
		{name: "large", entity: entity(big, `"1"`)},
		{name: "large, one at a time", entity: entity(big, `"1"`), parallel: -1, requests: 1},
		{name: "large, many at a time", entity: entity(big, `"1"`), parallel: 64},
		{name: "large, by date", entity: httptestfault.Entity{Body: big, LastModified: time.Now().Add(-time.Hour)}},
		{name: "large, with a digest", entity: digested},
		{name: "large, corrupt", entity: corrupt, err: errDigest},
		{name: "large, corrupt, one at a time", entity: corrupt, parallel: -1, err: errDigest},
		{name: "no validator", entity: entity(big, ""), requests: 1},
		{name: "weak tag", entity: entity(big, `W/"1"`), requests: 1},
		{name: "no length", entity: entity(big, `"1"`), requests: 1, change: func(s httptestfault.Step) httptestfault.Step {
			s.Framing = httptestfault.Chunked
			s.Header.Del("Content-Length")
			return s
		}},
		{name: "until close", entity: entity(big, `"1"`), requests: 1, unclear: true, change: func(s httptestfault.Step) httptestfault.Step {
			s.Framing = httptestfault.UntilClose
			s.Header.Del("Content-Length")
			return s
		}},
		{name: "does not say that it knows ranges", entity: entity(big, `"1"`), requests: 1, change: func(s httptestfault.Step) httptestfault.Step {
			s.Header.Del("Accept-Ranges")
			return s
		}},
		{name: "says that it knows ranges, but does not", entity: entity(big, `"1"`), change: func(httptestfault.Step) httptestfault.Step {
			return httptestfault.Step{Body: big, Header: http.Header{"Etag": {`"1"`}, "Accept-Ranges": {"bytes"}}, Slice: part, Gap: time.Millisecond}
		}},
		{name: "a part is another range", entity: entity(big, `"1"`), err: httpretry.ErrWrongRange, change: spoilt(func(s *httptestfault.Step) {
			s.Header.Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(s.Body)-1, len(big)))
		})},
		{name: "a part has no range", entity: entity(big, `"1"`), err: httpretry.ErrWrongRange, change: spoilt(func(s *httptestfault.Step) { s.Header.Del("Content-Range") })},
		{name: "a part is of another version", entity: entity(big, `"1"`), err: download.ErrChanged, change: spoilt(func(s *httptestfault.Step) { s.Header.Set("ETag", `"2"`) })},
		{name: "a part is of another size", entity: entity(big, `"1"`), err: download.ErrChanged, change: spoilt(func(s *httptestfault.Step) {
			s.Header.Set("Content-Range", strings.Replace(s.Header.Get("Content-Range"), fmt.Sprint("/", len(big)), fmt.Sprint("/", len(big)+1), 1))
		})},
		{name: "a part is not there", entity: entity(big, `"1"`), err: errStatus, change: spoilt(func(s *httptestfault.Step) { *s = httptestfault.Step{Status: 404} })},
		{name: "404", entity: entity(big, `"1"`), requests: 1, err: errStatus, change: func(httptestfault.Step) httptestfault.Step {
			return httptestfault.Step{Status: 404}
		}},
		{name: "503", entity: entity(big, `"1"`), requests: 20, err: retry.ErrExhausted, change: func(httptestfault.Step) httptestfault.Step {
			return httptestfault.Step{Status: 503}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Step {
				step := tt.entity.Answer(r)
				if tt.change != nil {
					step = tt.change(step)
				}
				return step
			})
			defer server.Close()
			c := client(server)
			defer c.CloseIdleConnections()
			file := newFile(t)
			var state download.State
			var mu sync.Mutex
			progress, checkpoints := int64(0), 0
			err := download.Fetch(request(t, server), file, &state, download.FetchOptions{
				Client: c, Parallel: tt.parallel, PartSize: part,
				Progress:   func(n int64) { mu.Lock(); progress += n; mu.Unlock() },
				Checkpoint: func(download.State) { checkpoints++ },
			})
			if _, ok := errors.AsType[*httpretry.DigestError](err); ok {
				err = errDigest
			} else if status, ok := errors.AsType[*httpretry.StatusError](err); ok && status.Status == 404 {
				err = errStatus
			}
			if !errors.Is(err, tt.err) || err == nil && !holds(t, file, tt.entity.Body) {
				t.Fatalf("%v; want %v and the whole entity", err, tt.err)
			}
			if n := len(server.Requests()); tt.requests != 0 && n != tt.requests {
				t.Errorf("%d requests; want %d", n, tt.requests)
			}
			if err != nil {
				return
			}
			if size := int64(len(tt.entity.Body)); progress != size || state.Size != size || state.Bytes() != size || state.Unverified != tt.unclear {
				t.Errorf("progress %d, state %+v; want %d bytes", progress, state, size)
			}
			if size := len(tt.entity.Body); checkpoints < size/part/2 {
				t.Errorf("%d checkpoints for %d bytes", checkpoints, size)
			}
		})
	}
}

// spoilt changes the answers that are parts, and slows the whole so that there are some.
func spoilt(spoil func(*httptestfault.Step)) func(httptestfault.Step) httptestfault.Step {
	return func(s httptestfault.Step) httptestfault.Step {
		if s.Status == 206 {
			spoil(&s)
		} else {
			s.Slice, s.Gap = part/4, time.Millisecond
		}
		return s
	}
}

var (
	errDigest = errors.New("a digest error")
	errStatus = errors.New("a 404")
)

// Runs that are cut short, one after the other, come to an end: no byte is fetched twice but at the cuts.
func TestFetchAcrossRuns(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 3))
	for round := range 20 {
		want := content(1+random.IntN(20*part), uint64(round))
		e := entity(want, `"1"`)
		var mu sync.Mutex
		left := 0
		server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Step {
			mu.Lock()
			defer mu.Unlock()
			step := e.Answer(r)
			if left -= len(step.Body); left < 0 {
				return httptestfault.Step{Status: 404} // which nobody retries
			}
			return step.CutAt(random.IntN(len(step.Body)+1), httptestfault.FIN)
		})
		c := client(server)
		file := newFile(t)
		var state download.State
		runs := 0
		for ; runs < 500; runs++ {
			mu.Lock()
			left = 30 * part
			mu.Unlock()
			before := state.Bytes()
			err := download.Fetch(request(t, server), file, &state, download.FetchOptions{Client: c, PartSize: part, Parallel: runs % 5})
			if state = later(t, state); err == nil {
				break
			}
			if state.Bytes() < before {
				t.Fatalf("seed %d, round %d: %d bytes after a run, %d before", seed, round, state.Bytes(), before)
			}
		}
		if !state.Complete() || !holds(t, file, want) {
			t.Errorf("seed %d, round %d: not the entity after %d runs: %+v", seed, round, runs, state)
		}
		c.CloseIdleConnections()
		server.Close()
	}
}
