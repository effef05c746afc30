package vet

import (
	"go/ast"
	"go/constant"
	"go/types"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"
	"golang.org/x/tools/go/types/typeutil"
)

// post reports a POST or PATCH that retry.Do repeats, and that has no Idempotency-Key: a
// server that processed it, and whose response was lost, processes it twice.
var post = &analysis.Analyzer{
	Name:     "perdurepost",
	Doc:      "report a POST or PATCH that is repeated without an idempotency key",
	Requires: []*analysis.Analyzer{inspect.Analyzer, attempts},
	Run: func(pass *analysis.Pass) (any, error) {
		built := posts(pass)
		for _, a := range attemptsOf(pass) {
			if hasKey(pass, built, a.body) {
				continue
			}
			eachIn(a.body, func(call *ast.CallExpr) {
				method := postMethod(pass, call)
				for _, arg := range call.Args {
					if obj := object(pass, original(pass, arg)); method == "" && outside(obj, a.body) && calls(pass, call, "net/http", "Do") {
						method = built.method[obj]
					}
				}
				if method != "" {
					pass.ReportRangef(call, "%s is repeated without an Idempotency-Key: the server may process it twice", method)
				}
			})
		}
		return nil, nil
	},
}

// original returns the request that e is a copy of by WithContext or Clone, or e.
func original(pass *analysis.Pass, e ast.Expr) ast.Expr {
	if call, ok := ast.Unparen(e).(*ast.CallExpr); ok && calls(pass, call, "net/http", "WithContext", "Clone") {
		if on, _ := receiver(pass, call); on != nil {
			return original(pass, on)
		}
	}
	return e
}

// requests are the POST and PATCH requests of a package that are assigned to a variable, and the requests and headers
// that are given a key.
type requests struct {
	method map[types.Object]string
	keyed  map[types.Object]bool
}

func posts(pass *analysis.Pass) requests {
	r := requests{map[types.Object]string{}, map[types.Object]bool{}}
	bodies := functions(pass)
	in(pass).Preorder([]ast.Node{(*ast.AssignStmt)(nil), (*ast.CallExpr)(nil)}, func(n ast.Node) {
		switch n := n.(type) {
		case *ast.AssignStmt:
			r.assign(pass, n)
		case *ast.CallExpr:
			if on := keyedHeader(pass, n); on != nil {
				r.key(pass, on)
			}
			for _, arg := range n.Args {
				if mayKey(pass, bodies, n) && is(named(pass.TypesInfo.TypeOf(arg)), "net/http", "Request", "Header") {
					r.key(pass, arg)
				}
			}
		}
	})
	for obj := range r.keyed {
		delete(r.method, obj)
	}
	return r
}

// assign records the request that n makes, or the key that n sets.
func (r *requests) assign(pass *analysis.Pass, n *ast.AssignStmt) {
	if call, ok := n.Rhs[0].(*ast.CallExpr); ok && len(n.Rhs) == 1 {
		if obj := object(pass, n.Lhs[0]); obj != nil && postMethod(pass, call) != "" {
			r.method[obj] = postMethod(pass, call)
		}
	}
	for _, to := range n.Lhs {
		switch to := to.(type) {
		case *ast.IndexExpr:
			if isKeyName(pass, to.Index) {
				r.key(pass, to.X)
			}
		case *ast.SelectorExpr:
			if to.Sel.Name == "Header" { // whatever is in it
				r.key(pass, to)
			}
		}
	}
}

// key records that a header, or that of a request, may have a key.
func (r *requests) key(pass *analysis.Pass, header ast.Expr) {
	if field, ok := ast.Unparen(header).(*ast.SelectorExpr); ok {
		header = field.X // the request, and not the field of all requests
	}
	if obj := object(pass, header); obj != nil {
		r.keyed[obj] = true
	}
}

// mayKey reports whether a function or method that gets a request or its header may set the key: all but those of
// net/http and its like, and those of the package whose body is known and sets none.
func mayKey(pass *analysis.Pass, bodies map[types.Object]attempt, call *ast.CallExpr) bool {
	f, ok := typeutil.Callee(pass.TypesInfo, call).(*types.Func)
	if !ok || f.Pkg() == nil {
		return true
	}
	if strings.HasPrefix(f.Pkg().Path(), "net/http") || f.Name() == "Do" || f.Name() == "RoundTrip" {
		return false
	}
	known, ok := bodies[f]
	return !ok || setsKey(pass, known.body)
}

// setsKey reports whether a key is set below n.
func setsKey(pass *analysis.Pass, n ast.Node) (found bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		if e, ok := n.(ast.Expr); ok {
			found = found || isKeyName(pass, e)
		}
		return true
	})
	return found
}

// postMethod returns POST or PATCH if call sends or builds such a request, or "".
func postMethod(pass *analysis.Pass, call *ast.CallExpr) string {
	at := -1
	switch {
	case calls(pass, call, "net/http", "Post", "PostForm"):
		return "POST"
	case calls(pass, call, "net/http", "NewRequest"):
		at = 0
	case calls(pass, call, "net/http", "NewRequestWithContext"):
		at = 1
	}
	if at < 0 || at >= len(call.Args) {
		return ""
	}
	if method, ok := text(pass, call.Args[at]); ok && slices.Contains([]string{"POST", "PATCH"}, method) {
		return method
	}
	return ""
}

// hasKey reports whether a request within n gets an idempotency key.
func hasKey(pass *analysis.Pass, built requests, n ast.Node) (found bool) {
	eachIn(n, func(call *ast.CallExpr) {
		found = found || keyedHeader(pass, call) != nil || calls(pass, call, httpPath, "Idempotent")
	})
	ast.Inspect(n, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			found = found || built.keyed[pass.TypesInfo.Uses[id]] && is(named(pass.TypesInfo.TypeOf(id)), "net/http", "Header", "Request")
		}
		return true
	})
	return found
}

// keyedHeader returns the header that call gives an idempotency key, or nil.
func keyedHeader(pass *analysis.Pass, call *ast.CallExpr) ast.Expr {
	on, kind := receiver(pass, call)
	if !is(kind, "net/http", "Header") || !calls(pass, call, "net/http", "Set", "Add") || len(call.Args) != 2 || !isKeyName(pass, call.Args[0]) {
		return nil
	}
	return on
}

// isKeyName reports whether e is the constant name of a header for an idempotency key.
func isKeyName(pass *analysis.Pass, e ast.Expr) bool {
	name, ok := text(pass, e)
	return ok && strings.HasSuffix(strings.ToLower(name), "idempotency-key")
}

// text returns the value of a constant string.
func text(pass *analysis.Pass, e ast.Expr) (string, bool) {
	v := pass.TypesInfo.Types[e].Value
	if v == nil || v.Kind() != constant.String {
		return "", false
	}
	return constant.StringVal(v), true
}

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
