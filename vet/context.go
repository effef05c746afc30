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
			set := assignedIn(pass, a.body)
			ast.Inspect(a.body, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt, *ast.DeferStmt: // what outlives the attempt, and what cleans up after its timeout
					return false
				case *ast.CallExpr:
					for i, arg := range n.Args {
						if takesContext(pass, n, i) && mayWait(pass, n) && foreign(pass, a, set, arg) {
							pass.ReportRangef(arg, "the attempt's own context is not passed on: its timeout does not end this call")
						}
					}
					if name := contextless(pass, n); name != "" {
						pass.ReportRangef(n, "%s takes no context: the attempt's timeout does not end this call", name)
					}
				}
				return true
			})
		}
		return nil, nil
	},
}

// foreign reports whether e is a context that does not come from attempt a: a variable of outside that a does not set,
// that of something outside, as r.Context(), or a new one.
func foreign(pass *analysis.Pass, a attempt, set map[types.Object]bool, e ast.Expr) bool {
	if call, ok := ast.Unparen(e).(*ast.CallExpr); ok {
		if calls(pass, call, "context", "Background", "TODO") {
			return true
		}
		on, _ := receiver(pass, call)
		if on == nil || callee(call) != "Context" {
			return false
		}
		e = on
	}
	obj := object(pass, e)
	return outside(obj, a.kind) && outside(obj, a.body) && !set[obj]
}

// assignedIn returns the variables that an assignment below n sets.
func assignedIn(pass *analysis.Pass, n ast.Node) map[types.Object]bool {
	found := map[types.Object]bool{}
	ast.Inspect(n, func(n ast.Node) bool {
		if assign, ok := n.(*ast.AssignStmt); ok {
			for _, to := range assign.Lhs {
				found[object(pass, to)] = true
			}
		}
		return true
	})
	return found
}

// mayWait reports whether call may wait for something, or makes what does: it returns an error, something with an error,
// a context, a request or a command. Others take a value from the context, such as a logger.
func mayWait(pass *analysis.Pass, call *ast.CallExpr) bool {
	f, ok := pass.TypesInfo.TypeOf(call.Fun).(*types.Signature)
	if !ok || calls(pass, call, "context", "WithoutCancel", "Cause") {
		return false
	}
	for v := range f.Results().Variables() {
		t := v.Type()
		if is(named(t), "os/exec", "Cmd") || is(named(t), "net/http", "Request") || isError(t) {
			return true
		}
		if m, _, _ := types.LookupFieldOrMethod(t, true, nil, "Err"); m != nil {
			return true
		}
	}
	return false
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
