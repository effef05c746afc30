package checksum_test

import (
	"math/rand/v2"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/checksum"
)

// Combine returns the CRC of the whole, as computed directly.
func TestCombineIsTheSumOfTheWhole(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	of := func(name string, b []byte) checksum.Sum {
		h := checksum.New(name)
		_, _ = h.Write(b)
		if s := checksum.Of(name, h); s.CRC() == checksum.CRC(h) && checksum.FromCRC(name, s.CRC()).String() == s.String() {
			return s
		}
		t.Errorf("%s of %d bytes: the CRC of the hash and of its Sum differ", name, len(b))
		return checksum.Sum{}
	}
	for _, lengths := range [][2]int{{0, 0}, {0, 1}, {1, 0}, {1, 1}, {3, 4}, {1000, 1}, {1, 1000}, {65537, 4099}, {4099, 1 << 20}} {
		whole := make([]byte, lengths[0]+lengths[1])
		_, _ = random.Read(whole)
		for _, name := range []string{"crc32", "crc32c", "crc64nvme"} {
			a, b := of(name, whole[:lengths[0]]), of(name, whole[lengths[0]:])
			if got, want := checksum.Combine(name, a.CRC(), b.CRC(), int64(lengths[1])), of(name, whole).CRC(); got != want {
				t.Errorf("%s of %d and %d bytes: %x, want %x", name, lengths[0], lengths[1], got, want)
			}
		}
	}
}

// A copy of one piece combines the CRC of the piece with that of nothing.
func TestCombineWithNothingIsFree(t *testing.T) {
	if n := testing.AllocsPerRun(10, func() { checksum.Combine("crc32c", 0, 7, 4096) }); n != 0 {
		t.Errorf("%v allocations, want none: no map over GF(2) is needed", n)
	}
}
