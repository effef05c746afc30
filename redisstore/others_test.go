//go:build integration

package redisstore_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// All tests pass with every server that the package names, not only with the
// one that is installed.
func TestOtherServers(t *testing.T) {
	for _, c := range []struct{ what, path, without string }{
		{"Redis 6.2", "PERDURE_TEST_REDIS62", "|TestTLS|TestAddresses"}, // which is built without TLS
		{"Valkey", "PERDURE_TEST_VALKEY", ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			path := os.Getenv(c.path)
			if path == "" {
				t.Skip("SKIPPED: " + c.path + " names no server: nothing is shown about " + c.what)
			}
			version, err := exec.CommandContext(t.Context(), path, "--version").Output()
			if err != nil {
				t.Fatal(err)
			}
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			tests := exec.CommandContext(t.Context(), self, "-test.skip", "Model|HostileReplies|TestOtherServers"+c.without, "-test.v")
			tests.Env = append(os.Environ(), "PERDURE_TEST_SERVER="+path)
			out, err := tests.CombinedOutput()
			passed := strings.Count(string(out), "--- PASS: ")
			if t.Logf("%s: %d tests passed", strings.TrimSpace(string(version)), passed); err != nil || passed < 30 {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
