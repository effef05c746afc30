package tree

import (
	"path/filepath"
	"testing"
)

func TestModulesOfThisTree(t *testing.T) {
	mods, err := Modules("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(mods) < 2 || mods[0].Path != Own || mods[0].Rel != "." || !mods[0].Published() {
		t.Fatalf("Modules = %+v, want the published root first and more after it", mods)
	}
	for _, m := range mods[1:] {
		if m.Path != Own+"/"+m.Rel || !filepath.IsAbs(m.Dir) {
			t.Errorf("module %+v: path and directory do not belong together", m)
		}
		if m.Rel == "tools" && m.Published() {
			t.Error("tools counts as published")
		}
	}
}

func TestModulesElsewhere(t *testing.T) {
	if mods, err := Modules(t.TempDir()); err == nil {
		t.Errorf("Modules of an empty directory = %v, want an error", mods)
	}
}
