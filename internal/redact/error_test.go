package redact

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// Whatever an error is printed with, its secret is not in it.
func TestTypesPrintRedacted(t *testing.T) {
	plain := errors.New(`Get "https://u:hunter2@h/?sig=hunter2": EOF`)
	err := fmt.Errorf("in: %w", Error(plain))
	if !errors.Is(err, plain) || Error(nil) != nil || errors.Unwrap(Error(Error(plain))) != plain { //nolint:errorlint // as made
		t.Error("the original is lost")
	}
	for _, v := range []any{Error(plain), err, struct{ E error }{Error(plain)}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			if got := fmt.Sprintf(verb, v); strings.Contains(got, "hunter2") || strings.Contains(got, fmt.Sprintf("%x", "hunter2")) {
				t.Errorf("%s of a %T: %s", verb, v, got)
			}
		}
		var out strings.Builder
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
		data, _ := json.Marshal(v)
		if got := out.String() + string(data); strings.Contains(got, "hunter2") {
			t.Errorf("a %T in a log: %s", v, got)
		}
	}
}

// Credentials outside of URLs go, words stay.
func TestCredentialsOutsideOfURLs(t *testing.T) {
	for _, row := range []struct{ in, want string }{
		{"Authorization: Bearer hunter2hunter2", "Authorization: REDACTED"},
		{"sent Bearer hunter2.hunter2, got 401", "sent Bearer REDACTED, got 401"},
		{"Basic dXNlcjpodW50ZXIy refused", "Basic REDACTED refused"},
		{"basic authentication is needed, bearer something", "basic authentication is needed, bearer something"},
		{"map[Authorization:[Bearer hunter2hunter2] Accept:[a/b]]", "map[Authorization:[REDACTED] Accept:[a/b]]"},
		{`{"Authorization": "Basic hunter2", "a": 1}`, `{"Authorization": "REDACTED", "a": 1}`},
		{"X-Amz-Server-Side-Encryption-Customer-Key: aHVudGVyMg==\nHost: h", "X-Amz-Server-Side-Encryption-Customer-Key: REDACTED\nHost: h"},
		{"AWS4-HMAC-SHA256 Credential=hunter2/s3, SignedHeaders=host;date, Signature=hunter2", "AWS4-HMAC-SHA256 Credential=REDACTED, SignedHeaders=host;date, Signature=REDACTED"},
		{"aws_secret_access_key=hunter2/x bad", "aws_secret_access_key=REDACTED bad"},
		{`password="hunter2 and more" host=h`, "password=REDACTED host=h"},
		{`store "redis:user:hunter2@h:1" is none`, `store "redis:REDACTED@h:1" is none`},
		{"https:/user:hun/ter2@h/x", "https:/REDACTED@h/x"},
		{"http:http://REDACTED@h:80 is open", "http:http://REDACTED@h:80 is open"},
		{"http: not found, mail to a@b", "http: not found, mail to a@b"},
		{"key photos/2026.jpg, key=photos/1: token: EOF", "key photos/2026.jpg, key=photos/1: token: EOF"},
		{"5 authorization failures, cookie jar", "5 authorization failures, cookie jar"},
	} {
		if got := String(row.in); got != row.want {
			t.Errorf("%s\nbecomes %s\nwant    %s", row.in, got, row.want)
		} else if again := String(got); again != got {
			t.Errorf("%s\nbecomes %s the second time", got, again)
		}
	}
}
