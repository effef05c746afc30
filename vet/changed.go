package vet

import (
	"go/ast"
	"go/token"
	"go/types"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"
)

// changed reports a field of a retry.Policy that is set after the Policy was used in the
// same function, or in a loop around that use: a Policy that is in use must not change.
var changed = &analysis.Analyzer{
	Name:     "perdurechanged",
	Doc:      "report a policy that is changed after its first use",
	Requires: []*analysis.Analyzer{inspect.Analyzer},
	Run: func(pass *analysis.Pass) (any, error) {
		for f := range inspector.All[*ast.FuncDecl](in(pass)) {
			if f.Body != nil {
				changes(pass, f.Body)
			}
		}
		return nil, nil
	},
}

// changes reports the changes after a use in body.
func changes(pass *analysis.Pass, body *ast.BlockStmt) {
	used := uses(pass, body)
	ast.Inspect(body, func(n ast.Node) bool {
		assign, ok := n.(*ast.AssignStmt)
		if !ok {
			return true
		}
		for _, to := range assign.Lhs {
			field, ok := ast.Unparen(to).(*ast.SelectorExpr)
			if !ok || !is(named(pass.TypesInfo.TypeOf(field.X)), retryPath, "Policy") {
				continue
			}
			if from, ok := used[object(pass, field.X)]; ok && assign.Pos() > from {
				pass.ReportRangef(to, "the policy is changed after its first use: a copy of it can be changed")
			}
		}
		return true
	})
}

// uses returns where each policy of body is first in use: where a call of Perdure gets
// it or, for one that is declared before a loop, where that loop begins.
func uses(pass *analysis.Pass, body *ast.BlockStmt) map[types.Object]token.Pos {
	found := map[types.Object]token.Pos{}
	var stack []ast.Node
	ast.Inspect(body, func(n ast.Node) bool {
		if n == nil {
			stack = stack[:len(stack)-1]
			return true
		}
		stack = append(stack, n)
		call, ok := n.(*ast.CallExpr)
		if !ok || !ofPerdure(pass, call) {
			return true
		}
		for _, arg := range call.Args {
			obj := object(pass, arg)
			if obj == nil || !isPolicyPointer(pass.TypesInfo.TypeOf(arg)) {
				continue
			}
			at := call.Pos()
			for _, outer := range stack {
				if isLoop(outer) && outside(obj, outer) {
					at = outer.Pos()
					break
				}
			}
			if first, ok := found[obj]; !ok || at < first {
				found[obj] = at
			}
		}
		return true
	})
	return found
}

func isLoop(n ast.Node) bool {
	switch n.(type) {
	case *ast.ForStmt, *ast.RangeStmt:
		return true
	}
	return false
}

// ofPerdure reports whether call hands a policy to what makes calls with it.
func ofPerdure(pass *analysis.Pass, call *ast.CallExpr) bool {
	return calls(pass, call, retryPath, "Do", "Value") || calls(pass, call, httpPath, "Client") || calls(pass, call, own+"awsretry", "Apply")
}

func isPolicyPointer(t types.Type) bool {
	_, pointer := t.(*types.Pointer)
	return pointer && is(named(t), retryPath, "Policy")
}
