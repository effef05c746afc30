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
// retries. Their attempts multiply: 5 x 5 requests for one.
var nested = &analysis.Analyzer{
	Name:     "perdurenested",
	Doc:      "report a retry around a client that retries",
	Requires: []*analysis.Analyzer{inspect.Analyzer, attempts},
	Run: func(pass *analysis.Pass) (any, error) {
		clients := retryingClients(pass)
		for _, a := range attemptsOf(pass) {
			if marksFinal(pass, a.body) {
				continue
			}
			eachIn(a.body, func(call *ast.CallExpr) {
				if what := retries(pass, clients, call); what != "" {
					pass.ReportRangef(call, "%s within a retry: attempts multiply; let one of the two retry", what)
				}
			})
		}
		return nil, nil
	},
}

// retries says what a call retries by, or returns "".
func retries(pass *analysis.Pass, clients map[types.Object]bool, call *ast.CallExpr) string {
	if calls(pass, call, retryPath, "Do", "Value") {
		return "a retry"
	}
	on, kind := receiver(pass, call)
	switch {
	case kind == nil || kind.Pkg() == nil:
		return ""
	case is(kind, "net/http", "Client") && clients[object(pass, on)]:
		return "a client of httpretry"
	case kind.Name() == "Client" && strings.HasPrefix(kind.Pkg().Path(), "github.com/aws/aws-sdk-go-v2/service/"):
		return "a client of the AWS SDK, which retries,"
	case is(kind, "github.com/hashicorp/go-retryablehttp", "Client"):
		return "a client of go-retryablehttp"
	}
	return ""
}

// retryingClients returns the variables and fields of the package that are assigned an
// http.Client which retries.
func retryingClients(pass *analysis.Pass) map[types.Object]bool {
	found := map[types.Object]bool{}
	nodes := []ast.Node{(*ast.AssignStmt)(nil), (*ast.ValueSpec)(nil), (*ast.KeyValueExpr)(nil)}
	in(pass).Preorder(nodes, func(n ast.Node) {
		for to, value := range assigned(n) {
			if obj := object(pass, to); obj != nil && isRetryingClient(pass, value) {
				found[obj] = true
			}
		}
	})
	return found
}

// isRetryingClient reports whether e makes an http.Client that retries.
func isRetryingClient(pass *analysis.Pass, e ast.Expr) bool {
	switch e := ast.Unparen(e).(type) {
	case *ast.CallExpr:
		return calls(pass, e, httpPath, "Client")
	case *ast.UnaryExpr:
		return isRetryingClient(pass, e.X)
	case *ast.CompositeLit:
		for _, elt := range e.Elts {
			field, ok := elt.(*ast.KeyValueExpr)
			if !ok || !is(named(pass.TypesInfo.TypeOf(e)), "net/http", "Client") {
				continue
			}
			if is(named(pass.TypesInfo.TypeOf(field.Value)), httpPath, "Transport") {
				return true
			}
		}
	}
	return false
}

// marksFinal reports whether n marks an error as one that is not retried, as an attempt
// does which leaves the retry to its client.
func marksFinal(pass *analysis.Pass, n ast.Node) (found bool) {
	eachIn(n, func(call *ast.CallExpr) { found = found || calls(pass, call, retryPath, "Permanent", "Final") })
	return found
}
