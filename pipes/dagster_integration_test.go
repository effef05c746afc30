//go:build integration

package pipes

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

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
	venvs := filepath.SplitList(os.Getenv("PERDURE_TEST_DAGSTER"))
	if len(venvs) == 0 {
		t.Skip("PERDURE_TEST_DAGSTER does not name Python environments with Dagster (`make integration` installs them)")
	}
	for _, venv := range venvs {
		t.Run(filepath.Base(venv), func(t *testing.T) {
			dir := t.TempDir()
			python := exec.CommandContext(t.Context(), filepath.Join(venv, "bin", "python"), "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-W", "ignore", cases)
			python.Dir = dir
			python.Env = append(os.Environ(), "CONTRACT="+program, "PYTHONPATH="+filepath.Join(filepath.Dir(cases), "..", "..", "python"), "DAGSTER_HOME="+dir, "DAGSTER_DISABLE_TELEMETRY=yes", "PYTHONDONTWRITEBYTECODE=1")
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
