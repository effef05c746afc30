package sum

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
)

// The reflected polynomials of S3's CRCs.
const (
	polyCRC64NVME = 0x9a6c9329ac4bc9b5
	polyCRC32     = uint64(crc32.IEEE)
	polyCRC32C    = uint64(crc32.Castagnoli)
)

// Encode returns a CRC-32 as S3 writes it.
func Encode(crc uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
}

// Join returns the CRC-32 of what a and b are the CRC-32s of, one after the
// other; n is the length of the latter.
func Join(a, b uint32, n int64) uint32 {
	return uint32(combine(polyCRC32, 32, uint64(a), uint64(b), n)) //nolint:gosec // of 32 bits
}

// combine is Join for a CRC of that many bits. It is reflected, as all those of
// S3 are. n zero bytes after a change its CRC by a linear map over GF(2), whose
// powers are had by squaring: Mark Adler's crc32_combine in zlib.
func combine(poly uint64, bits int, a, b uint64, n int64) uint64 {
	step := make([]uint64, bits) // the map for one zero bit
	step[0] = poly
	for i := 1; i < bits; i++ {
		step[i] = 1 << (i - 1)
	}
	for range 3 { // ... for one zero byte
		step = square(step)
	}
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			a = times(step, a)
		}
		step = square(step)
	}
	return a ^ b
}

// times applies a map to a vector.
func times(m []uint64, v uint64) (sum uint64) {
	for i := 0; v != 0; i, v = i+1, v>>1 {
		if v&1 != 0 {
			sum ^= m[i]
		}
	}
	return sum
}

// square returns m applied twice.
func square(m []uint64) []uint64 {
	twice := make([]uint64, len(m))
	for i := range m {
		twice[i] = times(m, m[i])
	}
	return twice
}
