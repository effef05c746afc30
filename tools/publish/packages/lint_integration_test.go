//go:build integration && linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDockerfileIsClean runs hadolint. The image itself is not built here.
func TestDockerfileIsClean(t *testing.T) {
	hadolint, err := filepath.Abs("../../../bin/hadolint/bin/hadolint")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(hadolint); err != nil {
		t.Skip("hadolint is not installed (`make integration` installs it from PyPI)")
	}
	run(t, nil, hadolint, "../../../Dockerfile")
}

// TestActionIsClean runs actionlint on a workflow that uses the action, and on one that uses it wrongly. The action itself
// is not run here; its script is parsed by bash.
func TestActionIsClean(t *testing.T) {
	action, err := os.ReadFile("../../../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	_, script, found := strings.Cut(string(action), "run: |\n")
	if !found {
		t.Fatal("action.yml has no script")
	}
	run(t, nil, "bash", "-n", "-c", script)
	for with, want := range map[string]string{"version: 0.1.0": "", "wheels: dist/perdure.whl": `input "wheels" is not defined`} {
		dir := t.TempDir()
		workflow := "on: push\njobs:\n  load:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n" +
			"      - id: perdure\n        uses: ./\n        with:\n          " + with + "\n      - run: echo \"${{ steps.perdure.outputs.version }}\"\n"
		for name, text := range map[string]string{".git/HEAD": "", ".github/workflows/load.yml": workflow, "action.yml": string(action)} {
			if err := save(filepath.Join(dir, name), []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		tool, err := exec.CommandContext(t.Context(), "go", "tool", "-n", "actionlint").Output() // without lines about downloads
		if err != nil {
			t.Fatal(err)
		}
		c := exec.CommandContext(t.Context(), strings.TrimSpace(string(tool)), "-no-color", "-shellcheck=", "-pyflakes=") //nolint:gosec // the tool that go.mod pins
		c.Dir = dir
		out, err := c.CombinedOutput()
		if want == "" && err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s\nwant %q", with, err, out, want)
		}
	}
}
