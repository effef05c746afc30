package sums

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// A place is a directory of caches, and a directory with one file.
type place struct {
	t                *testing.T
	state, dir, file string
	warned           []string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, state: filepath.Join(t.TempDir(), "checksums"), dir: t.TempDir()}
	p.file = filepath.Join(p.dir, "a.csv")
	p.write("first", time.Now().Add(-time.Hour))
	return p
}

func (p *place) write(content string, modified time.Time) {
	p.t.Helper()
	if err := errors.Join(os.WriteFile(p.file, []byte(content), 0o600), os.Chtimes(p.file, modified, modified)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) open() *Cache {
	return Open(p.state, p.dir, func(text string) { p.warned = append(p.warned, text) })
}

func (p *place) info() os.FileInfo {
	p.t.Helper()
	info, err := os.Stat(p.file)
	if err != nil {
		p.t.Fatal(err)
	}
	return info
}

// learn saves a checksum of the file.
func (p *place) learn(s Sum) {
	p.t.Helper()
	c := p.open()
	c.File("a.csv", p.info()).Add(s, p.info())
	if err := c.Save(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) knows(s Sum) bool { return p.open().File("a.csv", p.info()).Has(s) }

// cache returns the path of the saved cache; "" if it is absent.
func (p *place) cache() string {
	names, _ := filepath.Glob(filepath.Join(p.state, "*"))
	return strings.Join(names, " ")
}

var md5 = ETag(`"0123456789abcdef0123456789abcdef"`)

// A checksum is believed for the same path, kind and value, while the file is the same.
func TestHas(t *testing.T) {
	p := newPlace(t)
	p.learn(md5)
	other := Sum{md5.Kind, bytes.Clone(md5.Value)}
	other.Value[15]++
	inParts := ETag("0123456789abcdef0123456789abcdef-2")
	for _, row := range []struct {
		path string
		sum  Sum
		want bool
	}{{"a.csv", md5, true}, {"b.csv", md5, false}, {"a.csv", other, false}, {"a.csv", inParts, false}, {"a.csv", Sum{}, false}} {
		if got := p.open().File(row.path, p.info()).Has(row.sum); got != row.want {
			t.Errorf("%s has %v: %v", row.path, row.sum, got)
		}
	}
	if elsewhere := Open(p.state, t.TempDir(), func(text string) { t.Log(text) }); elsewhere.File("a.csv", p.info()).Has(md5) {
		t.Error("the file of another directory has the checksum")
	}
	if info, err := os.Stat(p.cache()); err != nil || info.Mode() != 0o600 {
		t.Errorf("the cache is %v, %v", info, err)
	}
	if none := (*Cache)(nil); none.File("a.csv", p.info()).Has(md5) || none.Save() != nil {
		t.Error("a nil cache has a checksum")
	}
}

// Any change of the file makes its checksum unknown.
func TestChangedFile(t *testing.T) {
	for what, change := range map[string]func(p *place) error{
		"other bytes, same size": func(p *place) error {
			p.write("FIRST", time.Now().Add(-time.Minute))
			return nil
		},
		"other bytes, same size and time": func(p *place) error { // only the change time tells
			before, _ := identity(p.info())
			for now := before; now == before && before != 0; now, _ = identity(p.info()) { // until the system's clock ticks
				p.write("FIRST", p.info().ModTime())
			}
			return nil
		},
		"other size, same time": func(p *place) error {
			p.write("first and more", p.info().ModTime())
			return nil
		},
		"other file, same time": func(p *place) error {
			next := p.file + ".next"
			modified := p.info().ModTime()
			return errors.Join(os.WriteFile(next, []byte("FIRST"), 0o600), os.Chtimes(next, modified, modified), os.Rename(next, p.file))
		},
	} {
		p := newPlace(t)
		if changed, _ := identity(p.info()); changed == 0 && strings.Contains(what, "same") && !strings.Contains(what, "other size") {
			continue // this system has no change time
		}
		p.learn(md5)
		if !p.knows(md5) {
			t.Fatal("the checksum is unknown")
		}
		if err := change(p); err != nil {
			t.Fatal(err)
		}
		if p.knows(md5) {
			t.Errorf("%s: the checksum is believed", what)
		}
	}
}

// A file that was modified just before, or while it was read, is not remembered.
func TestRacyFile(t *testing.T) {
	p := newPlace(t)
	p.write("first", time.Now().Add(time.Hour)) // as by a server whose clock is ahead
	p.learn(md5)
	if p.knows(md5) {
		t.Error("a file modified in the future is remembered")
	}
	p = newPlace(t)
	c := p.open()
	before := c.File("a.csv", p.info())
	p.write("FIRST", time.Now().Add(-time.Minute))
	before.Add(md5, p.info())
	if err := c.Save(); err != nil || p.cache() != "" {
		t.Errorf("a file that changed while it was read is remembered: %v", err)
	}
}

// A cache of which one byte differs, or that is too short or too long, is not believed. One line says so, and the next run has a
// new one.
func TestDamagedCache(t *testing.T) {
	p := newPlace(t)
	p.learn(md5)
	path := p.cache()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := [][]byte{{}, good[:1], good[:len(good)-1], append(bytes.Clone(good), 0), bytes.Repeat(good, 2), []byte("perdure-sums-2\n\x00")}
	for i := range good {
		text := bytes.Clone(good)
		text[i] ^= 1
		damaged = append(damaged, text)
	}
	for _, text := range damaged {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		p.warned = nil
		if p.knows(md5) {
			t.Fatalf("%q is believed", text)
		}
		if len(p.warned) != 1 || !strings.HasSuffix(p.warned[0], "the cache of the last run is damaged, or of another version of perdure: "+p.cache()) {
			t.Fatalf("warned of %q: %q", text, p.warned)
		}
	}
	p.learn(md5)
	p.warned = nil
	if !p.knows(md5) || p.warned != nil {
		t.Errorf("the damaged cache stays: %q", p.warned)
	}
}

// Two processes at a time lose nothing of each other once both have saved.
func TestTwoProcesses(t *testing.T) {
	p := newPlace(t)
	a, b := p.open(), p.open()
	crc := Of(checksum.Sum{Name: "crc32", Value: []byte{1, 2, 3, 4}})
	a.File("a.csv", p.info()).Add(md5, p.info())
	b.File("a.csv", p.info()).Add(crc, p.info())
	if err := errors.Join(a.Save(), b.Save()); err != nil {
		t.Fatal(err)
	}
	if !p.knows(md5) || !p.knows(crc) {
		t.Error("a checksum is lost")
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			c := p.open()
			for range 20 {
				c.File("a.csv", p.info()).Add(md5, p.info())
				if err := c.Save(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if !p.knows(md5) || p.warned != nil || strings.Contains(p.cache(), "draft") {
		t.Errorf("afterwards: %q, warned: %q", p.cache(), p.warned)
	}
}

// The format. A change of the format raises the number in format.
func TestGoldenFormat(t *testing.T) {
	e := entry{day: 20787, size: 4}
	copy(e.key[:], "the key of a.csv")
	copy(e.stamp[:], "its stamp, a sum")
	copy(e.value[:], "\x01\x02\x03\x04")
	const want = "706572647572652d73756d732d310a00" + "746865206b6579206f6620612e637376" + "697473207374616d702c20612073756d" +
		"0102030400000000000000000000000000000000000000000000000000000000" + "5133" + "04" + "0000000000" + "ebcf6b28"
	if got := hex.EncodeToString(encode([]entry{e})); got != want {
		t.Errorf("%s, want\n%s", got, want)
	}
	got, err := decode(encode([]entry{e}))
	if err != nil || !slices.Equal(got, []entry{e}) {
		t.Errorf("%v, %v", got, err)
	}
	f := (&Cache{}).File("2024/ä.csv", info{})
	if got := fmt.Sprintf("%x %x", f.key(md5), f.stamp); got != "ee28e0fad946edb4c2b93042d223b533 c69e8424aa8ae640c2f92a55548f6b33" {
		t.Errorf("key and stamp are %s", got)
	}
}

// info is that of a file of 5 bytes, modified one second after 1970, without inode.
type info struct{ os.FileInfo }

func (info) Size() int64        { return 5 }
func (info) ModTime() time.Time { return time.Unix(1, 0) }
func (info) Sys() any           { return nil }

// merge agrees with a map, and keeps neither too much nor too long.
func TestMerge(t *testing.T) {
	r := rand.New(rand.NewPCG(testseed.Of(t, 1), 1))
	const today = 1000
	some := func() (all []entry) {
		for range r.IntN(20) {
			e := entry{day: uint16(today - r.IntN(100)), size: uint8(r.IntN(33))}
			e.key[r.IntN(2)] = byte(r.IntN(4))
			all = append(all, e)
		}
		return all
	}
	for range 2000 {
		saved, added := some(), some()
		naive := make(map[[16]byte]entry)
		for _, e := range slices.Concat(saved, added) {
			naive[e.key] = e
		}
		for key, e := range naive {
			if e.day < today-60 {
				delete(naive, key)
			}
		}
		got := merge(saved, added, today)
		if len(got) != len(naive) || !slices.IsSortedFunc(got, func(a, b entry) int { return bytes.Compare(a.key[:], b.key[:]) }) {
			t.Fatalf("%v and %v: %v, want %v", saved, added, got, naive)
		}
		for _, e := range got {
			if naive[e.key] != e {
				t.Fatalf("%v and %v: %v, want %v", saved, added, got, naive)
			}
		}
	}
	many := make([]entry, maxFiles)
	for i := range many {
		many[i].key = [16]byte{byte(i >> 16), byte(i >> 8), byte(i)}
		many[i].day = today
	}
	got := merge(many, []entry{{key: [16]byte{255}, day: today}}, today)
	if len(got) != maxFiles || int64(len(encode(got))) > maxSize {
		t.Errorf("%d entries", len(got))
	}
}

// A used checksum is not forgotten, an unused one is.
func TestUse(t *testing.T) {
	p := newPlace(t)
	p.learn(md5)
	for days, want := range []string{0: "", 7: "", 8: "saved"} {
		c := p.open()
		c.today = c.known[0].day + uint16(days)
		if c.File("a.csv", p.info()).Has(md5); (len(c.added) > 0) != (want != "") {
			t.Errorf("after %d days: %d entries to save", days, len(c.added))
		}
	}
	old := time.Now().Add(-61 * 24 * time.Hour)
	draft := filepath.Join(p.state, "x.draft")
	if err := errors.Join(os.WriteFile(draft, nil, 0o600), os.Chtimes(draft, old, old), os.Chtimes(p.cache()[:strings.Index(p.cache()+" ", " ")], old, old)); err != nil {
		t.Fatal(err)
	}
	if p.knows(md5) || p.cache() != "" {
		t.Errorf("after 61 days there is %s", p.cache())
	}
}

func TestETag(t *testing.T) {
	for text, kind := range map[string]string{
		`"0123456789abcdef0123456789abcdef"`: "md5", "0123456789ABCDEF0123456789ABCDEF-12": "md5-12",
		"": "", "0123": "", "0123456789abcdef0123456789abcdef-": "", "0123456789abcdef0123456789abcdef-x": "",
		"0123456789abcdef0123456789abcdef-0": "", "0123456789abcdef0123456789abcdef-99999": "",
	} {
		if got := ETag(text); got.Kind != kind {
			t.Errorf("%q is %q, want %q", text, got.Kind, kind)
		}
	}
	if got := Of(checksum.Sum{Name: "md5", Value: make([]byte, 16), PartSize: 8}); got.Kind != "md5@8" {
		t.Errorf("%q", got.Kind)
	}
}
