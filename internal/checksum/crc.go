package checksum

import (
	"encoding/binary"
	"hash"
	"hash/crc32"
	"strings"
)

// The reflected polynomials of the CRCs.
const (
	polyCRC64NVME = 0x9a6c9329ac4bc9b5
	polyCRC32     = uint64(crc32.IEEE)
	polyCRC32C    = uint64(crc32.Castagnoli)
)

// Combines reports whether the checksum of a whole can be computed from the checksums of its parts, as that of a CRC.
func (s Sum) Combines() bool { return strings.HasPrefix(s.Name, "crc") && s.PartSize == 0 }

// CRC returns the value of h, a CRC of [New], for Combine.
func CRC(h hash.Hash) uint64 {
	switch h := h.(type) {
	case hash.Hash64:
		return h.Sum64()
	case hash.Hash32:
		return uint64(h.Sum32())
	}
	return 0
}

// CRC returns the value of a CRC, for Combine.
func (s Sum) CRC() uint64 {
	crc := uint64(0)
	for _, b := range s.Value[:min(len(s.Value), 8)] {
		crc = crc<<8 | uint64(b)
	}
	return crc
}

// FromCRC returns the Sum of a CRC.
func FromCRC(name string, crc uint64) Sum {
	_, bits := polynomial(name)
	return Sum{Name: name, Value: binary.BigEndian.AppendUint64(nil, crc)[8-bits/8:]}
}

// Combine returns the CRC of two pieces of bytes from the CRC of each; n is the length of the second.
//
// Zero bits that follow change a CRC by a linear map over GF(2), whose powers are computed by squaring:
// Mark Adler's crc32_combine in zlib.
func Combine(name string, a, b uint64, n int64) uint64 {
	if a == 0 {
		return b // as a linear map has 0 of 0
	}
	poly, bits := polynomial(name)
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

// polynomial returns the polynomial of a CRC and its number of bits.
func polynomial(name string) (poly uint64, bits int) {
	switch name {
	case "crc64nvme":
		return polyCRC64NVME, 64
	case "crc32":
		return polyCRC32, 32
	default:
		return polyCRC32C, 32
	}
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
