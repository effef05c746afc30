// Package tree lists the modules of the project's tree.
package tree

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// Own is the path of the root module; every other module's path is below it.
const Own = "github.com/seed-0f2c7998/perdure"

// A Module is one module of the tree.
type Module struct {
	Path string        // "github.com/seed-0f2c7998/perdure/awsretry"
	Rel  string        // "awsretry", "." for the root; slash-separated
	Dir  string        // absolute
	File *modfile.File // its go.mod
	Text []byte        // the same as written
}

// Published reports whether the module is ever tagged.
func (m Module) Published() bool {
	return !slices.Contains([]string{"bench", "examples", "tools", "tools/publish"}, m.Rel)
}

// Modules returns the modules below root, which holds go.work, by path.
func Modules(root string) ([]Module, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(root, "go.work")); err != nil {
		return nil, fmt.Errorf("%s is not the root of the tree: %w", root, err)
	}
	var mods []Module
	err = fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || name == "bin" || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if d.Name() != "go.mod" {
			return nil
		}
		m, err := read(root, path.Dir(name))
		mods = append(mods, m)
		return err
	})
	slices.SortFunc(mods, func(a, b Module) int { return strings.Compare(a.Path, b.Path) })
	return mods, err
}

func read(root, rel string) (Module, error) {
	m := Module{Rel: rel, Dir: filepath.Join(root, filepath.FromSlash(rel))}
	name := filepath.Join(m.Dir, "go.mod")
	text, err := os.ReadFile(name)
	if err != nil {
		return m, err
	}
	m.Text = text
	m.File, err = modfile.Parse(name, text, nil)
	if err != nil {
		return m, err
	}
	m.Path = m.File.Module.Mod.Path
	return m, nil
}
