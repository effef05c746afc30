package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/record"
)

// TestFormats pins the formats that later versions of the program read.
func TestFormats(t *testing.T) {
	const raise = "\ngot  %s\nwant %s\nAnother version of the program reads this: raise the version in the format's name, and pin the new one here."
	sum := checksum.Sum{Name: "md5", Value: make([]byte, 16), PartSize: 8 << 20}
	for _, c := range []struct {
		line any
		want string
	}{
		{
			head{stateFormat, "source", 7, "crc32c", Version{ETag: `"a"`, LastModified: "m", Size: 5, Checksum: sum, Inconclusive: true}},
			`{"format":"perdure-part-3","source":"source","inode":7,"algorithm":"crc32c","version":{"etag":"\"a\"","last_modified":"m","size":5,"checksum":"md5:AAAAAAAAAAAAAAAAAAAAAA==@8388608","inconclusive":true}} 3e86d99c`,
		},
		{
			head{stateFormat, "", 0, "", Version{}},
			`{"format":"perdure-part-3","source":"","inode":0,"algorithm":"","version":{"size":0}} 99f04d6c`,
		},
		{piece{Range{1, 2}, 3}, `{"from":1,"to":2,"crc":3} b9967368`},
		{owner{ownerFormat, 7, true}, `{"format":"perdure-staging-2","inode":7,"tree":true} a3f9402e`},
	} {
		text, err := record.Encode(c.line)
		if err != nil || string(text) != c.want+"\n" {
			t.Errorf("%T: %v"+raise, c.line, err, text, c.want)
		}
	}
	part, state := partNames("hour.csv")
	if want := "e819640395413c6b3ae6d4d1c14f1694"; part != want+".part" || state != want+".state" {
		t.Errorf("names: %s %s"+raise, part, state, "", want)
	}
	if stagingPrefix != ".perdure-" || ownerName != "owner" {
		t.Errorf("staging: %s, %s"+raise, stagingPrefix, ownerName, "", "")
	}
}

// A sourceOf is a Getter of size zero bytes that ignores ranges. Its body breaks after limit bytes.
type sourceOf struct {
	size, limit int
	onGet       func()
	open        int // bodies that are not closed
}

func (s *sourceOf) Get(context.Context, Range, *Version) (*Response, error) {
	s.onGet()
	s.open++
	body := io.MultiReader(bytes.NewReader(make([]byte, s.limit)), iotest.ErrReader(io.ErrUnexpectedEOF))
	return &Response{Version: Version{ETag: `"a"`, Size: int64(s.size)}, Body: &closer{body, sync.OnceFunc(func() { s.open-- })}}, nil
}

type closer struct {
	io.Reader
	closed func()
}

func (b *closer) Close() error { b.closed(); return nil }

// TestFailedBeginClosesTheBody makes the part unusable after a response, of the first request and of one that was to
// resume: the body of the latter used to stay open, and with it its connection.
func TestFailedBeginClosesTheBody(t *testing.T) {
	for _, resume := range []bool{false, true} {
		f, err := Create(filepath.Join(t.TempDir(), "hour.csv"), Options{Source: "s"})
		if err != nil {
			t.Fatal(err)
		}
		s := &sourceOf{size: 4 << 20, limit: 3 << 20, onGet: func() {}}
		if resume {
			if err := f.Fetch(t.Context(), s); !errors.Is(err, io.ErrUnexpectedEOF) || f.out.bytes == 0 {
				t.Fatalf("%v, %d bytes", err, f.out.bytes)
			}
		}
		s.onGet = func() { _ = f.out.part.Close() }
		err = f.Fetch(t.Context(), s)
		if _, isWrite := errors.AsType[*WriteError](err); !isWrite || s.open != 0 {
			t.Errorf("resume %v: %v, want a WriteError; %d bodies are open", resume, err, s.open)
		}
		f.Close()
	}
}

// FuzzSet compares a set of ranges with an array of flags.
func FuzzSet(f *testing.F) {
	f.Add([]byte{0, 3, 1, 5, 9, 2, 0, 1, 3})
	f.Fuzz(func(t *testing.T, ops []byte) {
		const size = 64
		var s set
		var have [size]bool
		for len(ops) >= 3 {
			from, to := int64(ops[1]%size), int64(ops[2]%size)
			switch ops[0] % 4 {
			case 0:
				s.add(Range{from, to})
				for i := from; i < to; i++ {
					have[i] = true
				}
			case 1:
				rest := set{{0, size}}
				for _, r := range s {
					rest.cut(len(rest)-1, r)
				}
				s = rest
				for i := range have {
					have[i] = !have[i]
				}
			case 2:
				taken(t, &have, from, to%9+1, func() (Range, bool) { return s.first(from, to%9+1) })
			case 3:
				taken(t, &have, -1, to%9+1, func() (Range, bool) { return s.last(to%9+1, from) })
			}
			compare(t, s, have)
			ops = ops[3:]
		}
	})
}

// taken checks a range that was removed from a set. Where the set has the byte at from (any if -1), something was.
func taken(t *testing.T, have *[64]bool, from, piece int64, take func() (Range, bool)) {
	t.Helper()
	r, ok := take()
	if !ok {
		if first := lowest(have); from < 0 && first < 64 || from >= 0 && first == from {
			t.Fatalf("nothing was taken from %v at %d", have, from)
		}
		return
	}
	if r.From < 0 || r.To > 64 || r.To <= r.From || r.To-r.From > piece || r.From/piece != (r.To-1)/piece || from >= 0 && r.From != from {
		t.Fatalf("%v was taken at %d, in pieces of %d", r, from, piece)
	}
	for i := r.From; i < r.To; i++ {
		if !have[i] {
			t.Fatalf("%v was taken, but %d was not there", r, i)
		}
		have[i] = false
	}
}

func lowest(have *[64]bool) int64 {
	for i, there := range have {
		if there {
			return int64(i)
		}
	}
	return 64
}

func compare(t *testing.T, s set, have [64]bool) {
	t.Helper()
	var got [64]bool
	end := int64(-1)
	for _, r := range s {
		if r.From <= end || r.To <= r.From {
			t.Fatalf("%v: want ranges in order, with gaps between", s)
		}
		for i := r.From; i < r.To; i++ {
			got[i] = true
		}
		end = r.To
	}
	if got != have {
		t.Fatalf("%v, want %v", s, have)
	}
}

// FuzzState reads records of any ranges, with any text after them: what it returns can be a state.
func FuzzState(f *testing.F) {
	f.Add([]byte("\x00\x0a\x00\x14\x0f\x1e\x1e\x28\x28\x3c\x0a\x0a\x3c\x00"), []byte{})
	f.Add([]byte{0, 10}, []byte(`{"from":20,"to":30,"crc":0}`+"\n"))
	f.Fuzz(func(t *testing.T, ranges, more []byte) {
		text, err := record.Encode(head{stateFormat, "s", 7, "crc32c", Version{ETag: `"a"`, Size: 50}})
		for ; err == nil && len(ranges) > 1; ranges = ranges[2:] {
			var line []byte
			line, err = record.Encode(piece{Range{int64(ranges[0]), int64(ranges[1])}, 1})
			text = append(text, line...)
		}
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, more...)
		path := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		s := record.NewLog(file, maxState)
		load := func() (head, []piece, bool) {
			text, err := s.Load()
			if err != nil {
				t.Fatal(err)
			}
			return parseState(text)
		}
		h, pieces, ok := load()
		if !ok {
			t.Fatalf("%q: no state", text)
		}
		at := int64(0)
		for _, p := range pieces {
			if p.From < at || p.To <= p.From || p.To > h.Version.Size {
				t.Fatalf("%v within %d bytes", pieces, h.Version.Size)
			}
			at = p.To
		}
		if err := s.Append(piece{Range{0, 1}, 2}); err != nil {
			t.Fatal(err)
		}
		again, longer, ok := load()
		if !ok || !reflect.DeepEqual(again, h) || len(longer) < min(1, len(pieces)) {
			t.Fatalf("%+v %v after a line more, want %+v %v", again, longer, h, pieces)
		}
	})
}
