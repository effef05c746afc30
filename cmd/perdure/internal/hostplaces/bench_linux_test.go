package hostplaces_test

import (
	"log/slog"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/hostplaces"
)

// A place is an open file and a lock, and the end of both.
func BenchmarkPlace(b *testing.B) {
	l := hostplaces.Of(b.TempDir(), "op:x", 4, false, slog.Default())
	for b.Loop() {
		if !l.Lock() {
			b.Fatal("no place is free")
		}
		l.Unlock()
	}
}
