//go:build unix

package hoststore_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
)

// Whatever byte of the file is altered, breakers work: Metrics, calls and resets neither panic nor wait, and no breaker
// stays open beyond its longest open time.
func TestAlteredBytes(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, file)
	quiet := func(context.Context, circuit.Transition) {}
	c := circuit.Config{FailureThreshold: 2, RecoveryTimeout: time.Minute, Observe: quiet, Budget: 10}
	store := hoststore.Open(dir)
	c.Store = store
	b := circuit.New("s3:bikes", c)
	b.RecordSuccess()
	b.RecordFailure()
	b.RecordFailure() // it is open
	store.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The slot of the key, with its zeros; the header before it is compared as a whole.
	const header = 512
	first := slices.IndexFunc(whole[header:], func(b byte) bool { return b != 0 }) + header
	last := len(bytes.TrimRight(whole, "\x00")) + 64
	slot := whole[first:last]
	for i := range slot {
		for _, flip := range []byte{1, 0x80, 0xff} {
			writeAt(t, path, first+i, slot[i]^flip)
			store := hoststore.Open(dir)
			c.Store = store
			b := circuit.New("s3:bikes", c)
			_, err := b.Acquire()
			if open, ok := errors.AsType[*circuit.OpenError](err); ok && time.Until(open.RetryAt) > 10*time.Minute {
				t.Errorf("byte %d by %#x: refused until %v", i, flip, open.RetryAt)
			}
			_, _, _ = b.State(), b.Metrics(), store.Keys()
			b.RecordFailure()
			b.RecordSuccess()
			b.Reset()
			if !b.Allow() {
				t.Errorf("byte %d by %#x: a breaker that was reset refuses a call", i, flip)
			}
			store.Close()
			writeAt(t, path, first, slot...)
		}
	}
}

func writeAt(t *testing.T, path string, at int, text ...byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(text, int64(at))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
