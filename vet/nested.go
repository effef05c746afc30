package vet

import (
	"go/ast"
	"go/types"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
)

// nested reports a retry around what retries by itself: retry.Do in retry.Do, an
// http.Client of httpretry, a client of the AWS SDK, or one of another library that
// retries, also if another package of the program has the client, or makes the call. Their
// attempts multiply: 5 x 5 requests for one.
var nested = &analysis.Analyzer{
	Name:      "perdurenested",
	Doc:       "report a retry around a client that retries",
	Requires:  []*analysis.Analyzer{inspect.Analyzer, attempts},
	FactTypes: []analysis.Fact{new(client), new(retrier)},
	Run: func(pass *analysis.Pass) (any, error) {
		n := nesting{pass, map[types.Object]bool{}}
		for n.findClients() || n.findRetriers() {
			continue // one that was found may lead to others
		}
		for _, a := range attemptsOf(pass) {
			if marksFinal(pass, a.body) {
				continue
			}
			eachIn(a.body, func(call *ast.CallExpr) {
				if what := n.retries(call); what != "" {
					pass.ReportRangef(call, "%s within a retry: attempts multiply; let one of the two retry", what)
				}
			})
		}
		return nil, nil
	},
}

// A client is a fact: a variable or a field holds an http.Client that retries, or a function
// returns one.
type client struct{}

// A retrier is a fact: a function retries, or calls what does.
type retrier struct{}

func (*client) AFact()  {}
func (*retrier) AFact() {}

// A nesting finds what retries in a package. The facts of other packages are known.
type nesting struct {
	pass    *analysis.Pass
	clients map[types.Object]bool // the variables, fields and functions of this package's clients
}

// retries says what a call retries by, or returns "".
func (n nesting) retries(call *ast.CallExpr) string {
	if calls(n.pass, call, retryPath, "Do", "Value") {
		return "a retry"
	}
	if isTx(n.pass, call) {
		return "a transaction that retries"
	}
	if f := called(n.pass, call); f != nil && n.pass.ImportObjectFact(f, new(retrier)) {
		return "a call of " + f.Name() + ", which retries,"
	}
	on, kind := receiver(n.pass, call)
	switch {
	case kind == nil || kind.Pkg() == nil:
		return ""
	case is(kind, "net/http", "Client") && n.isClient(on):
		return "a client of httpretry"
	case kind.Name() == "Client" && strings.HasPrefix(kind.Pkg().Path(), "github.com/aws/aws-sdk-go-v2/service/"):
		return "a client of the AWS SDK, which retries,"
	case is(kind, "github.com/hashicorp/go-retryablehttp", "Client"):
		return "a client of go-retryablehttp"
	}
	return ""
}

// findClients finds the variables and fields that are assigned an http.Client which retries,
// and the functions that return one. It reports whether it has found a new one.
func (n nesting) findClients() (more bool) {
	found := func(obj types.Object) {
		if obj == nil || n.clients[obj] {
			return
		}
		n.clients[obj], more = true, true
		if obj.Pkg() == n.pass.Pkg {
			n.pass.ExportObjectFact(obj, new(client))
		}
	}
	nodes := []ast.Node{(*ast.AssignStmt)(nil), (*ast.ValueSpec)(nil), (*ast.KeyValueExpr)(nil), (*ast.FuncDecl)(nil)}
	in(n.pass).Preorder(nodes, func(node ast.Node) {
		for to, value := range assigned(node) {
			if n.isClient(value) {
				found(object(n.pass, to))
			}
		}
		if f, ok := node.(*ast.FuncDecl); ok {
			inBody(f, func(node ast.Node) {
				if r, ok := node.(*ast.ReturnStmt); ok && len(r.Results) > 0 && n.isClient(r.Results[0]) {
					found(n.pass.TypesInfo.Defs[f.Name])
				}
			})
		}
	})
	return more
}

// findRetriers finds the functions that retry, except those that mark an error as one that is
// not retried. It reports whether it has found a new one.
func (n nesting) findRetriers() (more bool) {
	in(n.pass).Preorder([]ast.Node{(*ast.FuncDecl)(nil)}, func(node ast.Node) {
		f, _ := node.(*ast.FuncDecl)
		obj := n.pass.TypesInfo.Defs[f.Name]
		if n.pass.ImportObjectFact(obj, new(retrier)) || marksFinal(n.pass, f) {
			return
		}
		inBody(f, func(node ast.Node) {
			if call, ok := node.(*ast.CallExpr); ok && n.retries(call) != "" {
				n.pass.ExportObjectFact(obj, new(retrier))
				more = true
			}
		})
	})
	return more
}

// inBody visits the nodes of a function that run before it returns: not those of function
// literals and of go statements.
func inBody(f *ast.FuncDecl, visit func(ast.Node)) {
	if f.Body == nil {
		return
	}
	ast.Inspect(f.Body, func(node ast.Node) bool {
		switch node.(type) {
		case nil, *ast.FuncLit, *ast.GoStmt:
			return false
		}
		visit(node)
		return true
	})
}

// isClient reports whether e is an http.Client that retries, or makes one.
func (n nesting) isClient(e ast.Expr) bool {
	switch e := ast.Unparen(e).(type) {
	case *ast.CallExpr:
		f := called(n.pass, e)
		return calls(n.pass, e, httpPath, "Client") || f != nil && (n.clients[f] || n.pass.ImportObjectFact(f, new(client)))
	case *ast.UnaryExpr:
		return n.isClient(e.X)
	case *ast.CompositeLit:
		for _, elt := range e.Elts {
			field, ok := elt.(*ast.KeyValueExpr)
			if !ok || !is(named(n.pass.TypesInfo.TypeOf(e)), "net/http", "Client") {
				continue
			}
			if is(named(n.pass.TypesInfo.TypeOf(field.Value)), httpPath, "Transport") {
				return true
			}
		}
		return false
	}
	obj := object(n.pass, e)
	return obj != nil && (n.clients[obj] || n.pass.ImportObjectFact(obj, new(client)))
}

// marksFinal reports whether n marks an error as one that is not retried, as an attempt
// does which leaves the retry to its client.
func marksFinal(pass *analysis.Pass, n ast.Node) (found bool) {
	eachIn(n, func(call *ast.CallExpr) { found = found || calls(pass, call, retryPath, "Permanent", "Final") })
	return found
}
