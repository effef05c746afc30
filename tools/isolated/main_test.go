package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/tools/tree"
)

// A module's tests are run again if the workspace builds them from other inputs.
func TestPartsKnowWhatTheWorkspaceChanges(t *testing.T) {
	for _, c := range []struct {
		name, work, requires string
		same                 bool
	}{
		{"nothing", "go 1.26\nuse ./a\n", "", true},
		{"defaults of the runtime", "go 1.26\nuse ./a\ngodebug panicnil=1\n", "", false},
		{"another copy of a dependency", "go 1.26\nuse ./a\nuse ./b\n", "require example.org/b v0.0.0\nreplace example.org/b v0.0.0 => ../c\n", false},
		{"no place in it", "go 1.26\n", "", false},
	} {
		root := t.TempDir()
		for name, text := range map[string]string{
			"go.work":     c.work,
			"a/go.mod":    "module example.org/a\ngo 1.26\n" + c.requires,
			"a/a_test.go": "package a\nimport (\n\t_ \"example.org/b\"\n\t\"testing\"\n)\nfunc TestA(*testing.T) {}\n",
			"b/go.mod":    "module example.org/b\ngo 1.26\n",
			"b/b.go":      "package b\n",
			"c/go.mod":    "module example.org/b\ngo 1.26\n",
			"c/c.go":      "package b\n",
		} {
			if c.requires == "" {
				text = strings.Replace(text, "\t_ \"example.org/b\"\n", "", 1)
			}
			path := filepath.Join(root, filepath.FromSlash(name))
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		m := tree.Module{Rel: "a", Dir: filepath.Join(root, "a")}
		env := append(os.Environ(), "GOFLAGS=", "GOPROXY=off")
		alone, err := parts(t.Context(), m, append(env, "GOWORK=off"))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		together, err := parts(t.Context(), m, append(env, "GOWORK="))
		if same := err == nil && alone == together; same != c.same {
			t.Errorf("%s: the same parts is %v, want %v; %v\nalone:\n%s\ntogether:\n%s", c.name, same, c.same, err, alone, together)
		}
	}
}
