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

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
)

func TestTwoStoresOfOneFileShareABreaker(t *testing.T) {
	path := t.TempDir() + "/state"
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

// A name from Keys leads to the same breaker, even if the key was cut: `perdure status` used to show such a breaker as
// closed when it was open, and a reset of it did nothing.
func TestKeysFindTheirBreakers(t *testing.T) {
	store := hoststore.Open(t.TempDir() + "/state")
	defer store.Close()
	for _, n := range []int{200, 239, 240, 241, 1000} {
		circuit.New(strings.Repeat("x", n), circuit.Config{Store: store}).Trip()
	}
	keys := store.Keys()
	for _, key := range keys {
		if state := circuit.New(key, circuit.Config{Store: store}).State(); state != circuit.Open {
			t.Errorf("the breaker of %.20s... (%d bytes) is %v, want open", key, len(key), state)
		}
	}
	if again := store.Keys(); len(keys) != 5 || len(again) != 5 {
		t.Errorf("there are %d keys and then %d, want 5", len(keys), len(again))
	}
}

func TestASnapshotChangesNothing(t *testing.T) {
	dir := t.TempDir() + "/state"
	if _, err := hoststore.Inspect(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a snapshot of no file: %v, want that it does not exist", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("the snapshot has made the directory")
	}
	store := hoststore.Open(dir)
	path := store.Path()
	defer store.Close()
	b := circuit.New("s3:bikes", circuit.Config{Store: store})
	b.Trip()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := hoststore.Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	seen := circuit.New("s3:bikes", circuit.Config{Store: snapshot})
	if keys := snapshot.Keys(); len(keys) != 1 || seen.State() != circuit.Open {
		t.Errorf("seen: keys %q, the breaker is %v, want one that is open", keys, seen.State())
	}
	seen.Reset()
	circuit.New("another", circuit.Config{Store: snapshot}).Trip()
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the file has changed (%v)", err)
	}
	if b.State() != circuit.Open {
		t.Errorf("the breaker itself is %v, want open", b.State())
	}
}

func TestASnapshotLeavesAForeignFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, file)
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := hoststore.Inspect(dir); err == nil || err.Error() != path+" is not a perdure state file of version 3" {
		t.Errorf("a snapshot of a foreign file: %v", err)
	}
	if content, err := os.ReadFile(path); string(content) != "mine" {
		t.Errorf("the file is now %q (%v)", content, err)
	}
}
