package tree

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// The lines of a manifest are read by other programs, of other releases: the program that changes one says so in the changelog.
func TestGoldenManifest(t *testing.T) {
	for _, row := range []struct {
		entry Entry
		want  string
	}{
		{Entry{Path: "d/a", Key: "p/a", Bytes: 5, Checksum: "crc32:AAAAAA==", Action: Copied}, `{"path":"d/a","key":"p/a","bytes":5,"checksum":"crc32:AAAAAA==","action":"copied"}`},
		{Entry{Path: "d/a", Key: "p/a", Action: Skipped}, `{"path":"d/a","key":"p/a","bytes":0,"action":"skipped"}`},
		{Entry{Path: "d/a", Key: "p/a", Action: Linked}, `{"path":"d/a","key":"p/a","bytes":0,"action":"link"}`},
		{Entry{Key: "p/a", Action: Deleted}, `{"path":"","key":"p/a","bytes":0,"action":"deleted"}`},
		{Entry{Path: "d/a", Key: "p/a", Bytes: 5, Action: WouldCopy, Reason: otherSize}, `{"path":"d/a","key":"p/a","bytes":5,"action":"would copy","reason":"other size"}`},
		{Entry{Key: "p/..", Bytes: 1, Action: Failed, Error: "why"}, `{"path":"","key":"p/..","bytes":1,"action":"failed","error":"why"}`},
	} {
		if got, err := json.Marshal(row.entry); err != nil || string(got) != row.want {
			t.Errorf("%+v is\n%s, want\n%s (%v)", row.entry, got, row.want, err)
		}
	}
}

func TestLegal(t *testing.T) {
	for _, c := range []struct {
		part          string
		unix, windows bool
	}{
		{"a.csv", true, true},
		{"ä ö.csv", true, true},
		{`a\b`, true, false},
		{"C:", true, false},
		{"a?b", true, false},
		{"a.", true, false},
		{"a ", true, false},
		{"a\tb", true, false},
		{"a\x00b", false, false},
		{"", false, false},
		{"..", false, false},
	} {
		if err := legal(c.part, false); (err == nil) != c.unix {
			t.Errorf("legal(%q) = %v, want legal: %v", c.part, err, c.unix)
		}
		if err := legal(c.part, true); (err == nil) != c.windows {
			t.Errorf("legal(%q) on Windows = %v, want legal: %v", c.part, err, c.windows)
		}
	}
}

// No key leads out of the directory, or to a file that is none.
func TestKeysThatAreNoFiles(t *testing.T) {
	r := &run{Job: &Job{Tree: endpoint.Tree{Dir: t.TempDir()}}}
	for rel, want := range map[string]bool{
		"a.csv": true, "2024/01/a b.csv": true, "..a/b..": true,
		"../x": false, "a/../../x": false, "a/..": false, "..": false, ".": false, "./x": false, "a/./b": false, "/etc/passwd": false,
		"//x": false, "a//b": false, "a/": false, "": false, "../": false, "x\x00y": false,
	} {
		if err := r.legal(endpoint.Item{Rel: rel}); (err == nil) != want {
			t.Errorf("%q: %v, want legal: %v", rel, err, want)
		}
	}
	for rel, want := range map[string]bool{"dir/": true, "": true, "../": false, "a//": false} {
		if err := r.legal(endpoint.Item{Rel: rel, Dir: true}); (err == nil) != want {
			t.Errorf("the directory %q: %v, want legal: %v", rel, err, want)
		}
	}
}

func items(rels ...string) iter.Seq2[endpoint.Item, error] {
	return func(yield func(endpoint.Item, error) bool) {
		for _, rel := range rels {
			if !yield(endpoint.Item{Rel: rel, Dir: strings.HasSuffix(rel, "/")}, nil) {
				return
			}
		}
	}
}

// Of keys that would be one file none is copied, as it can't be said which; what would have to be both a file and a
// directory is the directory.
func TestClashes(t *testing.T) {
	for _, c := range []struct {
		keys    string
		fold    func(string) string
		refused string
	}{
		{"a b c/d", nil, ""},
		{"A a b", nil, ""},
		{"A a b", strings.ToLower, "A a"},
		{"A AA Aa a aa b", strings.ToLower, "A AA Aa a aa"},
		{"D/x d/X", strings.ToLower, "D/x d/X"},
		{"a a/b a/b/c ab", nil, "a a/b"},
		{"a a-b a/b", nil, "a"},
		{"a a-b a-b-c a. a/b a0 b", nil, "a"},
		{"A a/b", strings.ToLower, "A"},
		{"a a/", nil, "a"},
	} {
		var refused []string
		all := 0
		for i, err := range apart(items(strings.Fields(c.keys)...), c.fold) {
			if err != nil {
				t.Fatal(err)
			}
			if all++; i.Err != nil {
				refused = append(refused, i.Rel)
			}
		}
		slices.Sort(refused)
		if got := strings.Join(refused, " "); got != c.refused || all != len(strings.Fields(c.keys)) {
			t.Errorf("of %s are refused %q of %d, want %q", c.keys, got, all, c.refused)
		}
	}
}

// naive returns the keys that have to be refused.
func naive(keys []string) (refused []string) {
	for _, key := range keys {
		if slices.ContainsFunc(keys, func(other string) bool { return strings.HasPrefix(other, key+"/") }) {
			refused = append(refused, key)
		}
	}
	return refused
}

// Whatever the keys are, and in whatever order they are listed and how often, each comes once, and those are refused that
// would have to be directories: as far as the listing is in order.
func TestListings(t *testing.T) {
	seed := testseed.Of(t, 1)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		set := map[string]bool{}
		for range random.IntN(12) {
			var key strings.Builder
			for range 1 + random.IntN(5) {
				key.WriteByte("ab-./0"[random.IntN(6)])
			}
			set[strings.TrimRight(strings.ReplaceAll(key.String(), "//", "/"), "/")] = true
		}
		delete(set, "")
		keys := slices.Sorted(maps.Keys(set))
		listed := slices.Clone(keys)
		for range random.IntN(3) {
			if n := len(listed); n > 0 {
				i := random.IntN(n)
				listed = slices.Insert(listed, i, listed[i])
			}
		}
		shuffled := random.IntN(2) == 0
		if shuffled {
			random.Shuffle(len(listed), func(i, j int) { listed[i], listed[j] = listed[j], listed[i] })
		}
		var l listing
		var got, refused []string
		for i := range apart(l.ordered(items(listed...)), nil) {
			if got = append(got, i.Rel); i.Err != nil {
				refused = append(refused, i.Rel)
			}
		}
		slices.Sort(got)
		slices.Sort(refused)
		if !slices.Equal(got, keys) {
			t.Errorf("seed %d: of %q come %q", seed, listed, got)
		}
		if want := naive(keys); !slices.Equal(refused, want) && !shuffled {
			t.Errorf("seed %d: of %q are refused %q, want %q", seed, listed, refused, want)
		}
		var firsts []string
		for _, key := range listed {
			if !slices.Contains(firsts, key) {
				firsts = append(firsts, key)
			}
		}
		if want := !slices.IsSorted(firsts); l.disorder != want {
			t.Errorf("seed %d: of %q it says disorder %v, want %v", seed, listed, l.disorder, want)
		}
	}
}

// A directory is walked in the order of its keys, so that what is there is found in a listing as it comes; where that is
// out of order nothing is taken for missing that may come.
func TestWalkMeetsListing(t *testing.T) {
	seed := testseed.Of(t, 1)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		dir := t.TempDir()
		made := map[string]bool{}
		for range random.IntN(20) {
			rel := ""
			for range 1 + random.IntN(3) {
				rel = filepath.Join(rel, []string{"a", "a-", "a.b", "a0", "b", "B", ".x", "-"}[random.IntN(8)])
			}
			path := filepath.Join(dir, rel)
			if os.MkdirAll(filepath.Dir(path), 0o700) == nil && os.WriteFile(path, nil, 0o600) == nil {
				made[filepath.ToSlash(rel)] = true
			}
		}
		keys := slices.Sorted(maps.Keys(made))
		there := map[string]bool{}
		var listed []string
		for _, key := range append(keys, "aa", "zz") {
			if there[key] = random.IntN(3) > 0; there[key] {
				listed = append(listed, key)
			}
		}
		slices.Sort(listed)
		ordered := random.IntN(2) == 0
		if !ordered {
			random.Shuffle(len(listed), func(i, j int) { listed[i], listed[j] = listed[j], listed[i] })
		}
		m, err := newMerge(items(listed...))
		if err != nil {
			t.Fatal(err)
		}
		var walked []string
		err = files(t.Context(), dir, Fail, func(i endpoint.Item) bool {
			walked = append(walked, i.Rel)
			_, found, known, err := m.find(i.Rel)
			if err != nil || found && !there[i.Rel] || ordered && (found != there[i.Rel] || !known) {
				t.Errorf("seed %d: %s in %q: found %v, known %v, %v", seed, i.Rel, listed, found, known, err)
			}
			return true
		})
		m.stop()
		if err != nil || !slices.Equal(walked, keys) {
			t.Errorf("seed %d: walked through %q, want %q (%v)", seed, walked, keys, err)
		}
	}
}

// The error of a listing comes after what it had.
func TestListingThatBreaks(t *testing.T) {
	broken := errors.New("broken")
	list := func(yield func(endpoint.Item, error) bool) {
		_ = yield(endpoint.Item{Rel: "a"}, nil) && yield(endpoint.Item{Rel: "b"}, nil) && yield(endpoint.Item{}, broken)
	}
	var got []string
	for i, err := range apart(new(listing).ordered(list), nil) {
		got = append(got, fmt.Sprint(i.Rel, err))
	}
	if want := []string{"a<nil>", "b<nil>", "broken"}; !slices.Equal(got, want) {
		t.Errorf("it yields %q, want %q", got, want)
	}
}
