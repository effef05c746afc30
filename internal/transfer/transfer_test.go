package transfer_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// A memory is a Getter of bytes in memory, which may fail after a number of bytes.
type memory struct {
	content []byte
	version transfer.Version
	ranges  bool
	fail    func() int // bytes after which a body breaks; negative: never
}

var errBroken = errors.New("broken")

func (m *memory) Get(_ context.Context, r transfer.Range, of *transfer.Version) (*transfer.Response, error) {
	if of != nil && !m.version.Same(*of) {
		return nil, transfer.ErrChanged
	}
	from, to := r.From, r.To
	if !m.ranges {
		from, to = 0, -1
	}
	if to < 0 {
		to = int64(len(m.content))
	}
	var body io.Reader = bytes.NewReader(m.content[from:to])
	if m.fail != nil {
		if n := m.fail(); n >= 0 {
			body = io.MultiReader(io.LimitReader(body, int64(n)), broken{})
		}
	}
	return &transfer.Response{Version: m.version, From: from, Ranges: m.ranges, Body: io.NopCloser(body)}, nil
}

// getter returns a memory of b with ranges and without failures.
func getter(b []byte) *memory {
	return &memory{content: b, version: transfer.Version{ETag: `"a"`, Size: int64(len(b))}, ranges: true}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errBroken }

func content(seed uint64, size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b)
	return b
}

// sumOf returns the checksum of b: by that algorithm, of parts of 100 kB, or none.
func sumOf(t *testing.T, name string, b []byte) checksum.Sum {
	t.Helper()
	s := checksum.Sum{Name: name}
	switch name {
	case "":
		return s
	case "composite":
		s = checksum.Sum{Name: "md5", PartSize: 100_000}
	}
	h := s.New()
	_, _ = h.Write(b)
	s.Value = h.Sum(nil)
	return s
}

// TestFetchWithEachChecksum fetches with each checksum of the source and each wanted one: right ones pass; one wrong
// bit in either fails and leaves nothing.
func TestFetchWithEachChecksum(t *testing.T) {
	algorithms := []string{"", "crc32", "crc32c", "crc64nvme", "md5", "sha256", "composite"}
	for _, size := range []int{0, 300_003} {
		b := content(1, size)
		for _, theirs := range algorithms {
			for _, wanted := range algorithms {
				if size == 0 && theirs != wanted {
					continue
				}
				for _, ranges := range []bool{false, true} {
					for _, wrong := range []string{"", "source", "want"} {
						m := &memory{content: b, version: transfer.Version{ETag: `"a"`, Size: int64(size)}, ranges: ranges}
						m.version.Checksum = sumOf(t, theirs, b)
						o := transfer.Options{Source: "s", Piece: 64 << 10, Want: sumOf(t, wanted, b)}
						name := fmt.Sprintf("%d bytes, source %s, want %s, ranges %v, wrong %s", size, theirs, wanted, ranges, wrong)
						if wrong == "source" && theirs != "" {
							m.version.Checksum.Value[0] ^= 1
						} else if wrong == "want" && wanted != "" {
							o.Want.Value[0] ^= 1
						} else if wrong != "" {
							continue
						}
						fetchOnce(t, name, m, o, wrong != "")
					}
				}
			}
		}
	}
}

func fetchOnce(t *testing.T, name string, m *memory, o transfer.Options, wrong bool) {
	t.Helper()
	dir := t.TempDir()
	f := create(t, dir, o)
	err := f.Fetch(t.Context(), m)
	if wrong {
		if !errors.Is(err, checksum.ErrMismatch) {
			t.Errorf("%s: %v, want a mismatch", name, err)
		}
		f.Close()
		if entries, _ := os.ReadDir(dir); len(entries) > 0 {
			t.Errorf("%s: left %v", name, entries)
		}
		return
	}
	r, commit := f.Commit()
	f.Close()
	if err != nil || commit != nil || r.Bytes != int64(len(m.content)) {
		t.Errorf("%s: %+v, %v, %v", name, r, err, commit)
	}
	if want := cmp.Or(o.Want.Kind(), m.version.Checksum.Kind(), "size"); r.Verified != want {
		t.Errorf("%s: verified by %q, want %q", name, r.Verified, want)
	}
	only(t, dir, m.content)
}

func TestFetchResumes(t *testing.T) {
	const size = 8<<20 + 11
	first := testseed.Of(t, 0)
	for seed := first; seed < first+12; seed++ {
		b := content(seed, size)
		r := rand.New(rand.NewPCG(seed, 1))
		m := &memory{content: b, version: transfer.Version{ETag: `"a"`, Size: size}, ranges: true}
		m.version.Checksum = sumOf(t, []string{"crc32", "md5", "crc64nvme"}[seed%3], b)
		m.fail = func() int { return int(r.Int32N(3 << 20)) }
		dir := t.TempDir()
		for run := 0; ; run++ {
			if run == 100 {
				t.Fatalf("seed %d: no end", seed)
			}
			f := create(t, dir, transfer.Options{Source: "s", Piece: 1 << 20, Parallel: 1})
			if run > 0 {
				m.fail = func() int { return int(r.Int32N(8 << 20)) }
			}
			err := f.Fetch(t.Context(), m)
			if err == nil {
				_, err = f.Commit()
			}
			f.Close()
			if err == nil {
				break
			}
			if !errors.Is(err, errBroken) {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		only(t, dir, b)
	}
}

// A process that was killed before it had recorded a byte has left nothing to tell of: the next one used to say that all bytes
// had changed.
func TestKilledBeforeTheFirstRecord(t *testing.T) {
	b, dir := content(5, 2<<20), t.TempDir()
	m := getter(b)
	m.fail = func() int { return 1 << 20 }
	f := create(t, dir, transfer.Options{Source: "s", Parallel: 1})
	if err := f.Fetch(t.Context(), m); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	f.Close()
	states, _ := filepath.Glob(filepath.Join(dir, ".perdure-*", "*.state"))
	text, err := os.ReadFile(strings.Join(states, ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, records := range []int{1, 0} { // the head, and nothing
		if records == 0 {
			text = nil
		}
		head, _, _ := bytes.Cut(text, []byte("\n"))
		if err := os.WriteFile(states[0], append(head, "\n"[:records]...), 0o600); err != nil {
			t.Fatal(err)
		}
		f := create(t, dir, transfer.Options{Source: "s", Parallel: 1, Resumed: func(r transfer.Resumption) {
			t.Errorf("%d records: it says %+v, want nothing", records, r)
		}})
		err := f.Fetch(t.Context(), m)
		if f.Close(); !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		if text, err = os.ReadFile(states[0]); err != nil {
			t.Fatal(err)
		}
	}
}

// create creates x in a directory.
func create(t *testing.T, dir string, o transfer.Options) *transfer.File {
	t.Helper()
	f, err := transfer.Create(filepath.Join(dir, "x"), o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Of two copies to one path, the later one to end gets an error and leaves nothing; the file exists.
func TestReplacedByACopyOfTheSame(t *testing.T) {
	b, dir := content(3, 2<<20), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := transfer.Options{Source: "s", Piece: 1 << 20}
	first, second := create(t, dir, o), create(t, dir, o)
	for _, f := range []*transfer.File{first, second} {
		if err := f.Fetch(t.Context(), getter(b)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := first.Commit(); err != nil {
		t.Fatal(err)
	}
	first.Close()
	if _, err := second.Commit(); err == nil || !strings.Contains(err.Error(), "replaced by another process") {
		t.Errorf("error %v, want one that says that the file was replaced", err)
	}
	second.Close()
	only(t, dir, b)
}

// only fails the test unless the directory has x with that content, and nothing else.
func only(t *testing.T, dir string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(dir, "x"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("x: %d bytes, %v; want %d", len(got), err, len(want))
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("entries: %v, %v; want 1", entries, err)
	}
}

// Written bytes become a file as fetched bytes do, also after a source that broke.
func TestWrittenFile(t *testing.T) {
	for _, content := range []string{"", "written", strings.Repeat("much ", 1<<20)} {
		dir := t.TempDir()
		f := create(t, dir, transfer.Options{})
		_, err := io.WriteString(f, "what broke")
		if err = errors.Join(err, f.Rewind()); err == nil {
			_, err = io.WriteString(f, content)
		}
		if err != nil {
			t.Fatal(err)
		}
		written, err := io.ReadAll(f.Content())
		r, failed := f.Commit()
		f.Close()
		want := checksum.FromCRC("crc32c", uint64(crc32.Checksum([]byte(content), crc32.MakeTable(crc32.Castagnoli))))
		if err = errors.Join(err, failed); err != nil || r.Bytes != int64(len(content)) || r.Checksum.String() != want.String() || string(written) != content {
			t.Errorf("%d bytes: %+v, %d of them can be read; %v", len(content), r, len(written), err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "x")); err != nil || string(got) != content {
			t.Errorf("%d bytes: the file has %d (%v)", len(content), len(got), err)
		}
	}
}
