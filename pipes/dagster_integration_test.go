//go:build integration

package pipes

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// releases are the current Dagster, and one in which a step's retry policy does
// not apply to a process that the step starts.
var releases = []string{"1.13.29", "1.10.10"}

// TestDagster lets the real Dagster run a program and read what it reports;
// the cases are in testdata/dagster_test.py.
func TestDagster(t *testing.T) {
	program := filepath.Join(t.TempDir(), "contract")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./internal/contract").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cases, err := filepath.Abs("testdata/dagster_test.py")
	if err != nil {
		t.Fatal(err)
	}
	for _, release := range releases {
		t.Run(release, func(t *testing.T) {
			dir := t.TempDir()
			python := exec.CommandContext(t.Context(), python(t, release), "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-W", "ignore", cases)
			python.Dir = dir
			python.Env = append(os.Environ(), "CONTRACT="+program, "EXAMPLE="+filepath.Join(filepath.Dir(cases), "..", "..", "examples", "dagster"), "DAGSTER_HOME="+dir, "DAGSTER_DISABLE_TELEMETRY=yes", "PYTHONDONTWRITEBYTECODE=1")
			out, err := python.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", lastLine(out))
		})
	}
}

func lastLine(out []byte) string {
	all := strings.Split(strings.TrimSpace(string(out)), "\n")
	return all[len(all)-1]
}

// python returns the interpreter of an environment that has that release. It
// is made once, in bin, and kept.
func python(t *testing.T, release string) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "bin", "venv-dagster-"+release))
	if err != nil {
		t.Fatal(err)
	}
	interpreter, complete := filepath.Join(dir, "bin", "python"), filepath.Join(dir, "complete")
	if _, err := os.Stat(complete); err == nil {
		return interpreter
	}
	for _, args := range [][]string{
		{"python3", "-m", "venv", "--clear", dir},
		{interpreter, "-m", "pip", "install", "-q", "--disable-pip-version-check", "dagster==" + release, "pytest"},
	} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("SKIPPED: Dagster %s can't be installed: %s: %v\n%s", release, strings.Join(args, " "), err, out)
		}
	}
	if err := os.WriteFile(complete, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return interpreter
}
