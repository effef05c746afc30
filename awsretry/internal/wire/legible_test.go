package wire

import (
	"encoding/xml"
	"strings"
	"testing"
)

func FuzzLegible(f *testing.F) {
	for _, seed := range []string{"a\x01b", "\ufffe\uffff", "\xff\xfe", "ä", "plain", "\x1b[31m"} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, key string, asReference bool) {
		if strings.ContainsAny(key, "<>&\r") || strings.ContainsFunc(key, func(r rune) bool { return r >= below && r <= last }) {
			t.Skip()
		}
		written := key
		if asReference {
			written = strings.NewReplacer("\x01", "&#1;", "\x1b", "&#x1B;", "\ufffe", "&#xfffe;").Replace(key)
		}
		text := legible([]byte(`<?xml version="1.0"?><ListBucketResult><Key>` + written + `</Key></ListBucketResult>`))
		var page struct {
			EncodingType string
			Key          string
		}
		if err := xml.Unmarshal(text, &page); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if page.EncodingType == string(EncodingLegible) {
			page.Key = Illegible(page.Key)
		}
		if page.Key != key {
			t.Errorf("%q becomes %q, and then %q", key, text, page.Key)
		}
	})
}
