package vet

import (
	"errors"
	"go/ast"
	"go/constant"
	"go/types"
	"reflect"
	"time"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// values reports a retry.Policy or a circuit.Config whose constant values are invalid. The
// verdict is that of Validate, and of Set for a constant name and text.
var values = &analysis.Analyzer{
	Name:     "perdurevalues",
	Doc:      "report a policy with an invalid constant value",
	Requires: []*analysis.Analyzer{inspect.Analyzer},
	Run: func(pass *analysis.Pass) (any, error) {
		completed := completed(pass)
		in(pass).Preorder([]ast.Node{(*ast.CompositeLit)(nil), (*ast.AssignStmt)(nil), (*ast.CallExpr)(nil)}, func(n ast.Node) {
			switch n := n.(type) {
			case *ast.CompositeLit:
				checkLiteral(pass, n, completed[n])
			case *ast.AssignStmt:
				checkAssignment(pass, n)
			case *ast.CallExpr:
				checkSet(pass, n)
				checkPreset(pass, n)
			}
		})
		return nil, nil
	},
}

// completed returns the literals that are assigned to a variable of which a field is assigned elsewhere.
func completed(pass *analysis.Pass) map[*ast.CompositeLit]bool {
	changed, found := map[types.Object]bool{}, map[*ast.CompositeLit]bool{}
	for assign := range inspector.All[*ast.AssignStmt](in(pass)) {
		for _, to := range assign.Lhs {
			if field, ok := ast.Unparen(to).(*ast.SelectorExpr); ok {
				changed[object(pass, field.X)] = true
			}
		}
	}
	in(pass).Preorder([]ast.Node{(*ast.AssignStmt)(nil), (*ast.ValueSpec)(nil), (*ast.KeyValueExpr)(nil)}, func(n ast.Node) {
		for to, value := range assigned(n) {
			if lit, ok := ast.Unparen(value).(*ast.CompositeLit); ok && changed[object(pass, to)] {
				found[lit] = true
			}
		}
	})
	return found
}

// checkLiteral validates a literal. A Config is validated if all its numbers are constant and none is set later, since
// the limits of one depend on others; those of a Policy do not.
func checkLiteral(pass *analysis.Pass, lit *ast.CompositeLit, completed bool) {
	kind := named(pass.TypesInfo.TypeOf(lit))
	var p retry.Policy
	var c circuit.Config
	switch {
	case is(kind, retryPath, "Policy"):
		fill(pass, reflect.ValueOf(&p).Elem(), lit)
		report(pass, lit, p.Validate())
	case is(kind, circuitPath, "Config") && !completed:
		if fill(pass, reflect.ValueOf(&c).Elem(), lit) {
			report(pass, lit, c.Validate())
		}
	}
}

// checkAssignment validates a constant that is assigned to a field of a Policy, or a Config whose other fields fit it.
func checkAssignment(pass *analysis.Pass, assign *ast.AssignStmt) {
	for to, value := range assigned(assign) {
		field, ok := ast.Unparen(to).(*ast.SelectorExpr)
		if !ok {
			continue
		}
		switch kind := named(pass.TypesInfo.TypeOf(field.X)); {
		case is(kind, retryPath, "Policy"):
			var p retry.Policy
			set(pass, reflect.ValueOf(&p).Elem().FieldByName(field.Sel.Name), value)
			report(pass, assign, p.Validate())
		case is(kind, circuitPath, "Config"):
			c := circuit.Config{
				RecoveryTimeout: time.Millisecond, OpenGrowth: 2,
				Window: time.Minute, FailureRatio: .5, SlowCall: time.Second, Rate: 1,
			}
			v := reflect.ValueOf(&c).Elem().FieldByName(field.Sel.Name)
			if set(pass, v, value) && v.IsValid() && !v.IsZero() {
				report(pass, assign, c.Validate())
			}
		}
	}
}

// checkPreset looks up a constant name of a preset.
func checkPreset(pass *analysis.Pass, call *ast.CallExpr) {
	if !calls(pass, call, retryPath, "Preset") || len(call.Args) != 1 {
		return
	}
	if name, ok := text(pass, call.Args[0]); ok {
		_, err := retry.Preset(name)
		report(pass, call, err)
	}
}

// checkSet tries a call of Set with constant arguments.
func checkSet(pass *analysis.Pass, call *ast.CallExpr) {
	_, kind := receiver(pass, call)
	if len(call.Args) != 2 || callee(call) != "Set" {
		return
	}
	name, ok := text(pass, call.Args[0])
	value, constant := text(pass, call.Args[1])
	switch {
	case !ok || !constant:
	case is(kind, retryPath, "Policy"):
		report(pass, call, new(retry.Policy).Set(name, value))
	case is(kind, circuitPath, "Config"):
		report(pass, call, new(circuit.Config).Set(name, value))
	}
}

// report reports err, if any, at n or at the field of a literal that it is about.
func report(pass *analysis.Pass, n ast.Node, err error) {
	if invalid := (*retry.ConfigError)(nil); errors.As(err, &invalid) {
		pass.ReportRangef(n, "%s", invalid.Error())
	}
}

// fill sets the fields of v whose values in lit are constant. It reports whether all
// numbers and texts are.
func fill(pass *analysis.Pass, v reflect.Value, lit *ast.CompositeLit) bool {
	all := true
	for _, elt := range lit.Elts {
		field, ok := elt.(*ast.KeyValueExpr)
		if !ok {
			return false
		}
		key, ok := field.Key.(*ast.Ident)
		if !ok {
			return false
		}
		all = set(pass, v.FieldByName(key.Name), field.Value) && all
	}
	return all
}

// set gives v the value of e. It reports whether that is known, or does not matter.
func set(pass *analysis.Pass, v reflect.Value, e ast.Expr) bool {
	if !v.IsValid() {
		return true // a field of another version of the library
	}
	if list, ok := ast.Unparen(e).(*ast.CompositeLit); ok && v.Kind() == reflect.Slice {
		return setList(pass, v, list)
	}
	c := pass.TypesInfo.Types[e].Value
	if c == nil {
		_, function := pass.TypesInfo.TypeOf(e).Underlying().(*types.Signature)
		return function || v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(constant.StringVal(c))
	case reflect.Bool:
		v.SetBool(constant.BoolVal(c))
	case reflect.Float64:
		f, _ := constant.Float64Val(c)
		v.SetFloat(f)
	case reflect.Int, reflect.Int64:
		i, _ := constant.Int64Val(constant.ToInt(c))
		v.SetInt(i)
	case reflect.Uint8:
		u, _ := constant.Uint64Val(constant.ToInt(c))
		v.SetUint(u)
	default:
		return false
	}
	return true
}

// setList gives v the constant strings of list.
func setList(pass *analysis.Pass, v reflect.Value, list *ast.CompositeLit) bool {
	var texts []string
	for _, elt := range list.Elts {
		s, ok := text(pass, elt)
		if !ok {
			return false
		}
		texts = append(texts, s)
	}
	if v.Type() == reflect.TypeFor[[]string]() {
		v.Set(reflect.ValueOf(texts))
	}
	return true
}
