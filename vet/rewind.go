package vet

import (
	"go/ast"
	"go/types"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"
)

// rewind reports a reader that is made before the attempts, read by each, and not
// rewound: from the second attempt on it is empty, so a truncated body is sent. The same
// holds for a request with a body that is made before the attempts. Nothing is known of a
// reader of another package, such as os.Stdin.
var rewind = &analysis.Analyzer{
	Name:     "perdurerewind",
	Doc:      "report a reader that each attempt reads and none rewinds",
	Requires: []*analysis.Analyzer{inspect.Analyzer, attempts},
	Run: func(pass *analysis.Pass) (any, error) {
		bodies := requestsWithBody(pass)
		for _, a := range attemptsOf(pass) {
			rewound := rewinds(pass, a.body)
			eachIn(a.body, func(call *ast.CallExpr) {
				for i, arg := range call.Args {
					obj := object(pass, original(pass, arg))
					if !outside(obj, a.body) || obj.Pkg() != pass.Pkg || rewound[obj] {
						continue
					}
					switch {
					case takesReader(pass, call, i):
						pass.ReportRangef(arg, "%s is read by each attempt and not rewound: a retry finds it empty", obj.Name())
					case bodies[obj] && calls(pass, call, "net/http", "Do", "RoundTrip"):
						pass.ReportRangef(arg, "the body of %s is read by each attempt and not rewound: a retry sends it empty; make the request in the attempt", obj.Name())
					}
				}
			})
		}
		return nil, nil
	},
}

// takesReader reports whether parameter i of call is an io.Reader or an io.ReadCloser.
func takesReader(pass *analysis.Pass, call *ast.CallExpr, i int) bool {
	f, ok := pass.TypesInfo.TypeOf(call.Fun).(*types.Signature)
	return ok && i < f.Params().Len() && is(named(f.Params().At(i).Type()), "io", "Reader", "ReadCloser")
}

// rewinds returns the variables on which a call below n rewinds or refills: with Seek,
// Reset, or an assignment.
func rewinds(pass *analysis.Pass, n ast.Node) map[types.Object]bool {
	found := map[types.Object]bool{}
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			sel, ok := ast.Unparen(n.Fun).(*ast.SelectorExpr)
			if ok && (sel.Sel.Name == "Seek" || sel.Sel.Name == "Reset") {
				found[object(pass, sel.X)] = true
			}
		case *ast.AssignStmt:
			for _, to := range n.Lhs {
				found[object(pass, to)] = true
				if field, ok := to.(*ast.SelectorExpr); ok { // req.Body = ...
					found[object(pass, field.X)] = true
				}
			}
		}
		return true
	})
	return found
}

// requestsWithBody returns the variables that are assigned a request with a body.
func requestsWithBody(pass *analysis.Pass) map[types.Object]bool {
	found := map[types.Object]bool{}
	for assign := range inspector.All[*ast.AssignStmt](in(pass)) {
		call, ok := assign.Rhs[0].(*ast.CallExpr)
		if !ok || !calls(pass, call, "net/http", "NewRequest", "NewRequestWithContext") || len(call.Args) < 3 {
			continue
		}
		if body := call.Args[len(call.Args)-1]; !pass.TypesInfo.Types[body].IsNil() && !isNoBody(pass, body) {
			found[object(pass, assign.Lhs[0])] = true
		}
	}
	return found
}

func isNoBody(pass *analysis.Pass, e ast.Expr) bool {
	obj := object(pass, e)
	return obj != nil && obj.Pkg() != nil && obj.Pkg().Path() == "net/http" && obj.Name() == "NoBody"
}
