package circuit

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRegistryGivesOneBreaker(t *testing.T) {
	var r Registry
	var mu sync.Mutex
	var all sync.WaitGroup
	seen := map[*Breaker]bool{}
	for range 100 {
		all.Go(func() {
			b, err := r.Get("s3", quiet(Config{FailureThreshold: 3}))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			seen[b] = true
		})
	}
	all.Wait()
	if len(seen) != 1 {
		t.Errorf("one name gave %d breakers", len(seen))
	}
}

func TestRegistryComparesSettings(t *testing.T) {
	one, other := new(Memory), new(Memory)
	first := Config{FailureThreshold: 5, Window: time.Minute, FailureRatio: .5, Store: one}
	change := func(set func(*Config)) Config { c := first; set(&c); return c }
	for _, row := range []struct {
		name string
		c    Config
		ok   bool
	}{
		{"the same", first, true},
		{"the default left out", change(func(c *Config) { c.FailureThreshold = 0 }), true},
		{"another observer", change(func(c *Config) { c.Observe = func(context.Context, Transition) {} }), true},
		{"another threshold", change(func(c *Config) { c.FailureThreshold = 4 }), false},
		{"another time", change(func(c *Config) { c.RecoveryTimeout = time.Second }), false},
		{"another ratio", change(func(c *Config) { c.FailureRatio = .6 }), false},
		{"a budget", change(func(c *Config) { c.Budget = 10 }), false},
		{"observe only", change(func(c *Config) { c.ObserveOnly = true }), false},
		{"another store with the same in it", change(func(c *Config) { c.Store = other }), false},
		{"no store", change(func(c *Config) { c.Store = nil }), false},
		{"a threshold that is not allowed", change(func(c *Config) { c.FailureThreshold = -7 }), false},
		{"a budget that is not allowed", change(func(c *Config) { c.Budget = -1 }), false},
	} {
		r := new(Registry)
		New("s3_upload", Config{Store: other}) // now both stores look alike
		made, err := r.Get("s3_upload", first)
		if err != nil {
			t.Fatal(err)
		}
		b, err := r.Get("s3_upload", row.c)
		if row.ok && (err != nil || b != made) || !row.ok && (err == nil || b != nil) {
			t.Errorf("%s: %v, %v", row.name, b, err)
		}
		if bad, ok := errors.AsType[*ConfigError](err); !row.ok && (!ok || bad.Field == "" || !strings.Contains(err.Error(), `"s3_upload"`)) {
			t.Errorf("%s: the error %v does not name the breaker and the setting", row.name, err)
		}
	}
}

func TestRegistryAll(t *testing.T) {
	var r Registry
	if all := r.All(); len(all) != 0 {
		t.Errorf("an empty registry has %v", all)
	}
	for _, name := range []string{"b", "c", "a", "b"} {
		if b, err := r.Get(name, Config{}); err != nil || b.Name() != name {
			t.Fatal(b, err)
		}
	}
	if b, err := r.Get("bad", Config{MinCalls: -1}); b != nil || err == nil {
		t.Errorf("a Config that is not valid gave %v, %v", b, err)
	}
	var names strings.Builder
	for _, b := range r.All() {
		names.WriteString(b.Name())
	}
	if names.String() != "abc" {
		t.Errorf("all are %q", names.String())
	}
}

// Stores used to be compared by their contents, which raced with their use.
func TestRegistryComparesStoresByIdentity(t *testing.T) {
	var r Registry
	if _, err := r.Get("x", Config{Store: new(Memory)}); err != nil {
		t.Fatal(err)
	}
	used := new(Memory)
	var all sync.WaitGroup
	all.Go(func() { New("y", Config{Store: used}) })
	if _, err := r.Get("x", Config{Store: used}); err == nil {
		t.Error("another store is taken for the same")
	}
	all.Wait()
}

func BenchmarkRegistryGet(b *testing.B) {
	var r Registry
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Get("s3_upload", Config{FailureThreshold: 3}); err != nil {
			b.Fatal(err)
		}
	}
}
