package vet

import (
	"go/ast"
	"go/types"
	"path"

	"golang.org/x/tools/go/analysis"
)

// ownContext reports an attempt that calls something with another context than its own, or
// without one: the timeout of an attempt, and the loser of a hedge, do not end such a call.
var ownContext = &analysis.Analyzer{
	Name:     "perdurecontext",
	Doc:      "report an attempt whose context is not passed on",
	Requires: []*analysis.Analyzer{attempts},
	Run: func(pass *analysis.Pass) (any, error) {
		for _, a := range attemptsOf(pass) {
			eachIn(a.body, func(call *ast.CallExpr) {
				for i, arg := range call.Args {
					if isContext(pass.TypesInfo.TypeOf(arg)) && takesContext(pass, call, i) && outside(object(pass, arg), a.kind) && outside(object(pass, arg), a.body) {
						pass.ReportRangef(arg, "the attempt's own context is not passed on: its timeout does not end this call")
					}
				}
				if name := contextless(pass, call); name != "" {
					pass.ReportRangef(call, "%s takes no context: the attempt's timeout does not end this call", name)
				}
			})
		}
		return nil, nil
	},
}

func isContext(t types.Type) bool {
	return t != nil && is(named(t), "context", "Context")
}

// takesContext reports whether parameter i of the function that is called is a context.
func takesContext(pass *analysis.Pass, call *ast.CallExpr, i int) bool {
	f, ok := pass.TypesInfo.TypeOf(call.Fun).(*types.Signature)
	return ok && i < f.Params().Len() && isContext(f.Params().At(i).Type())
}

// contextless returns the name of the function that call is of, if it has a sibling that
// takes a context; or "".
func contextless(pass *analysis.Pass, call *ast.CallExpr) string {
	known := []struct {
		pkg, kind string
		names     []string
	}{
		{"net/http", "", []string{"Get", "Head", "Post", "PostForm", "NewRequest"}},
		{"net/http", "Client", []string{"Get", "Head", "Post", "PostForm"}},
		{"database/sql", "DB", []string{"Exec", "Query", "QueryRow", "Begin", "Ping", "Prepare"}},
		{"database/sql", "Tx", []string{"Exec", "Query", "QueryRow", "Prepare"}},
		{"database/sql", "Conn", []string{"Exec", "Query", "QueryRow"}},
		{"database/sql", "Stmt", []string{"Exec", "Query", "QueryRow"}},
		{"os/exec", "", []string{"Command"}},
		{"net", "", []string{"Dial", "DialTimeout"}},
	}
	_, kind := receiver(pass, call)
	for _, k := range known {
		if !calls(pass, call, k.pkg, k.names...) {
			continue
		}
		if k.kind == "" && kind == nil {
			return path.Base(k.pkg) + "." + callee(call)
		}
		if k.kind != "" && is(kind, k.pkg, k.kind) {
			return k.kind + "." + callee(call)
		}
	}
	return ""
}

func callee(call *ast.CallExpr) string {
	if sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr); ok {
		return sel.Sel.Name
	}
	return ""
}
