package checksum

import (
	"errors"
	"testing"
)

// The checksums of "123456789", as the catalogues of CRCs and any shell give them.
func TestParseAndCheck(t *testing.T) {
	for _, text := range []string{
		"sha256:15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
		"SHA-256:15E2B0D3C33891EBB0F1EF609EC419420C20E320CE94C65FBC8C3312448EB225",
		"sha256:FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=",
		"sha1:f7c3bc1d808e04732adf679965ccc34ca7ae3441",
		"md5:25f9e794323b453885f5181f1b624d0b",
		"crc32:cbf43926",
		"crc32:y/Q5Jg==",
		"crc32c:e3069283",
		"crc64nvme:ae8b14860a799888",
		"sha512:d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274ad27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85",
	} {
		sum, err := Parse(text)
		if err != nil {
			t.Errorf("Parse(%q): %v", text, err)
			continue
		}
		h := sum.New()
		h.Write([]byte("123456789"))
		if err := sum.Check(h); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if again, err := Parse(sum.String()); err != nil || again.String() != sum.String() {
			t.Errorf("%s is written as %s, which reads as %s (%v)", text, sum, again, err)
		}
		h.Write([]byte("x"))
		if err := sum.Check(h); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s of other bytes: %v, want %v", text, err, ErrMismatch)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"", "sha256", "sha256:", "sha256:00", "whirlpool:00", "sha256:zz", "crc32:cbf4392", ":cbf43926"} {
		if sum, err := Parse(text); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", text, sum)
		}
	}
}

func TestZeroSumWantsNothing(t *testing.T) {
	var none Sum
	if err := none.Check(none.New()); err != nil || !none.IsZero() {
		t.Errorf("%v, zero %v", err, none.IsZero())
	}
}
