package perdure_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// onAClock holds the test files that may wait on the machine's clock, and the reason.
var onAClock = map[string]string{
	"internal/servertest/servertest.go":                   "it is what all tests use that wait for another process",
	"cmd/perdure/copy_gateway_integration_test.go":        "it kills a process at random moments",
	"cmd/perdure/copy_kill_test.go":                       "its server sends at a limited rate, so that processes can be killed during a copy",
	"cmd/perdure/copy_resume_test.go":                     "its server sends at a limited rate, so that processes can be stopped during a copy",
	"cmd/perdure/fleet_test.go":                           "its service is down for a time, and takes time, while many processes run",
	"cmd/perdure/outside_integration_test.go":             "its server sends slowly, for ever",
	"cmd/perdure/outside_kills_integration_test.go":       "it kills a process at random moments",
	"cmd/perdure/places_linux_test.go":                    "its server takes time, so that calls of many processes overlap",
	"cmd/perdure/proxy_figures_integration_linux_test.go": "it measures a process for two minutes, by make long",
	"cmd/perdure/run_orphans_linux_test.go":               "its orphans end by themselves",
	"examples/growth/growth_integration_linux_test.go":    "its server is late now and then, so that requests are hedged",
	"redisstore/proxy_test.go":                            "it delays what processes send to a server",
	"retry/call_test.go":                                  "it holds the loop of another client, which runs in bubbles",
	"awsretry/gatestorm_test.go":                          "its uploads arrive over time at real stores that slow down",
}

// waits are the functions of package time that make a test as slow as its clock, and fail it on a machine that is slower.
var waits = []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Sleep", "Tick"}

// TestNoTestWaitsOnAClock refuses the functions in waits, waits for nothing but the deadline of a context, and loops until
// an instant, in tests and their helpers, outside the bubbles of testing/synctest, where time costs nothing. It refuses
// short sleeps of shells, too.
func TestNoTestWaitsOnAClock(t *testing.T) {
	reasons := maps.Clone(onAClock)
	for _, files := range testPackages(t) {
		for name, places := range clockWaits(files) {
			delete(reasons, name)
			if onAClock[name] != "" {
				continue
			}
			for _, place := range places {
				t.Errorf("%s: a test that waits on the machine's clock is slow, and fails on a slower machine: use testing/synctest, wait for an event, or poll with servertest.Until", place)
			}
		}
	}
	eachFile(t, func(name string) {
		isScript := path.Ext(name) == ".txtar" || strings.Contains(name, "testdata/") && path.Ext(name) == ".sh"
		if !isScript && !strings.HasSuffix(name, "_test.go") {
			return
		}
		for _, place := range shortSleeps(name) {
			delete(reasons, name)
			if onAClock[name] == "" {
				t.Errorf("%s: a test waits for a sleep of less than %d s: wait for an event, or poll with \"do sleep\"; a program that stands for one that hangs sleeps longer", place, hangs)
			}
		}
	})
	for _, name := range slices.Sorted(maps.Keys(reasons)) {
		t.Errorf("%s waits on no clock any more: remove it from the list in clock_test.go", name)
	}
}

// hangs is the least number of seconds that a program sleeps which stands for one that hangs, and which a test kills.
const hangs = 10

var sleeps = regexp.MustCompile(`(do )?\bsleep["', ]+([0-9.]+)`)

// shortSleeps returns the lines of a file with a program sleep that a test waits for.
func shortSleeps(name string) (places []string) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil // gone since the walk
	}
	for i, line := range strings.Split(string(text), "\n") {
		for _, sleep := range sleeps.FindAllStringSubmatch(line, -1) {
			seconds, err := strconv.ParseFloat(sleep[2], 64)
			if err == nil && seconds < hangs && sleep[1] == "" {
				places = append(places, name+":"+strconv.Itoa(i+1))
			}
		}
	}
	return places
}

type testFile struct {
	name string
	*ast.File
	*token.FileSet
}

// testPackages returns the test files of each package, and the files of the packages for tests.
func testPackages(t *testing.T) map[string][]testFile {
	t.Helper()
	packages := map[string][]testFile{}
	eachFile(t, func(name string) {
		dir := path.Dir(name)
		helper := strings.HasPrefix(dir, "internal/") && strings.HasSuffix(dir, "test")
		if path.Ext(name) != ".go" || strings.Contains(name, "testdata/") || !helper && !strings.HasSuffix(name, "_test.go") {
			return
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return // gone since the walk
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, text, 0)
		if err != nil {
			t.Error(err)
			return
		}
		pkg := dir + " " + f.Name.Name
		packages[pkg] = append(packages[pkg], testFile{name, f, fset})
	})
	return packages
}

// clockWaits returns the places in a directory's files that wait on the machine's clock, by file.
func clockWaits(files []testFile) map[string][]string {
	bubbles := map[string]bool{} // functions that are called in bubbles only, or call their argument in one
	for grew := true; grew; {
		grew = false
		for name := range inBubblesOnly(files, bubbles) {
			grew, bubbles[name] = grew || !bubbles[name], true
		}
	}
	found := map[string][]string{}
	for _, f := range files {
		others := map[ast.Node]bool{} // receives of a select that waits for something else as well
		eachNode(f, bubbles, func(n ast.Node, inBubble bool) {
			call, isSelector := n.(*ast.SelectorExpr)
			waits := isSelector && isName(call.X, "time") && slices.Contains(waits, call.Sel.Name)
			switch n := n.(type) {
			case *ast.SelectStmt:
				for _, c := range n.Body.List {
					if receive, ok := c.(*ast.CommClause).Comm.(*ast.ExprStmt); ok && len(n.Body.List) > 1 {
						others[receive.X] = true
					}
				}
			case *ast.ForStmt:
				waits = readsTheClock(n.Cond)
			case *ast.UnaryExpr:
				waits = n.Op == token.ARROW && !others[n] && isDeadline(n.X)
			}
			if waits && !inBubble {
				found[f.name] = append(found[f.name], f.Position(n.Pos()).String())
			}
		})
	}
	return found
}

// readsTheClock reports whether an expression calls time.Now, Since or Until.
func readsTheClock(e ast.Expr) (reads bool) {
	if e == nil {
		return false
	}
	ast.Inspect(e, func(n ast.Node) bool {
		call, ok := n.(*ast.SelectorExpr)
		reads = reads || ok && isName(call.X, "time") && slices.Contains([]string{"Now", "Since", "Until"}, call.Sel.Name)
		return !reads
	})
	return reads
}

// isDeadline reports whether e is the channel Done of a variable that context.WithTimeout or WithDeadline has returned.
func isDeadline(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok || named(call.Fun) != ".Done" {
		return false
	}
	ctx, ok := call.Fun.(*ast.SelectorExpr).X.(*ast.Ident)
	if !ok || ctx.Obj == nil {
		return false
	}
	assign, ok := ctx.Obj.Decl.(*ast.AssignStmt)
	if !ok {
		return false
	}
	from, ok := assign.Rhs[0].(*ast.CallExpr)
	return ok && (strings.HasPrefix(named(from.Fun), ".WithTimeout") || strings.HasPrefix(named(from.Fun), ".WithDeadline"))
}

// inBubblesOnly returns the functions to which no file refers outside a bubble, and those that run an argument in one.
// A method has a dot before its name: functions are told apart by their names alone.
func inBubblesOnly(files []testFile, bubbles map[string]bool) map[string]bool {
	refers := map[string]bool{} // whether all references are in bubbles
	refer := func(name string, inBubble bool) {
		all, seen := refers[name]
		refers[name] = inBubble && (all || !seen)
	}
	local := locals(files)
	var funcs []*ast.FuncDecl
	for _, f := range files {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				funcs = append(funcs, fn)
			}
		}
		eachNode(f, bubbles, func(n ast.Node, inBubble bool) {
			for _, e := range values(n) {
				if name := named(e); !local[name] {
					refer(name, inBubble)
				}
			}
			if call, ok := n.(*ast.CallExpr); ok {
				refer(named(call.Fun), inBubble)
			}
		})
	}
	only := map[string]bool{}
	for _, fn := range funcs {
		if refers[declared(fn)] || startsABubble(fn) {
			only[declared(fn)] = true
		}
	}
	return only
}

// locals returns the names of parameters and variables, which are functions only where they are called.
func locals(files []testFile) map[string]bool {
	names := map[string]bool{}
	for _, f := range files {
		ast.Inspect(f.File, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Field:
				for _, id := range n.Names {
					names[id.Name] = true
				}
			case *ast.AssignStmt:
				for _, e := range n.Lhs {
					names[named(e)] = names[named(e)] || n.Tok == token.DEFINE
				}
			}
			return true
		})
	}
	return names
}

// values returns the expressions of a node that may be functions, passed on or kept.
func values(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.CallExpr:
		return n.Args
	case *ast.CompositeLit:
		return n.Elts
	case *ast.KeyValueExpr:
		return []ast.Expr{n.Value}
	case *ast.AssignStmt:
		return n.Rhs
	case *ast.ReturnStmt:
		return n.Results
	case *ast.ValueSpec:
		return n.Values
	}
	return nil
}

// startsABubble reports whether a function that takes a function calls synctest.Test.
func startsABubble(fn *ast.FuncDecl) bool {
	return slices.ContainsFunc(fn.Type.Params.List, func(p *ast.Field) bool {
		_, ok := p.Type.(*ast.FuncType)
		return ok
	}) && hasBubble(fn)
}

func hasBubble(fn *ast.FuncDecl) (has bool) {
	ast.Inspect(fn, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		has = has || ok && isBubble(call)
		return !has
	})
	return has
}

// eachNode visits the nodes of a file but the names that declare functions, and says of each whether it is in a bubble:
// in an argument of synctest.Test or of a function that bubbles names, in the body of such a function, or in a table or
// local function of a test that has a bubble.
func eachNode(f testFile, bubbles map[string]bool, visit func(n ast.Node, inBubble bool)) {
	var walk func(n ast.Node, inBubble, table bool)
	walk = func(n ast.Node, inBubble, table bool) {
		ast.Inspect(n, func(n ast.Node) bool {
			switch n := n.(type) {
			case nil:
				return false
			case *ast.FuncDecl:
				if n.Body != nil {
					walk(n.Body, bubbles[declared(n)], hasBubble(n))
				}
				return false
			case *ast.CompositeLit:
				if table && !inBubble {
					walk(n, true, false)
					return false
				}
			case *ast.AssignStmt:
				if _, ok := n.Rhs[0].(*ast.FuncLit); ok && table && !inBubble {
					walk(n, true, false)
					return false
				}
			case *ast.CallExpr:
				if isBubble(n) || bubbles[named(n.Fun)] {
					visit(n, inBubble)
					for _, arg := range n.Args {
						walk(arg, true, false)
					}
					return false
				}
			}
			visit(n, inBubble)
			return true
		})
	}
	walk(f.File, false, false)
}

// named returns the name of the function, or with a dot before it of the method, that an expression may be.
func named(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return "." + e.Sel.Name
	}
	return ""
}

func declared(fn *ast.FuncDecl) string {
	if fn.Recv != nil {
		return "." + fn.Name.Name
	}
	return fn.Name.Name
}

func isBubble(call *ast.CallExpr) bool {
	f, ok := call.Fun.(*ast.SelectorExpr)
	return ok && isName(f.X, "synctest") && f.Sel.Name == "Test"
}

func isName(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}
