package policy_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/policy"
	"github.com/seed-0f2c7998/perdure/retry"
)

// full is a file with each part of a file.
const full = `
policies:
  default:
    preset: api_call
    retry_on: [timeout, "503", SlowDown]
  fetch:
    max_attempts: 7
    base_delay: 250ms
    respect_retry_after: false
    circuit_breaker: {rate: 60/m, burst: 3, concurrency: 10}
  load:
    circuit_breaker: warehouse
breakers:
  warehouse: {failure_threshold: 3, recovery_timeout: 10}
store: memory
`

// Each line of full that is damaged in one of these ways is an error with the file and the
// line, or a value that differs.
func TestDamagedFilesAreRefused(t *testing.T) {
	path := write(t, full)
	if _, err := policy.Load(path); err != nil {
		t.Fatal(err)
	}
	checked := 0
	lines := strings.Split(strings.Trim(full, "\n"), "\n")
	for i, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		bad := []string{name + "x:" + value, name + "!:" + value, name + ": [[" + value, name + ": \"" + value, "\t" + line, name + ": {no_such: 1}", "]" + line, line + "\n" + line}
		if value != "" {
			bad = append(bad, name+":", name+": ~", name+": *a", name+": {}{", name+": -1e99x", name+": [1, 2, [3]]", name+": ''", name+": !!binary x")
		}
		for _, text := range bad {
			if strings.HasPrefix(text, "  fetchx") || strings.HasPrefix(text, "  loadx") || strings.HasPrefix(text, "  defaultx") {
				continue // another name
			}
			if empty := text == name+":" || text == name+": ~"; empty && (strings.Contains(name, "breaker") || strings.Contains(name, "warehouse")) {
				continue // a mapping without values
			}
			if text == "    retry_on: -1e99x" {
				continue // a code
			}
			damaged := strings.Join(append(append(append([]string{}, lines[:i]...), text), lines[i+1:]...), "\n")
			rewrite(t, path, damaged)
			checked++
			if _, err := policy.Load(path); err == nil || !strings.HasPrefix(err.Error(), path+":") {
				t.Errorf("line %d is %q: %.200v, want an error with the file", i+1, text, err)
			}
		}
	}
	if checked < 150 {
		t.Errorf("only %d files", checked)
	}
}

// What MarshalJSON writes of a policy and a breaker is a policy of a file.
func TestMarshalledPoliciesAreTheSame(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 6)) //nolint:gosec // a fixed seed
	texts := []string{"1", "0.5", "2", "30", "1500ms", "7", "true", "false", "off", "unlimited", "60/m", "wait", "full", "timeout,503", "fetch", "10", "0", "100"}
	for range 300 {
		var p retry.Policy
		var c circuit.Config
		for _, parameter := range policy.Parameters() {
			text := texts[r.IntN(len(texts))]
			switch {
			case r.IntN(3) > 0:
			case parameter.Breaker:
				_ = c.Set(parameter.Name, text) // unchanged if that is not allowed
			default:
				_ = p.Set(parameter.Name, text)
			}
		}
		if p.Validate() != nil || c.Validate() != nil || p.MaxDelay != 0 {
			continue
		}
		text, err := json.Marshal(map[string]any{"policies": map[string]any{"a": object(t, p, c)}})
		if err != nil {
			t.Fatal(err)
		}
		file, err := policy.Read(write(t, string(text)), "file")
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		s, err := file.Settings("a")
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		for name, want := range object(t, p, c) {
			if got := object(t, s.Policy, s.Breaker)[name]; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: %s is %v, want %v", text, name, got, want)
			}
		}
	}
}

// object returns the JSON of p with that of c.
func object(t *testing.T, p retry.Policy, c circuit.Config) map[string]any {
	t.Helper()
	all := map[string]any{}
	breaker := map[string]any{}
	for _, part := range []struct{ from, to any }{{p, &all}, {c, &breaker}} {
		text, err := json.Marshal(part.from)
		if err == nil {
			err = json.Unmarshal(text, part.to)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	all["circuit_breaker"] = breaker
	return all
}

// An error shows no secrets, wherever they are.
// Each error of a file has a line, in the order of the file; what only follows from another error has none.
func TestAllErrorsOfAFile(t *testing.T) {
	var many strings.Builder
	for i := range 30 {
		fmt.Fprintf(&many, "  p%d: {max_attempts: 0}\n", i)
	}
	for text, lines := range map[string][]int{
		"policies:\n  default:\n    max_attempts: 0\n    base_delay: soon\n    nonsense: 1\n  other: {max_delay: [1]}\n" +
			"  uses: {circuit_breaker: broken}\n  asks: {circuit_breaker: absent}\nbreakers:\n  broken: {failure_threshold: 0, window: 10}\n" +
			"store: nowhere\nproxy:\n  /x: {to: ftp://x, policy: none}\n": {3, 4, 5, 6, 8, 10, 11, 13, 13},
		"policies:\n  default: {base_delay: 5, max_delay: 1}\n  a: {max_attempts: 2}\n  b: {circuit_breaker: {window: 10}}\n": {2, 4},
		"policies:\n" + many.String():                                           {2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 0},
		"policy: {max_attempts: 0, nonsense: 1}\ncircuit_breaker: {burst: 0}\n": {1, 1, 2},
	} {
		path := write(t, text)
		_, err := policy.Load(path)
		var got []int
		for line := range strings.SplitSeq(fmt.Sprint(err), "\n") {
			n := 0
			_, _ = fmt.Sscanf(strings.TrimPrefix(line, path), ":%d:", &n)
			got = append(got, n)
		}
		if !slices.Equal(got, lines) {
			t.Errorf("%s\nhas errors in the lines %v, want %v: %v", text, got, lines, err)
		}
	}
}

func TestErrorsShowNoSecrets(t *testing.T) {
	for _, text := range []string{
		"policies:\n  fetch: {max_attempts: 0}\n  token: hunter2\n",
		"policies:\n  fetch:\n    password: hunter2\n",
		"policies: {fetch: {max_attempts: 0}}\nstore: redis://me:hunter2@cache\n",
		"store: reddis://me:hunter2@cache\n",
		"AWS_SECRET_ACCESS_KEY=hunter2\npolicies: [\n",
		"policies:\n  fetch:\n    name: https://me:hunter2@example.com/\n    max_attempts: 0\n",
	} {
		if _, err := policy.Load(write(t, text)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// The default place is read only if no other user may write to it.
func TestDefaultPlace(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	path := filepath.Join(dir, "perdure", "policies.yaml")
	if got := policy.DefaultPath(); got != path {
		t.Fatalf("%s, want %s", got, path)
	}
	if _, err := policy.Load(""); err == nil {
		t.Error("no error without a file")
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	rewrite(t, path, full)
	set, err := policy.Load("")
	if err != nil {
		t.Fatal(err)
	}
	if fetch := get(t, set, "fetch"); fetch.MaxAttempts != 7 {
		t.Errorf("%d attempts, want 7", fetch.MaxAttempts)
	}
	t.Setenv("XDG_CONFIG_HOME", "relative")
	t.Setenv("HOME", dir)
	if got, want := policy.DefaultPath(), filepath.Join(dir, ".config", "perdure", "policies.yaml"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Load ends with a set whose policies are valid, or with an error.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{full, shop, "", "policy: {max_attempts: 7}\n", "policies: {a: {circuit_breaker: b}}\nbreakers: {b: {}}\n", "policies: {a: {}, a: {}}", "breakers: ~\npolicies:\n  - a\n"} {
		f.Add(seed)
	}
	path := filepath.Join(f.TempDir(), "policies.yaml")
	f.Fuzz(func(t *testing.T, text string) {
		rewrite(t, path, text)
		file, err := policy.Read(path, "file")
		if err != nil {
			return
		}
		for _, name := range file.Names() {
			s, err := file.Settings(name)
			if err != nil {
				continue // of a file with one policy
			}
			if err := s.Policy.Validate(); err != nil {
				t.Errorf("%q: %s: %v", text, name, err)
			}
			if err := s.Breaker.Validate(); err != nil {
				t.Errorf("%q: %s: %v", text, name, err)
			}
			if _, err := s.Effective(); err != nil {
				t.Errorf("%q: %s: %v", text, name, err)
			}
		}
	})
}
