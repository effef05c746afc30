//go:build integration && linux

package main

import (
	"os"
	"strings"
	"testing"
)

// TestInstallSaysWhere runs make install with a directory that is not in PATH, and with one that is.
func TestInstallSaysWhere(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		os.Getenv("PATH"):             "PATH does not contain " + dir,
		dir + ":" + os.Getenv("PATH"): "",
	} {
		out := run(t, []string{"GOWORK=", "GOBIN=" + dir, "PATH=" + path}, "make", "--no-print-directory", "-C", "../../..", "install")
		if !strings.Contains(out, "installed "+dir+"/perdure\n") || want == "" == strings.Contains(out, "PATH") || !strings.Contains(out, want) {
			t.Errorf("PATH=%s: %q, want %q", path, out, want)
		}
	}
}
