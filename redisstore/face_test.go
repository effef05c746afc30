package redisstore_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
)

// No public name of this package has a type of the client library, whose next
// major release would break the programs that use it.
func TestFaceIsOurs(t *testing.T) {
	set := token.NewFileSet()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			file, err := parser.ParseFile(set, name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
		}
	}
	p, err := doc.NewFromFiles(set, files, "github.com/seed-0f2c7998/perdure/redisstore")
	if err != nil {
		t.Fatal(err)
	}
	look := func(name string, in ast.Node) {
		ast.Inspect(in, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "rueidis" {
					t.Errorf("%s has a rueidis.%s", name, s.Sel.Name)
				}
			}
			return true
		})
	}
	names := 0
	for _, f := range p.Funcs {
		names++
		look(f.Name, f.Decl.Type)
	}
	for _, kind := range p.Types {
		names++
		look(kind.Name, kind.Decl)
		for _, f := range append(kind.Funcs, kind.Methods...) {
			names++
			look(kind.Name+", "+f.Name, f.Decl.Type)
		}
	}
	if names < 10 {
		t.Errorf("%d names were looked at", names)
	}
}
