package perdure_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The house rules that no compiler checks. Each failure says why the rule is there.

const own = "github.com/seed-0f2c7998/perdure"

// outside holds the modules that must not be in go.work, and the reason.
var outside = map[string]string{
	"bench": "the peers it measures would raise the versions that the command is built with",
	"tools": "the linters' requirements would raise the versions that the command is built with",

	"tools/publish": "the requirements of packages and pages would raise the versions that the command is built with",
}

// untagged modules are never published, so they may replace what they require.
var untagged = []string{"awsretry/clienttest", "bench", "examples", "tools", "tools/publish"}

// leaves know nothing of the project, so anything may import them.
var leaves = []string{
	".", "internal/bound", "internal/neterr", "internal/notify", "internal/private", "internal/record", "internal/redact", "internal/setting", "internal/spool", "internal/stall",
	"internal/unwrap", "internal/validator",
}

// mayImport holds, for each part of the house, the other parts that its code (not its tests) may import,
// besides the leaves. The arrows point one way:
// cmd -> sim, pipes, adapters -> httpretry -> retry -> circuit -> internal/cell.
var mayImport = map[string][]string{
	".":                      nil,
	"internal/bound":         nil,
	"internal/class":         nil,
	"internal/browsertest":   nil,
	"internal/errorspage":    {"circuit"},
	"internal/neterr":        {"internal/unwrap"},
	"internal/notify":        nil,
	"internal/private":       nil,
	"internal/record":        nil,
	"internal/redact":        nil,
	"internal/setting":       {".", "internal/redact"}, // a value that is refused may hold a secret
	"internal/shown":         nil,
	"internal/spool":         nil,
	"internal/stall":         {"internal/unwrap"},
	"internal/unwrap":        nil,
	"internal/upstream":      nil,
	"internal/validator":     nil,
	"internal/viaproxy":      {"internal/class"},
	"internal/pipesjson":     nil,
	"internal/pipestest":     {"internal/pipesjson"},
	"internal/testseed":      nil,
	"internal/secrettest":    nil,
	"internal/servertest":    nil,
	"internal/versitygwtest": {"internal/servertest"},
	"internal/cell":          {"internal/places"},
	"internal/gate":          {"internal/queue"},
	"internal/places":        {"internal/queue"},
	"internal/queue":         nil,
	"internal/checksum":      nil,
	"internal/latency":       nil,
	"internal/transfer":      {"internal/checksum"},
	"internal/getters":       {"internal/transfer"},
	"internal/seam":          {"internal/cell"},
	"internal/breakers":      {"circuit", "internal/seam"},
	"internal/calls":         {"circuit", "internal/seam", "retry"},
	"circuit":                {"internal/cell", "internal/class", "internal/gate", "internal/places", "internal/queue", "internal/seam"},
	"internal/meter":         {"circuit", "internal/class", "internal/seam"},
	"metrics":                {"circuit", "internal/class", "internal/meter", "retry"},
	"retry":                  {"circuit", "internal/breakers", "internal/class", "internal/meter", "internal/seam"},
	"fallback":               {"circuit", "retry", "internal/meter"},
	"retrytest":              {"internal/seam", "retry", "retrytest/chaos"},
	"retrytest/chaos":        nil,
	"hedge":                  {"internal/latency", "internal/meter", "retry"},
	"httpretry":              {"circuit", "internal/breakers", "internal/calls", "internal/checksum", "internal/getters", "internal/latency", "internal/meter", "internal/seam", "internal/shown", "internal/transfer", "internal/viaproxy", "retry"},
	"hoststore":              {"circuit", "internal/cell"},
	"internal/fleet":         {"circuit", "internal/cell", "internal/gate", "retry"},
	"internal/fleet/twin":    {"circuit", "internal/cell"},
	"internal/fleet/memory":  {"circuit", "internal/cell", "internal/fleet"},
	"internal/storetest":     {"circuit", "internal/breakers", "internal/cell", "internal/servertest"},
	"redisstore":             {"circuit", "internal/cell", "internal/fleet"},
	"awsretry":               {"circuit", "httpretry", "internal/breakers", "internal/calls", "internal/checksum", "internal/getters", "internal/transfer", "internal/viaproxy", "retry"},
	"otelretry":              {"circuit", "internal/meter", "metrics", "retry"},
	"grpcretry":              {"circuit", "internal/breakers", "internal/calls", "internal/meter", "internal/seam", "retry"},
	"sqlretry":               {"circuit", "retry"},
	"policy":                 {"circuit", "hoststore", "internal/upstream", "retry"},
	"vet":                    {"circuit", "retry"},
	"pipes":                  {"circuit", "internal/breakers", "internal/pipesjson", "retry"},
	"sim":                    {"circuit", "internal/breakers", "internal/cell", "internal/gate", "internal/seam", "retry"},
	"internal/livestorm":     {"sim"},
	"s3test":                 nil,
	"cmd/perdure":            {"*"},
	"bench":                  {"*"},
	"examples":               {"*"},
	"tools":                  nil,
	"tools/publish":          {"internal/browsertest"},

	"internal/neterr/neterrtest": {"internal/servertest"},
}

// A goMod is what the rules read of a go.mod or go.work file.
type goMod struct {
	Dir     string `json:"-"` // slash-separated, relative to the root
	Module  struct{ Path string }
	Require []struct{ Path, Version string }
	Replace []struct {
		Old, New struct{ Path, Version string }
	}
	Tool []struct{ Path string }
	Use  []struct{ DiskPath string }
}

func TestWorkspaceHoldsTheModules(t *testing.T) {
	work, mods := modules(t)
	var used []string
	for _, use := range work.Use {
		used = append(used, path.Clean(use.DiskPath))
	}
	for _, m := range mods {
		why, out := outside[m.Dir]
		switch in := slices.Contains(used, m.Dir); {
		case in && out:
			t.Errorf("go.work uses ./%s: take it out, %s", m.Dir, why)
		case !in && !out:
			t.Errorf("go.work does not use ./%s: `go test work` would pass over its tests", m.Dir)
		}
	}
}

func TestWorkspaceReplacesWhatItsModulesRequire(t *testing.T) {
	work, mods := modules(t)
	for _, m := range mods {
		if outside[m.Dir] != "" {
			continue
		}
		for _, req := range m.Require {
			if ownDir(req.Path) == "" {
				continue
			}
			if !replaces(work, req.Path, req.Version) {
				t.Errorf("%s/go.mod requires %s %s, go.work has no `replace %[2]s %[3]s => ./%s`: the go command would ask the network for a version that may not be published",
					m.Dir, req.Path, req.Version, ownDir(req.Path))
			}
		}
	}
}

func TestRootRequiresNothing(t *testing.T) {
	_, mods := modules(t)
	root := mods[0]
	if len(root.Require)+len(root.Replace)+len(root.Tool) > 0 {
		t.Errorf("the root go.mod has require %v, replace %v, tool %v: it must have none, because every user of the library would get them; what imports a third party is a module of its own",
			root.Require, root.Replace, root.Tool)
	}
}

func TestPublishedModulesReplaceNothing(t *testing.T) {
	_, mods := modules(t)
	for _, m := range mods {
		if len(m.Replace) > 0 && !slices.Contains(untagged, m.Dir) {
			t.Errorf("%s/go.mod replaces %v: `go install` refuses a command with a replace, and users of a library do not get it; go.work is its place", m.Dir, m.Replace)
		}
		if want := strings.TrimSuffix(own+"/"+m.Dir, "/."); m.Module.Path != want {
			t.Errorf("%s/go.mod names the module %s, want %s: the go command finds a nested module by its directory", m.Dir, m.Module.Path, want)
		}
	}
}

func TestImportsPointOneWay(t *testing.T) {
	eachGoFile(t, func(name string, f *ast.File) {
		from, ok := part(path.Dir(name))
		if !ok {
			t.Errorf("%s: its directory has no place in the house; give it one in mayImport", name)
			return
		}
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		for _, imp := range imports(f) {
			to, ok := part(ownDir(imp))
			if !ok || to == from || slices.Contains(leaves, to) && !slices.Contains(leaves, from) {
				continue
			}
			if allowed := mayImport[from]; !slices.Contains(allowed, to) && !slices.Contains(allowed, "*") {
				t.Errorf("%s imports %s: %s may import %v and the leaves %v; the arrows are cmd -> sim, pipes, adapters -> httpretry -> retry -> circuit -> internal/cell, so that each part can be read and tested without those above it",
					name, imp, from, allowed, leaves)
			}
		}
	})
}

func TestEachPartOfTheHouseExists(t *testing.T) {
	for dir := range mayImport {
		if _, err := os.Stat(filepath.FromSlash(dir)); err != nil {
			t.Errorf("mayImport has a part that does not exist: %v", err)
		}
	}
	for _, dir := range leaves {
		if _, ok := mayImport[dir]; !ok {
			t.Errorf("leaves has %s, which mayImport lacks", dir)
		}
	}
}

func TestRootModuleImportsStandardLibraryOnly(t *testing.T) {
	_, mods := modules(t)
	inRoot := func(dir string) bool {
		return !slices.ContainsFunc(mods[1:], func(m goMod) bool { return dir == m.Dir || strings.HasPrefix(dir, m.Dir+"/") })
	}
	eachGoFile(t, func(name string, f *ast.File) {
		if !inRoot(path.Dir(name)) {
			return
		}
		for _, imp := range imports(f) {
			first, _, _ := strings.Cut(imp, "/")
			dir := ownDir(imp)
			if imp == "C" || dir == "" && strings.Contains(first, ".") || dir != "" && !inRoot(dir) {
				t.Errorf("%s imports %q: the root module, its tests included, imports the standard library and its own packages only; what needs more is a module of its own", name, imp)
			}
		}
	})
}

// The core is part of programs that speak no HTTP: these packages would make each of them larger by megabytes.
func TestCoreIsSmall(t *testing.T) {
	deps := strings.Fields(string(goCommand(t, "list", "-deps", "./retry", "./circuit", "./hedge", "./fallback")))
	for _, heavy := range []string{"net/http", "crypto/tls", "crypto/x509", "database/sql", "encoding/xml", "testing"} {
		if slices.Contains(deps, heavy) {
			t.Errorf("package retry, circuit, hedge or fallback imports %s, directly or not: know its errors by their methods, or by the name of their type", heavy)
		}
	}
}

// Package chaos is part of services, and package retrytest of their tools: package testing would add its flags to them.
func TestFaultsComeWithoutTesting(t *testing.T) {
	if slices.Contains(strings.Fields(string(goCommand(t, "list", "-deps", "./retrytest", "./retrytest/chaos"))), "testing") {
		t.Error("package retrytest or chaos imports testing, directly or not: return errors and counts, which tests compare")
	}
}

func TestDirectoriesSayWhatTheyHold(t *testing.T) {
	vague := []string{"util", "utils", "common", "type", "types", "helper", "helpers", "pkg", "misc"}
	eachFile(t, func(name string) {
		for dir := range strings.SplitSeq(path.Dir(name), "/") {
			if slices.Contains(vague, dir) {
				t.Errorf("%s lies in %q: such a name says nothing and gathers everything; name the directory for what it does", name, dir)
			}
		}
	})
}

func TestPackagesHaveADoc(t *testing.T) {
	documented := map[string]bool{}
	eachGoFile(t, func(name string, f *ast.File) {
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		dir := path.Dir(name)
		first, _, _ := strings.Cut(f.Doc.Text(), "\n")
		if f.Name.Name == "main" {
			documented[dir] = documented[dir] || first != ""
			return
		}
		documented[dir] = documented[dir] || strings.HasPrefix(first, "Package "+f.Name.Name+" ")
	})
	for dir, ok := range documented {
		if !ok {
			t.Errorf("no file of ./%s starts with a package doc (`// Package %s ...`): it is the first thing that a reader of the package sees", dir, path.Base(dir))
		}
	}
}

func TestNoFileNamesARegistry(t *testing.T) {
	hosts := registryHosts(t)
	eachFile(t, func(name string) {
		text, err := os.ReadFile(filepath.FromSlash(name))
		if err != nil || bytes.IndexByte(text, 0) >= 0 {
			return // gone since the walk, or no text
		}
		for _, host := range hosts {
			if before, _, found := bytes.Cut(text, []byte(host)); found {
				t.Errorf("%s:%d names the host of a package registry: where modules come from is set where the project is built (GOPROXY)", name, 1+bytes.Count(before, []byte("\n")))
			}
		}
	})
}

// registryHosts returns the well-known hosts and those of this machine's GOPROXY.
// They are put together here so that this file does not name them.
func registryHosts(t *testing.T) []string {
	t.Helper()
	hosts := []string{"proxy." + "golang.org", "goproxy." + "io", "goproxy." + "cn", "registry." + "npmjs.org", "files." + "pythonhosted.org", "index." + "docker.io"}
	for proxy := range strings.FieldsFuncSeq(string(goCommand(t, "env", "GOPROXY")), func(r rune) bool { return r == ',' || r == '|' }) {
		u, err := url.Parse(strings.TrimSpace(proxy))
		if err != nil || u.Hostname() == "" || u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback() {
			continue
		}
		hosts = append(hosts, u.Host)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// modules returns go.work and every go.mod of the tree, the root's first.
func modules(t *testing.T) (work goMod, mods []goMod) {
	t.Helper()
	read := func(into *goMod, args ...string) {
		if err := json.Unmarshal(goCommand(t, args...), into); err != nil {
			t.Fatalf("go %v: %v", args, err)
		}
	}
	eachFile(t, func(name string) {
		if path.Base(name) == "go.mod" && !strings.Contains(name, "testdata/") {
			m := goMod{Dir: path.Dir(name)}
			read(&m, "mod", "edit", "-json", name)
			mods = append(mods, m)
		}
	})
	slices.SortFunc(mods, func(a, b goMod) int { return strings.Compare(a.Dir, b.Dir) })
	read(&work, "work", "edit", "-json", "go.work")
	return work, mods
}

func replaces(work goMod, modPath, version string) bool {
	for _, r := range work.Replace {
		if r.Old.Path == modPath && r.Old.Version == version && path.Clean(r.New.Path) == ownDir(modPath) {
			return true
		}
	}
	return false
}

func goCommand(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %v: %v", args, err)
	}
	return out
}

// ownDir returns the directory of one of our import paths, "" for any other.
func ownDir(importPath string) string {
	if importPath == own {
		return "."
	}
	dir, ok := strings.CutPrefix(importPath, own+"/")
	if !ok {
		return ""
	}
	return dir
}

// part returns the entry of mayImport that dir belongs to.
func part(dir string) (string, bool) {
	for d := dir; d != "." && d != ""; d = path.Dir(d) {
		if _, ok := mayImport[d]; ok {
			return d, true
		}
	}
	return ".", dir == "."
}

func imports(f *ast.File) (paths []string) {
	for _, spec := range f.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// eachGoFile parses every Go file of the tree up to its imports, whatever its build tags.
func eachGoFile(t *testing.T, visit func(name string, f *ast.File)) {
	t.Helper()
	eachFile(t, func(name string) {
		if path.Ext(name) != ".go" || strings.Contains(name, "testdata/") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.FromSlash(name), nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
			return
		}
		visit(name, f)
	})
}

// eachFile visits the files of the tree by slash-separated names, without .git and what make builds.
// A test that runs from a released module, which has no go.work, is skipped.
func eachFile(t *testing.T, visit func(name string)) {
	t.Helper()
	if _, err := os.Stat("go.work"); err != nil {
		t.Skip("not in the project's own tree (no go.work), nothing to check")
	}
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && name != ".":
			return nil // gone since the walk began: tests of other packages run beside these
		case err != nil:
			return err
		case d.IsDir() && (name == ".git" || name == "bin"):
			return fs.SkipDir
		case d.Type().IsRegular():
			visit(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
