package vet

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"
	"golang.org/x/tools/go/types/typeutil"
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

// A use is a call of Perdure that gets a policy.
type use struct {
	at    token.Pos  // of the call or, for a policy that is declared before a loop, of that loop
	stack []ast.Node // the nodes around the call; nil if it is in such a loop
}

// changes reports the changes after a use in body.
func changes(pass *analysis.Pass, body *ast.BlockStmt) {
	used := uses(pass, body)
	check := func(n ast.Node, policy ast.Expr) {
		if !is(named(pass.TypesInfo.TypeOf(policy)), retryPath, "Policy") {
			return
		}
		obj := object(pass, policy)
		for _, u := range used[obj] {
			if n.Pos() > u.at && u.reaches(n) && !replaced(pass, body, obj, u.at, n.Pos()) {
				pass.ReportRangef(n, "the policy is changed after its first use: a copy of it can be changed")
				return
			}
		}
	}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for _, to := range n.Lhs {
				if field, ok := ast.Unparen(to).(*ast.SelectorExpr); ok {
					check(to, field.X)
				}
				if n.Tok == token.ASSIGN && !isPolicyPointer(pass.TypesInfo.TypeOf(to)) {
					check(to, to)
				}
			}
		case *ast.CallExpr:
			if on, _ := receiver(pass, n); on != nil && calls(pass, n, retryPath, "Set") {
				check(n, on)
			}
		}
		return true
	})
}

// reaches reports whether the code after u comes to n: not if n is in another branch, nor if a branch around u alone
// leaves the function or the loop at its end.
func (u use) reaches(n ast.Node) bool {
	for i, outer := range u.stack {
		if contains(outer, n) {
			continue
		}
		var list []ast.Stmt
		switch branch := outer.(type) {
		case *ast.FuncLit:
			return true
		case *ast.BlockStmt:
			list = branch.List
		case *ast.CaseClause:
			list = branch.Body
		case *ast.CommClause:
			list = branch.Body
		default:
			continue
		}
		parent := u.stack[i-1]
		_, isIf := parent.(*ast.IfStmt)
		_, isBlock := outer.(*ast.BlockStmt)
		if (isIf || !isBlock) && contains(parent, n) || len(list) > 0 && leaves(list[len(list)-1]) {
			return false
		}
	}
	return true
}

func contains(outer, n ast.Node) bool { return outer.Pos() <= n.Pos() && n.End() <= outer.End() }

// leaves reports whether the code after s is not reached from s.
func leaves(s ast.Stmt) bool {
	switch s := s.(type) {
	case *ast.ReturnStmt, *ast.BranchStmt:
		return true
	case *ast.ExprStmt:
		if call, ok := s.X.(*ast.CallExpr); ok {
			id, ok := call.Fun.(*ast.Ident)
			return ok && id.Name == "panic"
		}
	}
	return false
}

// replaced reports whether an assignment between from and to makes the pointer obj point to another policy.
func replaced(pass *analysis.Pass, body *ast.BlockStmt, obj types.Object, from, to token.Pos) (found bool) {
	if !isPolicyPointer(obj.Type()) {
		return false
	}
	ast.Inspect(body, func(n ast.Node) bool {
		if assign, ok := n.(*ast.AssignStmt); ok && from < assign.Pos() && assign.Pos() < to {
			for _, left := range assign.Lhs {
				_, name := left.(*ast.Ident)
				found = found || name && object(pass, left) == obj
			}
		}
		return true
	})
	return found
}

// uses returns the uses of each policy of body.
func uses(pass *analysis.Pass, body *ast.BlockStmt) map[types.Object][]use {
	found := map[types.Object][]use{}
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
		for _, arg := range policies(pass, call) {
			obj := object(pass, arg)
			if obj == nil {
				continue
			}
			u := use{at: call.Pos(), stack: slices.Clone(stack)}
			for _, outer := range stack {
				if isLoop(outer) && outside(obj, outer) {
					u = use{at: outer.Pos()}
					break
				}
			}
			found[obj] = append(found[obj], u)
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

// ofPerdure reports whether call hands policies to what makes calls with them.
func ofPerdure(pass *analysis.Pass, call *ast.CallExpr) bool {
	f, ok := typeutil.Callee(pass.TypesInfo, call).(*types.Func)
	if !ok || f.Pkg() == nil {
		return false
	}
	switch path, _ := strings.CutPrefix(f.Pkg().Path(), own); path {
	case "httpretry", "grpcretry", "awsretry", "sqlretry", "sqlretry/pgxretry", "hedge", "fallback":
		return true
	}
	return calls(pass, call, retryPath, "Do", "Value")
}

// policies returns the arguments of call that are pointers to policies, also those in the fields of a literal.
func policies(pass *analysis.Pass, call *ast.CallExpr) (found []ast.Expr) {
	for _, arg := range call.Args {
		if lit, ok := arg.(*ast.CompositeLit); ok {
			for _, elt := range lit.Elts {
				if field, ok := elt.(*ast.KeyValueExpr); ok && isPolicyPointer(pass.TypesInfo.TypeOf(field.Value)) {
					found = append(found, field.Value)
				}
			}
		} else if isPolicyPointer(pass.TypesInfo.TypeOf(arg)) {
			found = append(found, arg)
		}
	}
	return found
}

func isPolicyPointer(t types.Type) bool {
	_, pointer := t.(*types.Pointer)
	return pointer && is(named(t), retryPath, "Policy")
}
