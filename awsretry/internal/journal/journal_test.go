package journal_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/journal"
	"github.com/seed-0f2c7998/perdure/awsretry/internal/source"
)

// A process may be killed at any byte of the file: a later Open returns the parts of complete records, and never an
// error.
func TestCutAtEveryByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	j, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	head := journal.Head{Bucket: "bikes", Key: "hour.csv", Upload: "1", PartSize: 5 << 20}
	if err := j.Begin(head); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		if err := j.Add(journal.Part{Number: n, Size: 5 << 20, CRC: 7, ETag: `"x"`}); err != nil {
			t.Fatal(err)
		}
	}
	j.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) + 1 {
		text := string(whole[:n])
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := journal.Open(path)
		if err != nil {
			t.Errorf("cut after %q: %v", text, err)
			continue
		}
		lines := strings.Count(text, "\n")
		if len(j.Parts) != max(lines-1, 0) || (j.Head.Bucket == "bikes") != (lines > 0) {
			t.Errorf("cut after %d lines and %q: head %+v, %d parts", lines, text[strings.LastIndex(text, "\n")+1:], j.Head, len(j.Parts))
		}
		if lines == 0 {
			continue
		}
		// And another process resumes it.
		if err := j.Add(journal.Part{Number: 9, Size: 1}); err != nil {
			t.Fatal(err)
		}
		j.Close()
		if again, err := journal.Open(path); err != nil || len(again.Parts) != lines {
			t.Errorf("cut after %d lines and resumed: %d parts, %v, want %d", lines, len(again.Parts), err, lines)
		}
	}
}

func TestWhatIsSomethingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	for _, text := range []string{"x", "chapter 1\n", "{}\n", `{"format":"perdure-manifest-2"}` + "\n", `{"format":"other"`, "\n", strings.Repeat("\n", 17<<20)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := journal.Open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%.50q: %v, want an error that names the file", text, err)
		}
	}
	if _, err := journal.Open(t.TempDir()); err == nil {
		t.Error("a directory: no error")
	}
}

// Later versions read what this one writes: a change needs another Format.
func TestFormatIsTheOneOfItsName(t *testing.T) {
	golden := filepath.Join("testdata", journal.Format+".golden")
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("%v: a new format has a file of its own", err)
	}
	path := filepath.Join(t.TempDir(), "state")
	j, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	head := journal.Head{
		Endpoint: "http://localhost:9000", Bucket: "bikes", Key: "a/b", Upload: "u1", WriteID: "w1",
		PartSize: 5 << 20, Size: 11 << 20, CustomerKey: true, Attributes: "a1",
	}
	part := journal.Part{Number: 1, Size: 5 << 20, CRC: 0xfedcba98, ETag: `"e"`, Verified: true}
	if err := j.Begin(head); err != nil {
		t.Fatal(err)
	}
	if err := j.Add(part); err != nil {
		t.Fatal(err)
	}
	j.Close()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 999, 1000, 1124, 1125, 5000, 9999} {
		got = fmt.Appendf(got, "part %d of a stream: %d bytes\n", n, source.StreamGrowth().Part(source.MinPart, n))
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the state of an upload is now\n%s\nwhere %s has\n%s\nIf that is meant, raise the version in journal.Format, and write the file of its name.", got, golden, want)
	}
	text, _, _ := bytes.Cut(want, []byte("part 0"))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	head.Format = journal.Format
	if j, err = journal.Open(path); err != nil || j.Head != head || j.Parts[1] != part {
		t.Errorf("the file is read as %+v, %v; want %+v, %+v", j, err, head, part)
	}
	j.Close()
}
