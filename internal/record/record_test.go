package record_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/record"
)

type value struct {
	Format string `json:"format"`
	Size   int64  `json:"size"`
}

// A record decodes only as it was encoded: with any byte changed, removed or added it does not.
func TestDecode(t *testing.T) {
	want := value{"perdure-test-1", 1 << 40}
	line, err := record.Encode(want)
	if err != nil || string(line) != `{"format":"perdure-test-1","size":1099511627776} d905945e`+"\n" {
		t.Fatalf("%q, %v", line, err)
	}
	var got value
	if !record.Decode(line, &got) || got != want {
		t.Errorf("%q decodes as %+v, want %+v", line, got, want)
	}
	refuse := func(text []byte) {
		if record.Decode(text, new(value)) {
			t.Errorf("%q is believed", text)
		}
	}
	for i := range line {
		for flip := 1; flip < 256; flip++ {
			altered := bytes.Clone(line)
			altered[i] ^= byte(flip)
			refuse(altered)
		}
		refuse(line[:i])
		refuse(line[i+1:])
		refuse(slices.Delete(bytes.Clone(line), i, i+1))
		refuse(slices.Insert(bytes.Clone(line), i, 'x'))
	}
	refuse(append(bytes.Clone(line), '\n'))
	if record.Decode(line, new(int)) {
		t.Error("an object is believed to be a number")
	}
	if _, err := record.Encode(func() {}); err == nil {
		t.Error("a function is encoded")
	}
}
