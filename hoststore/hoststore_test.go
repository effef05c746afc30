//go:build unix

package hoststore_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
)

func TestTwoStoresOfOneFileShareABreaker(t *testing.T) {
	path := t.TempDir() + "/state/cells"
	one, two := hoststore.Open(path), hoststore.Open(path)
	defer one.Close()
	defer two.Close()
	if one.Err() != nil || two.Err() != nil {
		t.Fatal(one.Err(), two.Err())
	}
	a := circuit.New("s3:bikes", circuit.Config{Store: one})
	b := circuit.New("s3:bikes", circuit.Config{Store: two})
	for range 5 {
		a.RecordFailure()
	}
	if b.Allow() || b.State() != circuit.Open {
		t.Errorf("the other process's breaker is %v after 5 failures here, want open", b.State())
	}
	if keys := two.Keys(); len(keys) != 1 || keys[0] != "s3:bikes" {
		t.Errorf("keys %q, want the breaker's name alone", keys)
	}
}

func TestALookChangesNothing(t *testing.T) {
	path := t.TempDir() + "/state/cells"
	if _, err := hoststore.Look(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a look at no file: %v, want that it does not exist", err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("the look has made the directory")
	}
	store := hoststore.Open(path)
	defer store.Close()
	b := circuit.New("s3:bikes", circuit.Config{Store: store})
	b.Trip()
	b.HoldUntil(time.Now().Add(5 * time.Millisecond))
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	look, err := hoststore.Look(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := circuit.New("s3:bikes", circuit.Config{Store: look})
	if keys := look.Keys(); len(keys) != 1 || seen.State() != circuit.Open {
		t.Errorf("seen: keys %q, the breaker is %v, want one that is open", keys, seen.State())
	}
	seen.Reset()
	circuit.New("another", circuit.Config{Store: look}).Trip()
	within(t, time.Second, "the hold is over", func() bool { return seen.NotBefore().IsZero() })
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the file has changed (%v)", err)
	}
	if b.State() != circuit.Open {
		t.Errorf("the breaker itself is %v, want open", b.State())
	}
}

func TestALookLeavesAForeignFile(t *testing.T) {
	path := t.TempDir() + "/cells"
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := hoststore.Look(path); err == nil || !strings.Contains(err.Error(), path+" is not a file of shared circuit breakers") {
		t.Errorf("a look at a foreign file: %v", err)
	}
	if content, err := os.ReadFile(path); string(content) != "mine" {
		t.Errorf("the file is now %q (%v)", content, err)
	}
}
