// Command isolated checks every module of the tree without the workspace, which hides a require that a go.mod lacks.
// The modules find each other through replaces in copies of their go.mod files, in a temporary directory; the tree is
// not written to.
//
// It tidies and vets each module, which compiles every package and test. It runs the tests of a module if they are
// built from other inputs than in the workspace: another version of a dependency, another default. Otherwise they are
// the tests that `make test` runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-0f2c7998/perdure/tools/tree"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, ".."); err != nil {
		fmt.Fprintln(os.Stderr, "isolated:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root string) (err error) {
	mods, err := tree.Modules(root)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "perdure-isolated-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()

	var failed []error
	for _, m := range mods {
		modfile, err := withReplaces(m, mods, filepath.Join(tmp, filepath.FromSlash(m.Rel)))
		if err == nil {
			err = check(ctx, m, modfile)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("module %s: %w", m.Rel, err))
		}
	}
	return errors.Join(failed...)
}

// check runs the go command on m without the other modules of the workspace.
func check(ctx context.Context, m tree.Module, modfile string) error {
	steps := [][]string{
		{"vet", "-tags=integration", "./..."},
	}
	if m.Published() {
		steps = append([][]string{{"mod", "tidy", "-diff"}}, steps...)
	}
	alone := append(os.Environ(), "GOWORK=off", "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -modfile="+modfile))
	built, err := parts(ctx, m, alone)
	if err != nil {
		return err
	}
	// A module outside the workspace has no parts in it.
	if together, err := parts(ctx, m, append(os.Environ(), "GOWORK=")); err == nil && together == built {
		fmt.Printf("%s: its tests are built as in the workspace\n", m.Rel)
	} else {
		steps = append(steps, []string{"test", "-timeout=20m", "./..."})
	}
	for _, step := range steps {
		fmt.Printf("%s: go %s\n", m.Rel, strings.Join(step, " "))
		cmd := exec.CommandContext(ctx, "go", step...)
		cmd.Dir, cmd.Env = m.Dir, alone
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("go %s: %w", step[0], err)
		}
	}
	return nil
}

// parts returns the inputs of the packages and tests of m, one a line: every package, the directory and the language
// version of its module, and the runtime's defaults of a program.
func parts(ctx context.Context, m tree.Module, env []string) (string, error) {
	const line = "{{.ImportPath}} {{.Dir}} {{with .Module}}{{.GoVersion}}{{end}} {{.DefaultGODEBUG}}"
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-test", "-f", line, "./...")
	cmd.Dir, cmd.Env = m.Dir, env
	var text strings.Builder
	cmd.Stderr = &text
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w\n%s", err, text.String())
	}
	lines := strings.Split(string(out), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n"), nil
}

// withReplaces writes m's go.mod, with every other module replaced by its directory, and its go.sum into dir.
func withReplaces(m tree.Module, mods []tree.Module, dir string) (name string, err error) {
	for _, other := range mods {
		if other.Path == m.Path {
			continue
		}
		if err := m.File.AddReplace(other.Path, "", other.Dir, ""); err != nil {
			return "", err
		}
	}
	text, err := m.File.Format()
	if err != nil {
		return "", err
	}
	sum, err := os.ReadFile(filepath.Join(m.Dir, "go.sum"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	name = filepath.Join(dir, "go.mod")
	return name, errors.Join(
		os.MkdirAll(dir, 0o700),
		os.WriteFile(name, text, 0o600),
		os.WriteFile(filepath.Join(dir, "go.sum"), sum, 0o600),
	)
}
