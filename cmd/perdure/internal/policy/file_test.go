package policy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
)

// hostile are files that exhausted the memory, or the patience, of the program that had them read: by depth, by number,
// or by both at once. Each is to be refused in that line.
func hostile() map[string]int {
	grow := func(text string) string { return strings.Repeat(text, (longest-len("a: [["))/len(text)) }
	var stairs, list strings.Builder
	for i := range 1000 {
		stairs.WriteString(strings.Repeat(" ", i) + "a:\n")
		list.WriteString(strings.Repeat(" ", i) + "-\n")
	}
	bomb := "a0: &a0 [x]\n"
	for i := range 5000 {
		bomb += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i+1, i+1, i, i)
	}
	keys := ""
	for i := range 30_000 {
		keys += fmt.Sprintf("k%d: 1\n", i)
	}
	files := map[string]int{
		stairs.String(): 65, list.String(): 65, bomb[:min(len(bomb), longest)]: 1, keys: 21846,
		grow("--- 1\n"): 0, grow("- 1\n"): 0, "a: [" + grow("1,"): 1, "a: {" + grow("a: 1, "): 1, "a: \"" + grow("x\n"): 0,
		"\x1b[2J: 1": 1, "a: \xff": 1, "a: 1\nb: \x00": 2, "a: \u009b": 1,
	}
	for _, text := range []string{"[", "{", "[[{", "{a: ", "[{a: ", "- ", "? ", "- ? ", "&a ", "!a ", "*a ", "a: ", "<<: ", "[&a ", "[a, [b, ", "{? "} {
		files[strings.Repeat(text, 100)] = 1
		files[grow(text)] = 1
	}
	return files
}

// longest is how many bytes a file may have.
const longest = 1 << 20

// load reads a file with that text, and returns how many bytes were allocated for that.
func load(t *testing.T, path, text string) (allocated uint64, err error) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var source policy.Source
	if source, _, err = new(policy.Flags).Load([]string{"PERDURE_CONFIG=" + path}); err == nil {
		_, err = source.Settings("default")
	}
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, err
}

// enough is how much memory may be allocated for any file, in bytes.
const enough = 300 << 20

func TestHostileFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	for text, line := range hostile() {
		allocated, err := load(t, path, text)
		want := fmt.Sprintf("%s:%d", path, line)
		if line == 0 {
			want = path + ":"
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.40q of %d bytes: %.200v, want it refused at %s", text, len(text), err, want)
		}
		if allocated > enough {
			t.Errorf("%.40q of %d bytes: %d MiB allocated", text, len(text), allocated>>20)
		}
	}
}

// What is as large and as deep as a file may be is read.
func TestLargestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	const setting = "policy: {max_attempts: 7, retry_on: [timeout, 503]}\n"
	comment := "# " + strings.Repeat("x", 77) + "\n"
	full := setting + strings.Repeat(comment, (longest-len(setting))/len(comment))
	full += strings.Repeat(" ", longest-len(full))
	for _, row := range []struct{ name, text, want string }{
		{"1 MiB", full, ""},
		{"and a byte", full + " ", "larger than 1 MiB"},
		{"with a byte order mark", "\ufeff" + setting, ""},
		{"63 in one", "a: " + strings.Repeat("[", 63) + strings.Repeat("]", 63), "a is unknown"},
		{"64 in one", "a: " + strings.Repeat("[", 64) + strings.Repeat("]", 64), "nested too deep"},
		{"many of the same depth", setting + strings.Repeat("# [[[\n", 1000) + "circuit_breaker: {failure_threshold: 3}", ""},
		{"one after the other", "policy:\n  retry_on:\n" + strings.Repeat("  - 503\n", 2000), ""},
		{"in brackets", "policy: {retry_on: [" + strings.Repeat("503, ", 2000) + "503], max_attempts: 3}", ""},
		{"with anchors", "policy: {retry_on: [" + strings.Repeat("&a 503, ", 1000) + "503], max_attempts: 3}", "anchors, aliases and tags are not allowed"},
	} {
		_, err := load(t, path, row.text)
		if got := fmt.Sprint(err); (err != nil || row.want != "") && !strings.Contains(got, row.want) || row.want == "" && err != nil {
			t.Errorf("%s: %.200s, want %q", row.name, got, row.want)
		}
	}
}

// Whatever is in a file, reading it ends with settings or with an error that names the file.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{
		"", "policy:\n  max_attempts: 7\n", "policy: {preset: s3_upload, retry_on: [A, 503]}\nstore: memory\n",
		"policy:\n  max_attempts: 0\n", "policy: [1", "a: &b 1\nc: *b\n", "<<: {policy: 1}\n", "--- 1\n--- 2\n",
		"? [policy]\n: 1\n", "policy:\n  jitter: .inf\n", "circuit_breaker: ~\n", "policy: !!str x\n", "\xff\xfe", "- - -\n", "policy:\n\tname: x\n",
		"policy:\n  name: |\n    x\n",
	} {
		f.Add(seed)
	}
	for seed := range hostile() {
		if len(seed) < 1000 {
			f.Add(seed)
		}
	}
	path := filepath.Join(f.TempDir(), "policy.yaml")
	f.Fuzz(func(t *testing.T, text string) {
		allocated, err := load(t, path, text)
		switch {
		case err != nil && !strings.Contains(err.Error(), path) && !strings.Contains(err.Error(), " for --"):
			t.Errorf("%q: the error does not name the file: %v", text, err)
		case allocated > enough:
			t.Errorf("%d bytes: %d MiB allocated", len(text), allocated>>20)
		}
	})
}
