package endpoint

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

func TestParse(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ from, to, want string }{
		{"a.csv", "b.csv", "b.csv"},
		{"dir/a.csv", dir, filepath.Join(dir, "a.csv")},
		{"a.csv", "none/", filepath.Join("none", "a.csv")},
		{"-", "-", "-"},
		{"a.csv", "-", "-"},
		{"a.csv", "s3://b/k", "s3://b/k"},
		{"a.csv", "S3://b/k", "s3://b/k"},
		{"dir/a.csv", "s3://b", "s3://b/a.csv"},
		{"dir/a.csv", "s3://b/", "s3://b/a.csv"},
		{"dir/a.csv", "s3://b/p/", "s3://b/p/a.csv"},
		{"s3://b/p/k ?#%20.csv", dir, filepath.Join(dir, "k ?#%20.csv")},
		{"s3://b/p/k", "s3://b/q/", "s3://b/q/k"},
		{"http://h/p/a.csv?page=2#x", dir, filepath.Join(dir, "a.csv")},
		{"https://u:p@h/a%20b.csv?sig=s", "s3://b/", "s3://b/a b.csv"},
		{"./http://x", "x", "x"}, // a path, odd as it is
		{"x", "./s3:b", "./s3:b"},
		{"x", "s3", "s3"},
	} {
		_, to, err := Parse(c.from, c.to, false)
		if err != nil || to.String() != c.want {
			t.Errorf("Parse(%q, %q) goes to %v, %v; want %q", c.from, c.to, to, err, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ from, to, field string }{
		{"", "x", "SRC"},
		{"x", "", "DST"},
		{"ftp://h/x", "x", "SRC"},
		{"gs://b/x", "x", "SRC"},
		{"x", "file:///x", "DST"},
		{"https:/h/x", "x", "SRC"},
		{"x", "s3:b", "DST"},
		{"x", "S3:/b/x", "DST"},
		{"http://", "x", "SRC"},
		{"http:///x", "x", "SRC"},
		{"http://h:port/x", "x", "SRC"},
		{"s3://", "x", "SRC"},
		{"s3:///k", "x", "SRC"},
		{"s3://b", "x", "SRC"},
		{"s3://b/", "x", "SRC"},
		{"x", "https://h/x", "DST"},
		{"x", "s3://", "DST"},
		{"-", dir, "DST"},
		{"-", "s3://b/", "DST"},
		{"http://h", dir, "DST"},
		{"http://h/", dir, "DST"},
		{"http://h/..", dir, "DST"},
		{"http://h/..%2Fx", dir, ""},
		{"s3://b/..", dir, "DST"},
		{"s3://b/p/..", "s3://b/q/", "DST"},
		{"s3://b/k", "s3://b/k", "DST"},
		{"s3://b/k", "s3://b", "DST"},
		{"a\xff", "s3://b/", "DST"},
	} {
		_, to, err := Parse(c.from, c.to, false)
		bad, ok := errors.AsType[*setting.Error](err)
		switch {
		case c.field == "" && err == nil && !strings.Contains(to.String(), ".."):
		case !ok || bad.Field != c.field:
			t.Errorf("Parse(%q, %q) = %v, %v; want an error about %q", c.from, c.to, to, err, c.field)
		}
	}
}

// No text of a place shows its secrets.
func TestPlaceIsRedacted(t *testing.T) {
	for _, text := range []string{"https://me:hunter2@h/x", "http://h/x?X-Amz-Signature=hunter2&page=1"} {
		p, err := parse("SRC", text, func(s scheme) string { return s.source })
		if err != nil || strings.Contains(p.String(), "hunter2") {
			t.Errorf("%s shows as %s, %v", text, p, err)
		}
	}
	if _, err := parse("SRC", "ftp://me:hunter2@h/x", func(s scheme) string { return s.source }); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error shows a secret: %v", err)
	}
}
