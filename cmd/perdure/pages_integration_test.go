//go:build integration && unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommandsOfOtherTools runs the commands of the other tools that docs/from-other-tools.md shows, those that are
// installed, against the same servers as those of perdure.
func TestCommandsOfOtherTools(t *testing.T) {
	if venv := os.Getenv("PERDURE_TEST_BOTO3"); venv != "" {
		t.Setenv("PATH", filepath.Join(venv, "bin")+":"+os.Getenv("PATH"))
	}
	for _, tool := range []string{"curl", "aws", "rclone"} {
		t.Run(tool, func(t *testing.T) {
			if _, err := exec.LookPath(tool); err != nil {
				t.Skipf("%s is not installed", tool)
			}
			s, n := newPageShell(t), 0
			for _, row := range tableCommands(t) {
				if strings.HasPrefix(row[0], tool+" ") {
					s.run(t, row[0])
					n++
				}
			}
			if n < 5 {
				t.Errorf("the page has %d commands of %s", n, tool)
			}
		})
	}
}
