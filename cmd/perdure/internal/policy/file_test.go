package policy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
)

// Whatever is in a file, reading it ends with settings or with an error that names the file.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{
		"", "policy:\n  max_attempts: 7\n", "policy: {preset: s3_upload, retry_on: [a, 503]}\nstore: memory\n",
		"policy:\n  max_attempts: 0\n", "policy: [1", "a: &b 1\nc: *b\n", "<<: {policy: 1}\n", "--- 1\n--- 2\n",
		"? [policy]\n: 1\n", "policy:\n  jitter: .inf\n", "circuit_breaker: ~\n", "policy: !!str x\n", "\xff\xfe", "- - -\n", "policy:\n\tname: x\n",
		"policy:\n  name: |\n    x\n",
	} {
		f.Add(seed)
	}
	path := filepath.Join(f.TempDir(), "policy.yaml")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		flags := policy.Add(pflag.NewFlagSet("test", pflag.ContinueOnError))
		source, _, err := flags.Load([]string{"PERDURE_CONFIG=" + path})
		if err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("%q: the error does not name the file: %v", text, err)
		}
		s, err := source.Settings("default")
		switch {
		case err != nil && !strings.Contains(err.Error(), path) && !strings.HasPrefix(err.Error(), "--"):
			t.Errorf("%q: the error does not name the file: %v", text, err)
		case err == nil && s.Policy.Validate() != nil:
			t.Errorf("%q: not valid: %v", text, s.Policy.Validate())
		}
	})
}
