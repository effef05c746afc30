package vet

import (
	"go/ast"
	"go/types"
	"reflect"
	"slices"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"
	"golang.org/x/tools/go/types/typeutil"
)

const (
	own         = "github.com/seed-0f2c7998/perdure/"
	retryPath   = own + "retry"
	circuitPath = own + "circuit"
	httpPath    = own + "httpretry"
	sqlPath     = own + "sqlretry"
)

// An attempt is a function that a call of retry.Do, retry.Value, or a function Tx repeats.
type attempt struct {
	kind *ast.FuncType
	body *ast.BlockStmt
}

// attempts finds the attempts of a package, for the other passes.
var attempts = &analysis.Analyzer{
	Name:       "perdureattempts",
	Doc:        "find the functions that package retry repeats",
	Requires:   []*analysis.Analyzer{inspect.Analyzer},
	ResultType: reflect.TypeFor[[]attempt](),
	Run: func(pass *analysis.Pass) (any, error) {
		bodies := functions(pass)
		var found []attempt
		for call := range inspector.All[*ast.CallExpr](in(pass)) {
			if !calls(pass, call, retryPath, "Do", "Value") && !isTx(pass, call) || len(call.Args) < 3 {
				continue
			}
			if a, ok := function(pass, bodies, call.Args[len(call.Args)-1]); ok {
				found = append(found, a)
			}
		}
		return found, nil
	},
}

// functions returns the declared functions of the package, and the variables that one
// function literal is assigned to where they are declared.
func functions(pass *analysis.Pass) map[types.Object]attempt {
	found := map[types.Object]attempt{}
	in(pass).Preorder([]ast.Node{(*ast.FuncDecl)(nil), (*ast.AssignStmt)(nil), (*ast.ValueSpec)(nil)}, func(n ast.Node) {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Body != nil {
				found[pass.TypesInfo.Defs[n.Name]] = attempt{kind: n.Type, body: n.Body}
			}
		default:
			for name, value := range assigned(n) {
				id, ok := name.(*ast.Ident)
				lit, isLit := value.(*ast.FuncLit)
				if ok && isLit && pass.TypesInfo.Defs[id] != nil {
					found[pass.TypesInfo.Defs[id]] = attempt{kind: lit.Type, body: lit.Body}
				}
			}
		}
	})
	return found
}

// function returns the function that e is, if its body is known.
func function(pass *analysis.Pass, known map[types.Object]attempt, e ast.Expr) (attempt, bool) {
	switch e := ast.Unparen(e).(type) {
	case *ast.FuncLit:
		return attempt{kind: e.Type, body: e.Body}, true
	case *ast.Ident:
		a, ok := known[pass.TypesInfo.Uses[e]]
		return a, ok
	case *ast.SelectorExpr:
		a, ok := known[pass.TypesInfo.Uses[e.Sel]]
		return a, ok
	}
	return attempt{}, false
}

// assigned yields what an assignment, a declaration or a field of a literal assigns, and to what.
func assigned(n ast.Node) func(yield func(to, value ast.Expr) bool) {
	return func(yield func(to, value ast.Expr) bool) {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for i, to := range n.Lhs {
				if len(n.Lhs) == len(n.Rhs) && !yield(to, n.Rhs[i]) {
					return
				}
			}
		case *ast.ValueSpec:
			for i, to := range n.Names {
				if len(n.Names) == len(n.Values) && !yield(to, n.Values[i]) {
					return
				}
			}
		case *ast.KeyValueExpr:
			yield(n.Key, n.Value)
		}
	}
}

func in(pass *analysis.Pass) *inspector.Inspector {
	return result[*inspector.Inspector](pass, inspect.Analyzer)
}

func attemptsOf(pass *analysis.Pass) []attempt { return result[[]attempt](pass, attempts) }

// result returns the result of a pass that this one requires.
func result[T any](pass *analysis.Pass, of *analysis.Analyzer) T {
	v, ok := pass.ResultOf[of].(T)
	if !ok {
		panic("vet: " + pass.Analyzer.Name + " does not require " + of.Name)
	}
	return v
}

// eachIn visits the calls below n.
func eachIn(n ast.Node, visit func(*ast.CallExpr)) {
	ast.Inspect(n, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			visit(call)
		}
		return true
	})
}

// calls reports whether call is of one of the functions or methods of package pkg.
func calls(pass *analysis.Pass, call *ast.CallExpr, pkg string, names ...string) bool {
	f := called(pass, call)
	return f != nil && f.Pkg() != nil && f.Pkg().Path() == pkg && slices.Contains(names, f.Name())
}

// called returns the function or method that call calls, without its type arguments, or nil.
func called(pass *analysis.Pass, call *ast.CallExpr) *types.Func {
	f, ok := typeutil.Callee(pass.TypesInfo, call).(*types.Func)
	if !ok {
		return nil
	}
	return f.Origin()
}

// isTx reports whether call is of a transaction that is repeated.
func isTx(pass *analysis.Pass, call *ast.CallExpr) bool {
	return calls(pass, call, sqlPath, "Tx") || calls(pass, call, sqlPath+"/pgxretry", "Tx")
}

// receiver returns the expression and the named type that a method is called on.
func receiver(pass *analysis.Pass, call *ast.CallExpr) (ast.Expr, *types.TypeName) {
	sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
	if !ok || pass.TypesInfo.Selections[sel] == nil {
		return nil, nil
	}
	return sel.X, named(pass.TypesInfo.TypeOf(sel.X))
}

// named returns the name of a type or of what it points to, or nil.
func named(t types.Type) *types.TypeName {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	if n, ok := types.Unalias(t).(*types.Named); ok {
		return n.Obj()
	}
	return nil
}

// is reports whether name is that of a type of package pkg.
func is(name *types.TypeName, pkg string, names ...string) bool {
	return name != nil && name.Pkg() != nil && name.Pkg().Path() == pkg && slices.Contains(names, name.Name())
}

// object returns the variable or field that e is, through & and parentheses, or nil.
func object(pass *analysis.Pass, e ast.Expr) types.Object {
	switch e := ast.Unparen(e).(type) {
	case *ast.UnaryExpr:
		return object(pass, e.X)
	case *ast.StarExpr:
		return object(pass, e.X)
	case *ast.Ident:
		return pass.TypesInfo.ObjectOf(e)
	case *ast.SelectorExpr:
		return pass.TypesInfo.ObjectOf(e.Sel)
	}
	return nil
}

// outside reports whether the variable obj is declared outside of n.
func outside(obj types.Object, n ast.Node) bool {
	v, ok := obj.(*types.Var)
	return ok && (v.Pos() < n.Pos() || v.Pos() >= n.End())
}
