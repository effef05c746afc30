package main

import (
	"strings"
	"testing"

	"golang.org/x/mod/modfile"

	"github.com/seed-0f2c7998/perdure/tools/tree"
)

func TestPublishRefuses(t *testing.T) {
	const head = "module " + tree.Own + "/x\n\ngo 1.26\n\n"
	for _, tt := range []struct{ name, text, want string }{
		{"a replace", head + "replace " + tree.Own + " v0.1.0 => ../\n", "replace"},
		{"another version of ours", head + "require " + tree.Own + " v0.0.9\n", "v0.0.9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := modfile.Parse("go.mod", []byte(tt.text), nil)
			if err != nil {
				t.Fatal(err)
			}
			m := tree.Module{Path: tree.Own + "/x", Rel: "x", Dir: t.TempDir(), File: f}
			err = publish(t.Context(), t.TempDir(), m, "v0.1.0")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("publish with %s: error %v, want one that names %s", tt.name, err, tt.want)
			}
		})
	}
}
