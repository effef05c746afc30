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
		{"invalid token: unexpected end of JSON input", "invalid token: unexpected end of JSON input"},
		{"password: too short, see https://h/secret: 404", "password: too short, see https://h/secret: 404"},
		{`read "https://h/oauth2/token": attempts exhausted, Get "http://h/?secret": unexpected EOF`, `read "https://h/oauth2/token": attempts exhausted, Get "http://h/?secret": unexpected EOF`},
		{`{"vault/token": "hunterhunter"}, {"token": hunterhunter}, "h/token": hunter2`, `{"vault/token": "REDACTED"}, {"token": REDACTED}, "h/token": REDACTED`},
		{"image alpine:3.20@sha256:0123456789abcdef", "image alpine:3.20@sha256:0123456789abcdef"},
		// DSNs.
		{"dial user:hunter2@tcp(127.0.0.1:3306)/bikes?tls=true: refused", "dial REDACTED@tcp(127.0.0.1:3306)/bikes?tls=true: refused"},
		{"user:hun@ter2/:x@unix(/run/m.sock)/bikes", "REDACTED@unix(/run/m.sock)/bikes"},
		{"u:hunter2@/bikes", "u:hunter2@/bikes"},
		{`redis "default:hunter2@cache:6379" is away`, `redis "REDACTED@cache:6379" is away`},
		{"//user:hunter2@host/bikes", "//REDACTED@host/bikes"},
		{"cannot parse `host=db user=u password='hunter2 and \\' more' dbname=x`", "cannot parse `host=db user=u password=REDACTED dbname=x`"},
		{"host=db password = hunter2 port=1", "host=db password = REDACTED port=1"},
		{"Server=db;User Id=sa;Pwd=hunter2;Database=x", "Server=db;User Id=sa;Pwd=REDACTED;Database=x"},
		{"{User:u Passwd:hunter2 Net:tcp}", "{User:u Passwd:REDACTED Net:tcp}"},
		{"map[password:hunter2 user:u]", "map[password:REDACTED user:u]"},
		{`ALTER ROLE u PASSWORD 'hunter2 or so'; IDENTIFIED BY 'hunter2'`, `ALTER ROLE u PASSWORD REDACTED; IDENTIFIED BY REDACTED`},
		{"ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `hunter2`,", "ERR unknown command `HELLO`, with args beginning with:REDACTED"},
		// JSON, YAML, headers of other services, tokens alone.
		{`{"user":"u","password":"hunter2","n":1}`, `{"user":"u","password":"REDACTED","n":1}`},
		{`body {\"access_token\":\"hunter2\",\"n\":1}`, `body {\"access_token\":\"REDACTED\",\"n\":1}`},
		{"'host=h password=''hunter2 and more'' dbname=x'", "'host=h password=REDACTED dbname=x'"},
		{`'host=h password='\''hunter2 and more'\'' dbname=x'`, `'host=h password=REDACTED dbname=x'`}, // quoted for a shell
		{`'u PASSWORD '\''hunter2'\'': syntax error'`, `'u PASSWORD REDACTED: syntax error'`},
		{`{"password":"a\"hunter2","n":1}`, `{"password":"REDACTED","n":1}`},
		{`"{\"password\":\"a\\\"hunter2\",\"n\":1}"`, `"{\"password\":\"REDACTED\",\"n\":1}"`},
		{`"\"{\\\"password\\\":\\\"hunter2\\\"}\""`, `"\"{\\\"password\\\":\\\"REDACTED\\\"}\""`},
		{"X-Vault-Token: hvs.hunter2", "X-Vault-Token: REDACTED"},
		{"map[X-Vault-Token:[hunter2] A:[b]]", "map[X-Vault-Token:[REDACTED] A:[b]]"},
		{"Ocp-Apim-Subscription-Key: hunter2", "Ocp-Apim-Subscription-Key: REDACTED"},
		{"got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJodW50ZXIyIn0.aHVudGVyMg, refused", "got REDACTED, refused"},
		{"redirect to https%3A%2F%2Fuser%3Ahunter2%40host%2F", "redirect to REDACTED"},
		{"next=https%3A%2F%2Fhost%2F%3Fa%3D1", "next=https%3A%2F%2Fhost%2F%3Fa%3D1"},
		{"state%26access_token%3Dhunter2", "state%26access_token%3DREDACTED"},
	} {
		if got := String(row.in); got != row.want {
			t.Errorf("%s\nbecomes %s\nwant    %s", row.in, got, row.want)
		} else if again := String(got); again != got {
			t.Errorf("%s\nbecomes %s the second time", got, again)
		}
	}
}

// The name decides whether name=value goes, in a text and in the query of a URL: each row is taken out, or stays.
func TestNamesOfPairs(t *testing.T) {
	for _, row := range []struct{ names, where string }{
		{"token access_token tokenValue token2 password pgpassword passwordConfirm passphrase secret client_secret secret_id secret_key " +
			"AccountKey SharedAccessKey signing_key encryption-key master_key credentials credentials_json api_key apiKey authorization " +
			"bearer session_id X-Amz-Signature X-Amz-Credential", "text url"},
		{"key sig code auth pwd session api-x-key", "url"}, // that of an object, a signal, of an exit, a directory
		{"token_count tokenCount max_tokens completion_tokens tokens token_type token_version signature_version SignatureVersion " +
			"password_length min_password_size token_limit token_ttl token_expires expires_in token_expires_in token_expiry " +
			"AWS_WEB_IDENTITY_TOKEN_FILE password_file private_key_path secret_name credential_source credential_provider " +
			"X-Amz-Algorithm signature_algorithm monkey keyword author keys max-keys page", ""},
	} {
		for name := range strings.FieldsSeq(row.names) {
			for where, text := range map[string]string{"text": "a=1 " + name + "=4096000 b", "url": "https://h/?a=1&" + name + "=4096000&b=2"} {
				want := text
				if strings.Contains(row.where, where) {
					want = strings.Replace(text, "4096000", Mark, 1)
				}
				if got := String(text); got != want {
					t.Errorf("%s becomes %s", text, got)
				}
			}
		}
	}
	for _, text := range []string{"token_count=5", "key=orders/2024", "monkey=1", "key=photos/2026.jpg", "tokens=4096000/5000000"} {
		if got := String(text); got != text {
			t.Errorf("%s becomes %s", text, got)
		}
	}
}
