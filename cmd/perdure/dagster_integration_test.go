//go:build integration && linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestRealDagster lets the real Dagster run the command and read what it
// reports; the cases are in testdata/dagster.
func TestRealDagster(t *testing.T) {
	venvs := filepath.SplitList(os.Getenv("PERDURE_TEST_DAGSTER"))
	if len(venvs) == 0 {
		t.Skip("PERDURE_TEST_DAGSTER does not name Python environments with Dagster (`make integration` installs them)")
	}
	perdure := filepath.Join(t.TempDir(), "perdure")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", perdure, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cases, err := filepath.Abs("testdata/dagster/dagster_test.py")
	if err != nil {
		t.Fatal(err)
	}
	for _, venv := range venvs {
		t.Run(filepath.Base(venv), func(t *testing.T) {
			dir := t.TempDir()
			python := exec.CommandContext(t.Context(), filepath.Join(venv, "bin", "python"), "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-W", "ignore", cases)
			python.Dir = dir
			python.Env = append(os.Environ(), "PERDURE="+perdure, "PERDURE_STATE="+dir, "DAGSTER_HOME="+dir, "DAGSTER_DISABLE_TELEMETRY=yes", "PYTHONDONTWRITEBYTECODE=1")
			if out, err := python.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}
