package tree

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestPlace(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		rel    string
		size   int64
		want   string // below dir
		marker bool
	}{
		{"a.csv", 1, "a.csv", false},
		{"2024/01/a b.csv", 1, "2024/01/a b.csv", false},
		{"..a/b..", 1, "..a/b..", false},
		{"dir/", 0, "dir", true},
		{"", 0, "", true},
	} {
		path, marker, err := fileFor(dir, c.rel, c.size)
		if want := filepath.Join(dir, c.want); err != nil || path != want || marker != c.marker {
			t.Errorf("fileFor(%q, %d) = %q, marker %v, %v; want %q, %v", c.rel, c.size, path, marker, err, want, c.marker)
		}
	}
}

// No key leads out of the directory, or to a file that is none.
func TestPlaceRefuses(t *testing.T) {
	for _, rel := range []string{
		"../x", "a/../../x", "a/..", "..", ".", "./x", "a/./b", "/etc/passwd", "//x", "a//b", "a/", "", "../", "x\x00y",
	} {
		size := int64(1)
		if rel == "../" {
			size = 0
		}
		if path, marker, err := fileFor("dir", rel, size); err == nil {
			t.Errorf("fileFor(%q) = %q, marker %v; want an error", rel, path, marker)
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

// Of keys that would be one file none is copied, as nobody could say which; what
// would have to be both a file and a directory is the directory.
func TestClashes(t *testing.T) {
	for _, c := range []struct {
		keys    string
		fold    func(string) string
		refused string
	}{
		{"a b c/d", strings.Clone, ""},
		{"a A b", strings.Clone, ""},
		{"a A b", strings.ToLower, "a A"},
		{"a A b aa AA Aa", strings.ToLower, "a A aa AA Aa"},
		{"D/x d/X", strings.ToLower, "D/x d/X"},
		{"a a/b a/b/c ab", strings.Clone, "a a/b"},
		{"a a-b a/b", strings.Clone, "a"},
		{"A a/b", strings.ToLower, "A"},
		{"a a/", strings.Clone, "a"},
	} {
		var items []item
		for key := range strings.FieldsSeq(c.keys) {
			i := item{key: key, path: filepath.Join("dir", filepath.FromSlash(key)), marker: strings.HasSuffix(key, "/")}
			items = append(items, i)
		}
		clashes(items, c.fold)
		var refused []string
		for _, i := range items {
			if i.err != nil {
				refused = append(refused, i.key)
			}
		}
		if got := strings.Join(refused, " "); got != c.refused {
			t.Errorf("of %s are refused %q, want %q", c.keys, got, c.refused)
		}
	}
}
