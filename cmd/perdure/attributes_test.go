package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// allAttributes are flags for each attribute, and what the store has of them.
var allAttributes, allStored = []string{
	"--content-type", "text/csv; charset=utf-8", "--content-encoding", "gzip", "--content-language", "de", "--content-disposition", `attachment; filename="a.csv"`,
	"--cache-control", "max-age=60", "--metadata", "Step=raw", "--metadata", "run=a=b", "--tag", "team=bikes + co/2", "--tag", "empty=",
}, map[string]string{
	"type": "text/csv; charset=utf-8", "encoding": "gzip", "language": "de", "disposition": `attachment; filename="a.csv"`,
	"cache": "max-age=60", "metadata step": "raw", "metadata run": "a=b", "tag team": "bikes + co/2", "tag empty": "",
}

// storedAttributes returns the attributes of an object, with its tags.
func storedAttributes(t *testing.T, client *s3.Client, bucket, key string) map[string]string {
	t.Helper()
	head, err := client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	got := map[string]string{
		"type": aws.ToString(head.ContentType), "encoding": aws.ToString(head.ContentEncoding), "language": aws.ToString(head.ContentLanguage),
		"disposition": aws.ToString(head.ContentDisposition), "cache": aws.ToString(head.CacheControl),
	}
	maps.DeleteFunc(got, func(_, value string) bool { return value == "" })
	for name, value := range head.Metadata {
		got["metadata "+name] = value
	}
	tags, err := client.GetObjectTagging(t.Context(), &s3.GetObjectTaggingInput{Bucket: &bucket, Key: &key})
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	for _, tag := range tags.TagSet {
		got["tag "+aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return got
}

// Every way to write an object sets the attributes that are given, with one request or in parts, from each kind of source.
func TestAttributesAreSet(t *testing.T) {
	s := startTestServers(t)
	if err := s.store.CreateBucket("other"); err != nil {
		t.Fatal(err)
	}
	second := secondStore(t, "bikes")
	across := []string{"--endpoint-url-dst", second.URL, "--profile-dst", "second"}
	dir := t.TempDir()
	small, large := filepath.Join(dir, "small.json"), filepath.Join(dir, "large.json")
	write(t, small, []byte("{}"))
	write(t, large, generated(9<<20))
	for _, key := range []string{"from/small.json", "from/large.json"} {
		content, _ := os.ReadFile(filepath.Join(dir, filepath.Base(key)))
		if err := s.store.Store("bikes", key, content); err != nil {
			t.Fatal(err)
		}
	}
	for what, row := range map[string]struct {
		store *s3test.Server
		args  []string
		key   string // with its bucket
	}{
		"a small file":      {s.store, []string{"copy", small, "s3://bikes/a"}, "bikes/a"},
		"a large file":      {s.store, []string{"copy", large, "s3://bikes/b"}, "bikes/b"},
		"a URL":             {s.store, []string{"copy", s.web.URL + "/whole.bin", "s3://bikes/c"}, "bikes/c"},
		"an object":         {s.store, []string{"copy", "s3://bikes/from/small.json", "s3://other/d"}, "other/d"},
		"an object, across": {second, append([]string{"copy", "s3://bikes/from/large.json", "s3://bikes/e"}, across...), "bikes/e"},
		"a directory":       {s.store, []string{"copy", "-r", dir, "s3://bikes/f"}, "bikes/f/large.json"},
		"sync up":           {s.store, []string{"sync", dir, "s3://bikes/g"}, "bikes/g/small.json"},
		"sync":              {s.store, []string{"sync", "s3://bikes/from", "s3://other/h"}, "other/h/small.json"},
		"sync across":       {second, append([]string{"sync", "s3://bikes/from", "s3://bikes/i"}, across...), "bikes/i/small.json"},
	} {
		row.store.Reset()
		code, log := inProcess(t, s, slices.Concat(row.args, allAttributes, []string{"--storage-class", "STANDARD_IA", "--acl", "bucket-owner-full-control"})...)
		if code != 0 {
			t.Errorf("%s: code %d: %s", what, code, log)
			continue
		}
		bucket, key, _ := strings.Cut(row.key, "/")
		if got := storedAttributes(t, (&testServers{store: row.store}).client(), bucket, key); !maps.Equal(got, allStored) {
			t.Errorf("%s: the object has %q, want %q", what, got, allStored)
		}
		begun := 0
		for _, r := range row.store.Requests() { // the server keeps neither
			if !slices.Contains([]string{"PutObject", "CreateMultipartUpload", "CopyObject"}, r.Operation) {
				continue
			}
			begun++
			if r.Header.Get("X-Amz-Storage-Class") != "STANDARD_IA" || r.Header.Get("X-Amz-Acl") != "bucket-owner-full-control" {
				t.Errorf("%s: %s has class %q and ACL %q", what, r.Operation, r.Header.Get("X-Amz-Storage-Class"), r.Header.Get("X-Amz-Acl"))
			}
		}
		if begun == 0 {
			t.Errorf("%s: no object was begun", what)
		}
	}
}

// Of an object, the attributes that are not given are kept, by the store's own copy and across stores; metadata and tags are
// replaced whole.
func TestOtherAttributesAreKept(t *testing.T) {
	s := startTestServers(t)
	second := secondStore(t, "bikes")
	file := filepath.Join(t.TempDir(), "x")
	write(t, file, []byte("x"))
	if code, log := inProcess(t, s, append([]string{"copy", file, "s3://bikes/from/x"}, allAttributes...)...); code != 0 {
		t.Fatal(log)
	}
	for n, row := range []struct {
		given  []string
		change func(map[string]string)
	}{
		{nil, func(map[string]string) {}},
		{[]string{"--content-type", "text/plain"}, func(m map[string]string) { m["type"] = "text/plain" }},
		{[]string{"--metadata", "x=y"}, func(m map[string]string) {
			delete(m, "metadata step")
			delete(m, "metadata run")
			m["metadata x"] = "y"
		}},
		{[]string{"--tag", "x=y"}, func(m map[string]string) {
			delete(m, "tag team")
			delete(m, "tag empty")
			m["tag x"] = "y"
		}},
	} {
		want := maps.Clone(allStored)
		row.change(want)
		for i, args := range [][]string{
			{"copy", "s3://bikes/from/x", "s3://bikes/a"},
			{"sync", "s3://bikes/from", fmt.Sprint("s3://bikes/to", n)},
			{"copy", "s3://bikes/from/x", "s3://bikes/a", "--endpoint-url-dst", second.URL, "--profile-dst", "second"},
		} {
			code, log := inProcess(t, s, append(args, row.given...)...)
			store, key := []*s3test.Server{s.store, s.store, second}[i], strings.TrimPrefix(args[2], "s3://bikes/")
			if i == 1 {
				key += "/x"
			}
			if got := storedAttributes(t, (&testServers{store: store}).client(), "bikes", key); code != 0 || !maps.Equal(got, want) {
				t.Errorf("%q with %q: code %d, %q, want %q\n%s", args, row.given, code, got, want, log)
			}
		}
	}
}

// A file that the store has is not copied again because its attributes differ, and keeps them.
func TestUnchangedFilesKeepTheirAttributes(t *testing.T) {
	s := startTestServers(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "x"), []byte("x"))
	for round, class := range []string{"a/b", "c/d"} {
		code, log := inProcess(t, s, "sync", dir, "s3://bikes/to", "--content-type", class)
		if code != 0 || !strings.Contains(log, fmt.Sprintf("%d skipped", round)) {
			t.Errorf("code %d: %s", code, log)
		}
	}
	if got := storedAttributes(t, s.client(), "bikes", "to/x")["type"]; got != "a/b" {
		t.Errorf("the type is %q, want that of the first sync", got)
	}
}

// An upload that was begun with other attributes is not resumed.
func TestResumedUploadHasTheLastAttributes(t *testing.T) {
	s := startTestServers(t)
	home := t.TempDir()
	file := filepath.Join(home, "large.bin")
	write(t, file, generated(20<<20))
	s.store.SetScript(func(r s3test.Request) s3test.Fault {
		if r.Query.Get("partNumber") == "3" {
			return s3test.InternalError()
		}
		return s3test.Fault{}
	})
	t.Setenv("PERDURE_JITTER", "0")
	run := func(class string) (int, string) {
		return inHome(t, s, home, "copy", file, "s3://bikes/large.bin", "--content-type", class, "--max-attempts", "1", "--parallel", "1", "--failure-threshold", "100")
	}
	if code, log := run("a/b"); code != 69 || !strings.Contains(log, "run the same command to resume") {
		t.Fatalf("code %d: %s", code, log)
	}
	if code, log := run("a/b"); code != 69 || !strings.Contains(log, "Resuming") {
		t.Fatalf("with the same: code %d: %s", code, log)
	}
	s.store.SetScript(nil)
	code, log := run("c/d")
	if got := storedAttributes(t, s.client(), "bikes", "large.bin")["type"]; code != 0 || got != "c/d" || !strings.Contains(log, "is copied from scratch: the earlier run has begun the upload with other attributes") {
		t.Errorf("code %d, type %q: %s", code, got, log)
	}
	if left := s.store.Uploads(); len(left) > 0 {
		t.Errorf("uploads are left: %v", left)
	}
}

// What the store would refuse, or what would be another header, is refused before any request.
func TestInvalidAttributes(t *testing.T) {
	s := startTestServers(t)
	file := filepath.Join(t.TempDir(), "x")
	write(t, file, []byte("x"))
	long := func(n int) string { return strings.Repeat("ä", n) }
	var tags []string
	for i := range 11 {
		tags = append(tags, "--tag", fmt.Sprint("t", i, "=v"))
	}
	for _, row := range []struct {
		want string // in the message
		args []string
	}{
		{"a media type", []string{"--content-type", "csv"}},
		{"a media type", []string{"--content-type", ""}},
		{"a media type", []string{"--content-type", "text/csv\r\nX-Evil: 1"}},
		{"names of encodings", []string{"--content-encoding", "gzip,,br"}},
		{"names of encodings", []string{"--content-encoding", "aws-chunked"}},
		{"language tags", []string{"--content-language", "de;q=1"}},
		{"printable ASCII", []string{"--content-disposition", "attachment; filename=ä"}},
		{"printable ASCII", []string{"--content-disposition", " inline"}},
		{"printable ASCII", []string{"--cache-control", "max-age=1\nX: y"}},
		{"at most 2048 bytes", []string{"--cache-control", strings.Repeat("a", 1500), "--content-disposition", strings.Repeat("a", 520)}},
		{"name=value, such", []string{"--metadata", "run"}},
		{"is not empty", []string{"--metadata", "run="}},
		{"with a name of letters", []string{"--metadata", "a b=c"}},
		{"with a name of letters", []string{"--metadata", "a\r\nb=c"}},
		{"with a name of letters", []string{"--metadata", "=c"}},
		{"without x-amz-meta-", []string{"--metadata", "X-Amz-Meta-a=c"}},
		{"printable ASCII", []string{"--metadata", "a=b\x00"}},
		{"printable ASCII", []string{"--metadata", "a=ü"}},
		{"once for each name", []string{"--metadata", "a=b", "--metadata", "A=c"}},
		{"at most 2048 bytes in all", []string{"--metadata", "a=" + strings.Repeat("x", 2000), "--metadata", "b=" + strings.Repeat("x", 47)}},
		{"at most 10 tags", tags},
		{"128 characters", []string{"--tag", long(129) + "=v"}},
		{"256 in the value", []string{"--tag", "v=" + long(257)}},
		{"letters, digits", []string{"--tag", "a&b=c"}},
		{"letters, digits", []string{"--tag", "a=b\n"}},
		{"does not begin with aws:", []string{"--tag", "AWS:x=y"}},
		{"name=value", []string{"--tag", "=y"}},
		{"once for each name", []string{"--tag", "a=b", "--tag", "a=c"}},
		{"did you mean public-read?", []string{"--acl", "public_read"}},
		{"in capitals: STANDARD_IA", []string{"--storage-class", "standard_ia"}},
		{"a storage class", []string{"--storage-class", "A B"}},
	} {
		code, log := inProcess(t, s, append([]string{"copy", file, "s3://bikes/x"}, row.args...)...)
		if flag := row.args[len(row.args)-2]; code != 64 || !strings.Contains(log, row.want) || !strings.Contains(log, " for "+flag+": must be ") {
			t.Errorf("%q: code %d, want 64 and %q: %s", row.args, code, row.want, log)
		}
	}
	for _, row := range [][]string{{"copy", "s3://bikes/x", file}, {"copy", file, file + "2"}, {"sync", "s3://bikes/x", t.TempDir()}, {"copy", "s3://bikes/x", "-"}} {
		if code, log := inProcess(t, s, append(row, "--acl", "private")...); code != 64 || !strings.Contains(log, `invalid value "private" for --acl: must be used with an object as DST`) {
			t.Errorf("%q: code %d: %s", row, code, log)
		}
	}
	if n := len(s.store.Requests()); n > 0 {
		t.Errorf("%d requests were sent", n)
	}
	for _, most := range [][]string{{"--metadata", "a=" + strings.Repeat("x", 1500)}, append(tags[:18:18], "--tag", strings.Repeat("x", 128)+"="+strings.Repeat("y", 256))} {
		if code, log := inProcess(t, s, append([]string{"copy", file, "s3://bikes/x"}, most...)...); code != 0 {
			t.Errorf("%q: code %d: %s", most, code, log)
		}
	}
}
