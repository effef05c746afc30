package policy_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/policy"
	"github.com/seed-0f2c7998/perdure/retry"
)

const shop = `
policies:
  default:
    preset: service
    max_attempts: 4
  fetch:
    max_attempts: 7
    circuit_breaker: {rate: 60/m}
  load:
    preset: pipeline
    circuit_breaker: warehouse
  unload:
    circuit_breaker: warehouse
breakers:
  warehouse: {gate: wait, concurrency: 4}
`

// write writes a policy file, and returns its path.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policies.yaml")
	rewrite(t, path, text)
	return path
}

func rewrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, text string) (*policy.Set, string) {
	t.Helper()
	path := write(t, text)
	set, err := policy.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return set, path
}

func get(t *testing.T, set *policy.Set, name string) *retry.Policy {
	t.Helper()
	p, err := set.For(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPoliciesInherit(t *testing.T) {
	set, _ := load(t, shop)
	byDefault, fetch, warehouse, unload := get(t, set, "default"), get(t, set, "fetch"), get(t, set, "load"), get(t, set, "unload")
	for _, row := range []struct {
		what      string
		got, want any
	}{
		{"default's attempts", byDefault.MaxAttempts, 4},
		{"fetch's attempts", fetch.MaxAttempts, 7},
		{"fetch's delay, of the preset of default", fetch.BaseDelay, 50 * time.Millisecond},
		{"fetch's name", fetch.Name, "fetch"},
		{"load's attempts: default changes a preset", warehouse.MaxAttempts, 4},
		{"load's delay, of its own preset", warehouse.BaseDelay, time.Second},
		{"default's breaker, of its preset", byDefault.Breaker.Name(), "op:default"},
		{"fetch's breaker", fetch.Breaker.Name(), "op:fetch"},
		{"fetch's rate", fetch.Breaker.Metrics().Rate, 1.0},
		{"load's breaker", warehouse.Breaker.Name(), "op:warehouse"},
		{"unload's breaker", unload.Breaker == warehouse.Breaker, true},
		{"two calls of For", get(t, set, "fetch") == fetch, true},
	} {
		if row.got != row.want {
			t.Errorf("%s: %v, want %v", row.what, row.got, row.want)
		}
	}
}

func TestOnePolicyIsNamedDefault(t *testing.T) {
	set, _ := load(t, "policy: {max_attempts: 9}\nstore: memory\n")
	if p := get(t, set, "default"); p.MaxAttempts != 9 || p.Breaker != nil {
		t.Errorf("%d attempts and %v, want 9 and no breaker", p.MaxAttempts, p.Breaker)
	}
}

func TestUnknownNameSuggestsTheNearest(t *testing.T) {
	set, _ := load(t, shop)
	_, err := set.For("fetsh")
	if bad, ok := errors.AsType[*retry.ConfigError](err); !ok || !strings.Contains(bad.Error(), "did you mean fetch?") {
		t.Errorf("%v", err)
	}
	if _, err = set.For("x"); err == nil || !strings.Contains(err.Error(), "default, fetch, load, unload") {
		t.Errorf("%v, want the names", err)
	}
}

// After a reload, what is unchanged is the same, and keeps its state.
func TestReload(t *testing.T) {
	set, path := load(t, shop)
	byDefault, fetch, warehouse := get(t, set, "default"), get(t, set, "fetch"), get(t, set, "load")
	fetch.Breaker.Trip()
	warehouse.Breaker.Trip()
	rewrite(t, path, strings.Replace(strings.Replace(shop, "max_attempts: 7", "max_attempts: 8", 1), "concurrency: 4", "concurrency: 5", 1))
	if err := set.Reload(); err != nil {
		t.Fatal(err)
	}
	now := get(t, set, "fetch")
	if now.MaxAttempts != 8 || fetch.MaxAttempts != 7 {
		t.Errorf("%d attempts, want 8; %d of the old one, want 7", now.MaxAttempts, fetch.MaxAttempts)
	}
	if now.Breaker != fetch.Breaker || now.Breaker.State() != circuit.Open {
		t.Error("the breaker of fetch has not kept its state")
	}
	if again := get(t, set, "load"); again == warehouse || again.Breaker.State() != circuit.Closed {
		t.Error("load has a breaker of other settings, and the state of the old one")
	}
	if get(t, set, "default") != byDefault {
		t.Error("default has changed")
	}
}

// A file that is wrong changes nothing.
func TestReloadKeepsTheOldPolicies(t *testing.T) {
	set, path := load(t, shop)
	fetch := get(t, set, "fetch")
	for _, row := range []struct{ text, want string }{
		{"policies: {fetch: {max_attempts: 0}}", "max_attempts"},
		{"policies: [", "sequence"},
		{"", "policies in use are missing: fetch"},
		{"policies: {load: {}}", "policies in use are missing: fetch"},
		{shop + "store: memory\n", "the store has changed"},
	} {
		rewrite(t, path, row.text)
		if err := set.Reload(); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%q: %v, want %q", row.text, err, row.want)
		}
		if get(t, set, "fetch") != fetch || get(t, set, "unload") == nil {
			t.Errorf("%q: the policy has changed", row.text)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := set.Reload(); err == nil {
		t.Error("no error without a file")
	}
}

func TestPrepareAndStore(t *testing.T) {
	path := write(t, "policies: {fetch: {}, load: {circuit_breaker: {}}}\nstore: redis://cache:6379\n")
	if _, err := policy.Load(path); err == nil || !strings.Contains(err.Error(), "must be memory or host") {
		t.Errorf("%v, want the store refused", err)
	}
	var prepared, opened []string
	set, err := policy.Options{
		Store:   func(url string) (circuit.Store, error) { opened = append(opened, url); return new(circuit.Memory), nil },
		Prepare: func(p *retry.Policy) { prepared = append(prepared, p.Name); p.Classify = retry.Always },
	}.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, path, "policies: {fetch: {}, load: {max_attempts: 2, circuit_breaker: {}}}\nstore: redis://cache:6379\n")
	if err := set.Reload(); err != nil {
		t.Fatal(err)
	}
	if len(prepared) != 3 || prepared[2] != "load" || len(opened) != 1 || get(t, set, "load").Classify == nil ||
		get(t, set, "load").Breaker == nil || get(t, set, "fetch").Breaker != nil {
		t.Errorf("prepared %v, opened %v", prepared, opened)
	}
}

// What the callbacks of Options return and set is checked, and the old policies stay.
func TestCallbacksAreChecked(t *testing.T) {
	const text = "policies: {fetch: {}, load: {}}\nstore: redis://cache:6379\n"
	path := write(t, text)
	_, err := policy.Options{Store: func(string) (circuit.Store, error) { return nil, nil }}.Load(path) //nolint:nilnil // the fault
	if err == nil || !strings.HasPrefix(err.Error(), path+":2:1: store") && !strings.Contains(err.Error(), "returned nil without an error") {
		t.Errorf("%v, want the store refused", err)
	}
	attempts := -2
	options := policy.Options{
		Store:   func(string) (circuit.Store, error) { return new(circuit.Memory), nil },
		Prepare: func(p *retry.Policy) { p.MaxAttempts = attempts },
	}
	if _, err = options.Load(path); err == nil || !strings.HasPrefix(err.Error(), path+": policies.fetch, changed by Options.Prepare: invalid value -2 for max_attempts") {
		t.Errorf("%v, want the policy refused", err)
	}
	attempts = 2
	set, err := options.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	fetch := get(t, set, "fetch")
	attempts = -2
	if err := set.Reload(); err != nil || get(t, set, "fetch") != fetch {
		t.Errorf("%v; want the policy kept, and not prepared again: the file has not changed", err)
	}
	rewrite(t, path, strings.Replace(text, "fetch: {}", "fetch: {base_delay: 2}", 1))
	if err := set.Reload(); err == nil || get(t, set, "fetch") != fetch {
		t.Errorf("%v; want the new policy refused, and the old one kept", err)
	}
}
