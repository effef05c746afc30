package perdure_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What users see: each public package shows nothing of an internal one.

const whyInternal = "no code outside this repository can name it or read its documentation: make it a type of this package, or keep it out of sight"

// A listed is what `go list` says of a package.
type listed struct {
	ImportPath, Name, Dir, Export string
	GoFiles                       []string
}

func (p listed) isPublic() bool {
	return ownDir(p.ImportPath) != "" && !isInternal(p.ImportPath) && p.Name != "main"
}

func isInternal(importPath string) bool {
	return ownDir(importPath) != "" && slices.Contains(strings.Split(importPath, "/"), "internal")
}

// TestFaceShowsNoInternalName reads declarations as go doc shows them.
func TestFaceShowsNoInternalName(t *testing.T) {
	for _, p := range packages(t) {
		if !p.isPublic() {
			continue
		}
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.FileExports(file) // and nothing else
			for _, found := range selections(file) {
				t.Errorf("%s: %s shows %s in a public declaration: %s", p.ImportPath, name, found, whyInternal)
			}
		}
	}
}

// TestFaceDocumentsWhatItTakesFromInside: a public variable whose value is that of an
// internal package, or of another one, has a comment of its own that begins with its
// name, as go doc shows nothing else that says what it means.
func TestFaceDocumentsWhatItTakesFromInside(t *testing.T) {
	seen := 0
	for _, p := range packages(t) {
		if !p.isPublic() {
			continue
		}
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for variable, doc := range taken(file) {
				seen++
				if !strings.HasPrefix(doc, variable+" ") {
					t.Errorf("%s.%s: %s gives it the value of another package: its comment must begin with its name and say what it means, got %q", p.ImportPath, variable, name, doc)
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("%d variables were looked at, want all", seen)
	}
}

// taken returns the exported variables of file whose value has a name of this
// project's other packages in it, each with its own comment.
func taken(file *ast.File) map[string]string {
	ours := importsOf(file, func(importPath string) bool { return ownDir(importPath) != "" })
	docs := map[string]string{}
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.VAR {
			continue
		}
		for _, spec := range gen.Specs {
			v := spec.(*ast.ValueSpec) //nolint:forcetypeassert // as of each var
			doc := v.Doc.Text()
			if !gen.Lparen.IsValid() {
				doc = gen.Doc.Text()
			}
			for i, name := range v.Names {
				if name.IsExported() && i < len(v.Values) && selects(v.Values[i], ours) {
					docs[name.Name] = doc
				}
			}
		}
	}
	return docs
}

// selections returns the names of internal packages in the declarations of file.
func selections(file *ast.File) (found []string) {
	internal := importsOf(file, isInternal)
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Recv != nil && !isExportedReceiver(f) {
			continue
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			found = append(found, selection(n, internal)...)
			gen, ok := decl.(*ast.GenDecl)
			_, isValue := n.(*ast.ValueSpec)
			_, isBody := n.(*ast.BlockStmt)
			isVariable := ok && isValue && gen.Tok == token.VAR // whose type is looked at below
			return !isBody && !isVariable
		})
	}
	return found
}

// importsOf returns the names by which file knows the packages that are wanted.
func importsOf(file *ast.File, wanted func(importPath string) bool) map[string]bool {
	names := map[string]bool{}
	for _, spec := range file.Imports {
		to, err := strconv.Unquote(spec.Path.Value)
		if err != nil || !wanted(to) {
			continue
		}
		name := to[strings.LastIndex(to, "/")+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = true
	}
	return names
}

// selection returns what n selects from one of those packages, if it does.
func selection(n ast.Node, packages map[string]bool) []string {
	sel, ok := n.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	if x, ok := sel.X.(*ast.Ident); ok && packages[x.Name] {
		return []string{x.Name + "." + sel.Sel.Name}
	}
	return nil
}

// selects reports whether something in n is of one of those packages.
func selects(n ast.Node, packages map[string]bool) (found bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		found = found || n != nil && len(selection(n, packages)) > 0
		return !found
	})
	return found
}

func isExportedReceiver(f *ast.FuncDecl) bool {
	exported := true
	ast.Inspect(f.Recv.List[0].Type, func(n ast.Node) bool {
		if name, ok := n.(*ast.Ident); ok {
			exported = name.IsExported()
			return false
		}
		return true
	})
	return exported
}

// TestFaceHasNoInternalType looks at the types themselves, through aliases and at the
// methods that an embedded type brings.
func TestFaceHasNoInternalType(t *testing.T) {
	all := packages(t)
	exports := map[string]string{}
	for _, p := range all {
		exports[p.ImportPath] = p.Export
	}
	imports := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})
	seen := 0
	for _, p := range all {
		if !p.isPublic() {
			continue
		}
		pkg, err := imports.Import(p.ImportPath)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range pkg.Scope().Names() {
			obj := pkg.Scope().Lookup(name)
			if !obj.Exported() {
				continue
			}
			seen++
			for _, fault := range faults(obj) {
				t.Errorf("%s.%s: %s", p.ImportPath, name, fault)
			}
		}
	}
	if seen < 100 {
		t.Errorf("%d names were looked at, want all", seen)
	}
}

// faults says what a user can reach from obj that is internal.
func faults(obj types.Object) (found []string) {
	add := func(where string, typ types.Type) {
		if name := internalIn(typ, map[types.Type]bool{}); name != "" {
			found = append(found, fmt.Sprintf("%s has the internal type %s: %s", where, name, whyInternal))
		}
	}
	name, isType := obj.(*types.TypeName)
	if !isType {
		add("it", obj.Type())
		return found
	}
	if name.IsAlias() {
		add("the alias", types.Unalias(name.Type()))
		return found
	}
	if s, ok := name.Type().Underlying().(*types.Struct); ok {
		for f := range s.Fields() {
			if f.Exported() {
				add("the field "+f.Name(), f.Type())
			}
		}
	} else if _, ok := name.Type().Underlying().(*types.Interface); !ok {
		add("it", name.Type().Underlying())
	}
	methods := types.NewMethodSet(types.NewPointer(name.Type()))
	if types.IsInterface(name.Type()) {
		methods = types.NewMethodSet(name.Type())
	}
	for m := range methods.Methods() {
		if f := m.Obj(); f.Exported() {
			add("the method "+f.Name(), f.Type())
			if len(m.Index()) > 1 && f.Pkg() != nil && isInternal(f.Pkg().Path()) {
				found = append(found, fmt.Sprintf("the method %s is that of an embedded internal type: users can call it, and cannot find its documentation", f.Name()))
			}
		}
	}
	return found
}

// internalIn returns the first internal type that typ is made of, or "".
func internalIn(typ types.Type, seen map[types.Type]bool) string {
	if seen[typ] {
		return ""
	}
	seen[typ] = true
	parts := []types.Type{}
	switch typ := typ.(type) {
	case *types.Alias:
		parts = append(parts, types.Unalias(typ))
	case *types.Named:
		if pkg := typ.Obj().Pkg(); pkg != nil && isInternal(pkg.Path()) {
			return typ.String()
		}
		for arg := range typ.TypeArgs().Types() {
			parts = append(parts, arg)
		}
	case *types.Signature:
		for v := range typ.Params().Variables() {
			parts = append(parts, v.Type())
		}
		for v := range typ.Results().Variables() {
			parts = append(parts, v.Type())
		}
	case *types.Map:
		parts = append(parts, typ.Key(), typ.Elem())
	case interface{ Elem() types.Type }: // pointers, slices, arrays, channels
		parts = append(parts, typ.Elem())
	case *types.Struct:
		for f := range typ.Fields() {
			parts = append(parts, f.Type())
		}
	}
	for _, part := range parts {
		if name := internalIn(part, seen); name != "" {
			return name
		}
	}
	return ""
}

// packages returns the packages of the workspace and all that they import.
func packages(t *testing.T) (all []listed) {
	t.Helper()
	if _, err := os.Stat("go.work"); err != nil {
		t.Skip("not in the project's own tree (no go.work), nothing to check")
	}
	out := json.NewDecoder(strings.NewReader(string(goCommand(t, "list", "-export", "-deps", "-json=ImportPath,Name,Dir,Export,GoFiles", "work"))))
	for {
		var p listed
		if err := out.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
