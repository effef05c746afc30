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
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if (n.Op == token.EQL || n.Op == token.NEQ) && (isErrorText(pass, n.X) || isErrorText(pass, n.Y)) {
				report(n)
			}
		case *ast.SwitchStmt:
			if n.Tag != nil && isErrorText(pass, n.Tag) {
				report(n.Tag)
			}
		case *ast.CallExpr:
			if !calls(pass, n, "strings", "Contains", "HasPrefix", "HasSuffix", "EqualFold", "Index") && !calls(pass, n, "regexp", "MatchString") {
				return true
			}
			for _, arg := range n.Args {
				if isErrorText(pass, arg) {
					report(n)
				}
			}
		}
		return true
	})
}

// isErrorText reports whether e contains a call of the method Error of an error.
func isErrorText(pass *analysis.Pass, e ast.Expr) (found bool) {
	eachIn(e, func(call *ast.CallExpr) {
		sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
		if ok && sel.Sel.Name == "Error" && len(call.Args) == 0 && types.AssignableTo(pass.TypesInfo.TypeOf(sel.X), types.Universe.Lookup("error").Type()) {
			found = true
		}
	})
	return found
}
