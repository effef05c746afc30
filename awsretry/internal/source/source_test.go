package source_test

import (
	"testing"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/source"
)

// 5 TiB fit in the parts of a stream, each of a size that S3 accepts and no smaller than the one before.
func TestStreamOfFiveTiBFits(t *testing.T) {
	const mib, tib = 1 << 20, int64(1) << 40
	for _, test := range []struct{ first, largest int64 }{
		{source.MinPart, 1157 * mib}, {8 * mib, 1160 * mib}, {1 << 30, 2176 * mib}, {source.MaxPart, source.MaxPart},
	} {
		g, sum, before := source.StreamGrowth(), int64(0), int64(0)
		for n := range source.MaxParts {
			size := g.Part(test.first, n)
			if size < before || size < source.MinPart || size > source.MaxPart || n < 1000 && size != test.first {
				t.Fatalf("first of %d bytes: part %d of %d bytes, after one of %d", test.first, n, size, before)
			}
			sum, before = sum+size, size
		}
		if sum < 5*tib || before != test.largest {
			t.Errorf("first of %d bytes: %d in all, the last %d; want 5 TiB or more, and %d", test.first, sum, before, test.largest)
		}
	}
}
