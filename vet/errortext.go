package vet

import (
	"go/ast"
	"go/token"
	"go/types"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
)

// errorText reports a Policy.Classify that decides by the text of an error: texts change
// with versions and locales, and contain what others write.
var errorText = &analysis.Analyzer{
	Name:     "perdureerrortext",
	Doc:      "report a Classify that matches the text of an error",
	Requires: []*analysis.Analyzer{inspect.Analyzer},
	Run: func(pass *analysis.Pass) (any, error) {
		known := functions(pass)
		nodes := []ast.Node{(*ast.AssignStmt)(nil), (*ast.KeyValueExpr)(nil)}
		in(pass).Preorder(nodes, func(n ast.Node) {
			for to, value := range assigned(n) {
				if f, ok := function(pass, known, value); ok && isClassify(pass, to) {
					matchesText(pass, f.body)
				}
			}
		})
		return nil, nil
	},
}

// isClassify reports whether e is the field Classify of a retry.Policy.
func isClassify(pass *analysis.Pass, e ast.Expr) bool {
	field, ok := object(pass, e).(*types.Var)
	return ok && field.IsField() && field.Name() == "Classify" && field.Pkg().Path() == retryPath
}

// matchesText reports each comparison of an error's text below n.
func matchesText(pass *analysis.Pass, n ast.Node) {
	report := func(n ast.Node) {
		pass.ReportRangef(n, "the text of an error decides whether to retry: use errors.Is, errors.As, or a code")
	}
	texts := textsIn(pass, n)
	isErrorText := func(e ast.Expr) bool { return isErrorText(pass, texts, e) }
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if (n.Op == token.EQL || n.Op == token.NEQ) && (isErrorText(n.X) || isErrorText(n.Y)) {
				report(n)
			}
		case *ast.SwitchStmt:
			if n.Tag != nil && isErrorText(n.Tag) {
				report(n.Tag)
			}
		case *ast.CallExpr:
			if !calls(pass, n, "strings", "Contains", "HasPrefix", "HasSuffix", "EqualFold", "Index") && !calls(pass, n, "regexp", "MatchString") {
				return true
			}
			for _, arg := range n.Args {
				if isErrorText(arg) {
					report(n)
				}
			}
		}
		return true
	})
}

// textsIn returns the variables that are set to the text of an error below n.
func textsIn(pass *analysis.Pass, n ast.Node) map[types.Object]bool {
	texts := map[types.Object]bool{}
	ast.Inspect(n, func(n ast.Node) bool {
		for to, value := range assigned(n) {
			if obj := object(pass, to); obj != nil && isString(obj.Type()) && isErrorText(pass, texts, value) {
				texts[obj] = true
			}
		}
		return true
	})
	return texts
}

// isErrorText reports whether e contains a call of the method Error of an error, prints an error, or is one of texts.
func isErrorText(pass *analysis.Pass, texts map[types.Object]bool, e ast.Expr) (found bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			found = found || texts[pass.TypesInfo.Uses[n]]
		case *ast.CallExpr:
			sel, ok := ast.Unparen(n.Fun).(*ast.SelectorExpr)
			found = found || ok && sel.Sel.Name == "Error" && len(n.Args) == 0 && isError(pass.TypesInfo.TypeOf(sel.X))
			for _, arg := range n.Args {
				found = found || calls(pass, n, "fmt", "Sprint", "Sprintf", "Sprintln") && isError(pass.TypesInfo.TypeOf(arg))
			}
		}
		return true
	})
	return found
}

func isError(t types.Type) bool {
	return types.AssignableTo(t, types.Universe.Lookup("error").Type())
}

func isString(t types.Type) bool {
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsString != 0
}
