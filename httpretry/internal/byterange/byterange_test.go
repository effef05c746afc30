package byterange_test

import (
	"math"
	"math/big"
	"regexp"
	"testing"

	"github.com/seed-0f2c7998/perdure/httpretry/internal/byterange"
)

func TestParse(t *testing.T) {
	const unknown = byterange.Unknown
	for _, tt := range []struct {
		value string
		want  byterange.Range
		bad   bool
	}{
		{value: "bytes 0-0/1", want: byterange.Range{First: 0, Last: 0, Total: 1}},
		{value: "bytes 42-1233/1234", want: byterange.Range{First: 42, Last: 1233, Total: 1234}},
		{value: "bytes 42-1233/*", want: byterange.Range{First: 42, Last: 1233, Total: unknown}},
		{value: "Bytes 1-2/3", want: byterange.Range{First: 1, Last: 2, Total: 3}},
		{value: "bytes */1234", want: byterange.Range{Total: 1234, Unsatisfied: true}},
		{value: "bytes */0", want: byterange.Range{Total: 0, Unsatisfied: true}},
		{value: "bytes 0-9223372036854775805/9223372036854775806", want: byterange.Range{Last: math.MaxInt64 - 2, Total: math.MaxInt64 - 1}},
		{value: "", bad: true},
		{value: "bytes", bad: true},
		{value: "bytes ", bad: true},
		{value: "bytes */*", bad: true},
		{value: "bytes=1-2/3", bad: true},
		{value: "bytes  1-2/3", bad: true},
		{value: "bytes 1-2", bad: true},
		{value: "bytes 2-1/3", bad: true},
		{value: "bytes 1-3/3", bad: true},
		{value: "bytes 1-/3", bad: true},
		{value: "bytes -1/3", bad: true},
		{value: "bytes +1-2/3", bad: true},
		{value: "bytes 1-2/3 ", bad: true},
		{value: "bytes 1-2/-3", bad: true},
		{value: "bytes 0x1-2/3", bad: true},
		{value: "items 1-2/3", bad: true},
		{value: "bytes 0-9223372036854775806/9223372036854775807", bad: true},
		{value: "bytes 99999999999999999999-99999999999999999999/*", bad: true},
		{value: "bytes 1-2/3, bytes 4-5/6", bad: true},
	} {
		got, ok := byterange.Parse(tt.value)
		if ok == tt.bad || ok && got != tt.want {
			t.Errorf("Parse(%q) is %+v, %t; want %+v, %t", tt.value, got, ok, tt.want, !tt.bad)
		}
	}
}

var grammar = regexp.MustCompile(`^(?i:bytes) (?:([0-9]+)-([0-9]+)/([0-9]+|\*)|\*/([0-9]+))$`)

// naive is the oracle: the grammar as a regular expression, and big integers.
func naive(value string) (byterange.Range, bool) {
	match := grammar.FindStringSubmatch(value)
	if match == nil {
		return byterange.Range{}, false
	}
	var numbers [5]int64
	for i, text := range match[1:] {
		numbers[i+1] = byterange.Unknown
		if text == "" || text == "*" {
			continue
		}
		n, ok := new(big.Int).SetString(text, 10)
		if !ok || n.Cmp(big.NewInt(math.MaxInt64-1)) > 0 {
			return byterange.Range{}, false
		}
		numbers[i+1] = n.Int64()
	}
	first, last, total := numbers[1], numbers[2], numbers[3]
	if match[4] != "" {
		return byterange.Range{Total: numbers[4], Unsatisfied: true}, true
	}
	return byterange.Range{First: first, Last: last, Total: total}, first <= last && (total == byterange.Unknown || last < total)
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"bytes 0-9/10", "bytes 5-9/*", "bytes */10", "bytes */*", "bytes 9223372036854775806-9223372036854775806/*", "BYTES 1-2/3", "bytes 2-1/3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got, ok := byterange.Parse(value)
		want, wanted := naive(value)
		if ok != wanted || ok && got != want {
			t.Errorf("Parse(%q) is %+v, %t; the twin has %+v, %t", value, got, ok, want, wanted)
		}
		if ok && !got.Unsatisfied && got.Length() <= 0 {
			t.Errorf("Parse(%q): length %d", value, got.Length())
		}
	})
}
