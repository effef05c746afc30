package sum

import (
	"hash/crc32"
	"hash/crc64"
	"math/rand/v2"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// The naive twin of combine computes the CRC of the whole.
func TestCombineIsTheSumOfTheWhole(t *testing.T) {
	castagnoli, nvme := crc32.MakeTable(crc32.Castagnoli), crc64.MakeTable(polyCRC64NVME)
	random := rand.NewChaCha8([32]byte{1})
	for _, lengths := range [][2]int{{0, 0}, {0, 1}, {1, 0}, {1, 1}, {3, 4}, {1000, 1}, {1, 1000}, {65537, 4099}, {4099, 1 << 20}} {
		whole := make([]byte, lengths[0]+lengths[1])
		_, _ = random.Read(whole)
		a, b, n := whole[:lengths[0]], whole[lengths[0]:], int64(lengths[1])
		for name, got := range map[string][2]uint64{
			"crc32":     {combine(polyCRC32, 32, uint64(crc32.ChecksumIEEE(a)), uint64(crc32.ChecksumIEEE(b)), n), uint64(crc32.ChecksumIEEE(whole))},
			"crc32c":    {combine(polyCRC32C, 32, uint64(crc32.Checksum(a, castagnoli)), uint64(crc32.Checksum(b, castagnoli)), n), uint64(crc32.Checksum(whole, castagnoli))},
			"crc64nvme": {combine(polyCRC64NVME, 64, crc64.Checksum(a, nvme), crc64.Checksum(b, nvme), n), crc64.Checksum(whole, nvme)},
		} {
			if got[0] != got[1] {
				t.Errorf("%s of %d and %d bytes: %x, want %x", name, lengths[0], lengths[1], got[0], got[1])
			}
		}
	}
}

func TestChecksumOfTheWholeObjectOnly(t *testing.T) {
	value, parts := "AAAAAA==", "AAAAAA==-3"
	for _, test := range []struct {
		kind   string
		answer Answer
		want   string
	}{
		{"FULL_OBJECT", Answer{CRC32: &value}, "crc32:" + value},
		{"", Answer{CRC32C: &value}, "crc32c:" + value},
		{"", Answer{CRC32: &parts}, ""},
		{"COMPOSITE", Answer{CRC32: &value}, ""},
		{"FULL_OBJECT", Answer{CRC32: &value, CRC64NVME: &value}, "crc64nvme:" + value},
		{"", Answer{}, ""},
	} {
		if got := test.answer.Whole(types.ChecksumType(test.kind)); got != test.want {
			t.Errorf("%+v.Whole(%q) is %q, want %q", test.answer, test.kind, got, test.want)
		}
	}
}
