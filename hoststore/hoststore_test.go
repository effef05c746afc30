//go:build unix

package hoststore_test

import (
	"testing"

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
