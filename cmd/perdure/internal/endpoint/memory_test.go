package endpoint_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/copying"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/tree"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// A shelf is a place in memory: what mem://KEY names. It is a scheme that the package does not know, of which this file is
// all.
type shelf struct {
	*books

	key string
}

type books struct {
	mu  sync.Mutex
	all map[string][]byte // guarded by mu
}

func (b *books) get(key string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	content, ok := b.all[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return content, nil
}

func (s *shelf) String() string { return "mem://" + s.key }
func (s *shelf) Where() string  { return s.String() }
func (s *shelf) Key() string    { return s.key }
func (s *shelf) Base() string   { return path.Base(s.key) }

func (s *shelf) Named(name string) endpoint.Endpoint {
	if s.key != "" && !strings.HasSuffix(s.key, "/") {
		return nil
	}
	return &shelf{s.books, s.key + name}
}

func (s *shelf) Check(field string, _ endpoint.Role) error {
	if s.key == "" {
		return setting.Bad(field, s.String(), "a key")
	}
	return nil
}

func (s *shelf) Is(other endpoint.Endpoint) bool {
	o, ok := other.(*shelf)
	return ok && o.key == s.key
}

func (s *shelf) Connect(context.Context, *endpoint.Session, endpoint.Role) error { return nil }
func (s *shelf) Close(bool) error                                                { return nil }
func (s *shelf) Settle(context.Context, endpoint.Endpoint)                       {}

func (s *shelf) Stat(context.Context) (endpoint.Info, error) {
	content, err := s.get(s.key)
	return endpoint.Info{Size: int64(len(content)), Checksum: sumOf(content)}, err
}

func sumOf(content []byte) checksum.Sum {
	h := checksum.New("crc32")
	_, _ = h.Write(content)
	return checksum.Of("crc32", h)
}

func (s *shelf) Open(ctx context.Context) (*endpoint.Input, error) {
	content, err := s.get(s.key)
	if err != nil {
		return nil, err
	}
	info, err := s.Stat(ctx)
	return &endpoint.Input{ReadCloser: io.NopCloser(bytes.NewReader(content)), Info: info}, err
}

func (s *shelf) Getter() (transfer.Getter, string) { return nil, "" }

func (s *shelf) Create(_ context.Context, c *endpoint.Copy) (endpoint.Target, error) {
	return &book{shelf: s, progress: c.Progress}, nil
}

func (s *shelf) CopyFrom(context.Context, endpoint.Endpoint) (endpoint.Stored, error) {
	return endpoint.Stored{}, errors.ErrUnsupported
}

func (s *shelf) List(context.Context) iter.Seq2[endpoint.Item, error] {
	s.mu.Lock()
	keys := slices.Sorted(maps.Keys(s.all))
	s.mu.Unlock()
	return func(yield func(endpoint.Item, error) bool) {
		for _, key := range keys {
			rel, below := strings.CutPrefix(key, s.key+"/")
			content, err := s.get(key)
			if below && !yield(endpoint.Item{Rel: rel, Size: int64(len(content))}, err) {
				return
			}
		}
	}
}

func (s *shelf) Remove(_ context.Context, rels []string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, rel := range rels {
			s.mu.Lock()
			delete(s.all, s.key+"/"+rel)
			s.mu.Unlock()
			if !yield(rel, nil) {
				return
			}
		}
	}
}

func (s *shelf) Join(rel string) (endpoint.Endpoint, error) {
	return &shelf{s.books, s.key + "/" + rel}, nil
}

// A book is a shelf's in the making.
type book struct {
	*shelf

	progress func(done, earlier, total int64)
	content  []byte
}

func (b *book) File() *transfer.File { return nil }
func (b *book) Close() string        { return "" }

func (b *book) Put(_ context.Context, in *endpoint.Input) (endpoint.Stored, error) {
	var err error
	if b.content, err = io.ReadAll(in); err != nil {
		return endpoint.Stored{}, &endpoint.ReadError{Err: err}
	}
	n := int64(len(b.content))
	if b.progress != nil {
		b.progress(n, 0, n)
	}
	return endpoint.Stored{Bytes: n}, nil
}

func (b *book) Commit() (endpoint.Stored, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all[b.key] = b.content
	return endpoint.Stored{Bytes: int64(len(b.content)), Checksum: sumOf(b.content).String(), Verified: "crc32"}, nil
}

// TestThirdScheme copies to and from a scheme that only this file and a row of the table know.
func TestThirdScheme(t *testing.T) {
	memory := &books{all: map[string][]byte{}}
	t.Cleanup(endpoint.AddScheme("mem", "mem://KEY", "mem://KEY", "mem://PREFIX", func(_, text string) (endpoint.Endpoint, error) {
		return &shelf{memory, strings.TrimPrefix(text, "mem://")}, nil
	}))
	if want := "a file, - for standard input, an http or https URL, s3://BUCKET/KEY, or mem://KEY"; endpoint.Words() != want {
		t.Errorf("SRC may be %s, want %s", endpoint.Words(), want)
	}
	dir := t.TempDir()
	for _, row := range []struct{ from, to string }{
		{filepath.Join(dir, "a"), "mem://shelf/"}, {"mem://shelf/a", "mem://twin"}, {"mem://twin", filepath.Join(dir, "back")},
	} {
		if err := os.WriteFile(filepath.Join(dir, "a"), []byte("novel"), 0o600); err != nil {
			t.Fatal(err)
		}
		job := &copying.Job{Source: row.from, Destination: row.to}
		if r, err := job.Run(t.Context()); err != nil || r.Bytes != 5 {
			t.Fatalf("%s to %s: %+v, %v", row.from, row.to, r, err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, "back")); err != nil || string(got) != "novel" {
		t.Errorf("%q came back, %v", got, err)
	}
	down := filepath.Join(dir, "down")
	for _, row := range []struct{ from, to string }{{dir, "mem://all"}, {"mem://all", down}} {
		for _, skipped := range []int{0, 2} {
			s, last := many(t, row.from, row.to)
			if s.Copied != 2-skipped || s.Skipped != skipped || s.Moved != int64(5*s.Copied) {
				t.Errorf("%s to %s: %+v, want %d skipped", row.from, row.to, s, skipped)
			}
			if last.Bytes != 10 || last.Earlier != int64(5*skipped) {
				t.Errorf("%s to %s: the last progress is %+v", row.from, row.to, last)
			}
		}
	}
	if got, err := os.ReadFile(filepath.Join(down, "back")); err != nil || string(got) != "novel" {
		t.Errorf("%q came back, %v", got, err)
	}
}

func many(t *testing.T, from, to string) (s tree.Summary, last tree.Progress) {
	t.Helper()
	place, err := endpoint.ParseTree(from, to, false)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex // the listing and the copy report side by side
	job := &tree.Job{Tree: place, Session: &endpoint.Session{}, Parallel: 1, Progress: func(p tree.Progress) {
		mu.Lock()
		defer mu.Unlock()
		if p.Bytes >= last.Bytes {
			last = p
		}
	}}
	if s, err = job.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, last
}
