package redact_test

import (
	"encoding/base64"
	"encoding/hex"
	"html"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/redact"
)

func TestSecretsOfAHeader(t *testing.T) {
	key := "\x01\xff<key> of 32 bytes, \"quoted\" +/="
	encoded := base64.StdEncoding.EncodeToString([]byte(key))
	secrets := redact.FromHeader(map[string][]string{
		"Authorization": {"AWS4-HMAC-SHA256 Credential=AKID/20260101/eu/s3/aws4_request, SignedHeaders=host, Signature=0123456789abcdef"},
		"X-Amz-Server-Side-Encryption-Customer-Key":       {encoded},
		"X-Amz-Server-Side-Encryption-Customer-Algorithm": {"AES256"},
		"X-Amz-Security-Token":                            {"token/with+signs=="},
		"X-Api-Key":                                       {"apikey1"},
		"Cookie":                                          {"a=b; session=cookie-value"},
		"Proxy-Authorization":                             {"Basic " + base64.StdEncoding.EncodeToString([]byte("user:password"))},
		"Private-Token":                                   {"x"}, // too short to be looked for
	})
	for _, secret := range []string{key, encoded, hex.EncodeToString([]byte(key)), "0123456789abcdef", "token/with+signs==", "apikey1", "cookie-value", "password"} {
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), html.EscapeString(secret), strings.Trim(strconv.Quote(secret), `"`)} {
			text := "it says " + form + " to all"
			if got := secrets.Redact(text); got != "it says REDACTED to all" {
				t.Errorf("%q becomes %q", text, got)
			}
		}
	}
	for _, text := range []string{"Please use AWS4-HMAC-SHA256.", "AES256 is the algorithm of AKID", "x"} {
		if got := secrets.Redact(text); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}

func TestSecretsOfAURL(t *testing.T) {
	u, err := url.Parse("https://username:pa%2Fssword@example.org/stations.json?limit=123456&X-Amz-Signature=si%2Fgnature&token=short")
	if err != nil {
		t.Fatal(err)
	}
	secrets := redact.Secrets(nil).URL(u)
	for _, secret := range []string{"username", "pa/ssword", "pa%2Fssword", "si/gnature", "si%2Fgnature"} {
		if got := secrets.Redact("it says " + secret + " to all"); got != "it says REDACTED to all" {
			t.Errorf("%q becomes %q", secret, got)
		}
	}
	const plain = "stations.json: limit 123456 of example.org, in short"
	if got := secrets.Redact(plain); got != plain {
		t.Errorf("%q becomes %q", plain, got)
	}
}

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                             "",
		"plain text, ~!":               "plain text, ~!",
		"größe 1 µs":                   "größe 1 µs",
		" a  b\n\tc\r\n":               "a b c",
		"\x1b[31mred\x07":              `\x1b[31mred\a`,
		"c1 \u0085x\u009b2J":           `c1 x\u009b2J`,
		"\u202ebidi \u2028line":        `\u202ebidi line`,
		"bad \xff utf8 \ufffd":         `bad \xff utf8 ` + "\ufffd",
		"2026 ERROR forged\nlevel=err": "2026 ERROR forged level=err",
	} {
		if got := redact.Line(in); got != want {
			t.Errorf("Line(%q) is %q, want %q", in, got, want)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("a\nb\x9b\u0085")
	f.Fuzz(func(t *testing.T, s string) {
		got := redact.Line(s)
		for _, r := range got {
			if !strconv.IsPrint(r) {
				t.Errorf("Line(%q) is %q", s, got)
			}
		}
		if again := redact.Line(got); again != got {
			t.Errorf("Line(%q) is %q, and of that %q", s, got, again)
		}
	})
}
