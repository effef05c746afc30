package redact

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func TestString(t *testing.T) {
	for _, row := range []struct{ in, want string }{
		// Nothing to take out.
		{"", ""},
		{"no address at all, token=abc", "no address at all, token=abc"},
		{"https://api.example.com/v1/stations?city=wroclaw&page=2#top", "https://api.example.com/v1/stations?city=wroclaw&page=2#top"},
		{"http://[::1]:8080/x", "http://[::1]:8080/x"},
		{"://", "://"},
		{"x://", "x://"},
		{"at https://example.com: timeout, https://", "at https://example.com: timeout, https://"},
		{"https://example.com/?a=%zz&b", "https://example.com/?a=%zz&b"},
		{"https://packages.example.org/@scope/pkg", "https://packages.example.org/@scope/pkg"},
		{"http://h:8080/~a@b", "http://h:8080/~a@b"},
		// User information.
		{"https://user:hunter2@host/path", "https://REDACTED@host/path"},
		{"https://token@host", "https://REDACTED@host"},
		{"redis://:hunter2@host:6379/0", "redis://REDACTED@host:6379/0"},
		{"https://a@b:hunter2@host/", "https://REDACTED@host/"},
		{"postgres://u:hun/ter2@host/db", "postgres://REDACTED@host/db"},
		{"postgres://u:hun?ter2@host/db", "postgres://REDACTED@host/db"},
		{"postgres://u:hun#ter2@host/db", "postgres://REDACTED@host/db"},
		{`parse "postgres://u:hun ter2@host/db": invalid`, `parse "postgres://REDACTED@host/db": invalid`},
		{"https://u:it'shunter2@host/", "https://REDACTED@host/"},
		// Queries.
		{"https://h/?X-Amz-Signature=abc&x-amz-credential=AKIA%2F2026&X-Amz-Date=20260101T0Z", "https://h/?X-Amz-Signature=REDACTED&x-amz-credential=REDACTED&X-Amz-Date=20260101T0Z"},
		{"https://h/k?X-Amz-Security-Token=abc==&X-Amz-Expires=60", "https://h/k?X-Amz-Security-Token=REDACTED&X-Amz-Expires=60"},
		{"https://h/?sig=abc&sv=2020&se=2026", "https://h/?sig=REDACTED&sv=2020&se=2026"},
		{"https://h/?X-Goog-Signature=abc&GoogleAccessId=me", "https://h/?X-Goog-Signature=REDACTED&GoogleAccessId=REDACTED"},
		{"https://h/?AWSAccessKeyId=abc&Signature=def", "https://h/?AWSAccessKeyId=REDACTED&Signature=REDACTED"},
		{"https://h/?token=abc;key=def", "https://h/?token=REDACTED;key=REDACTED"},
		{"https://h/?access_token=a&id-token=b&apiKey=c&API_KEY=d&client_secret=e", "https://h/?access_token=REDACTED&id-token=REDACTED&apiKey=REDACTED&API_KEY=REDACTED&client_secret=REDACTED"},
		{"https://h/?authToken=a&userPassword=b&secretKey=c&sessionToken=d", "https://h/?authToken=REDACTED&userPassword=REDACTED&secretKey=REDACTED&sessionToken=REDACTED"},
		{"https://h/?tok%65n=abc", "https://h/?tok%65n=REDACTED"},
		{"https://h/?token=&key", "https://h/?token=&key"},
		{"https://h/?token=a=b?c", "https://h/?token=REDACTED"},
		{"https://h/?a=%zz&token=abc", "https://h/?a=%zz&token=REDACTED"},
		{"https://h/cb#access_token=abc&state=1", "https://h/cb#access_token=REDACTED&state=1"},
		{"https://h/?a=1&amp;token=abc&amp;b=2", "https://h/?a=1&amp;token=REDACTED&amp;b=2"},
		{`https://h/?a=1\u0026token=abc\u0026b=2`, `https://h/?a=1\u0026token=REDACTED\u0026b=2`},
		// In a text, and several.
		{`Get "https://h/?token=abc": EOF`, `Get "https://h/?token=REDACTED": EOF`},
		{`Get "https://b/it's.csv?X-Amz-Signature=abc": EOF`, `Get "https://b/it's.csv?X-Amz-Signature=REDACTED": EOF`},
		{`Get "https://h/?q=a b&token=abc": EOF`, `Get "https://h/?q=a b&token=REDACTED": EOF`},
		{`Get "https://h/?q=\"&token=abc": EOF`, `Get "https://h/?q=\"&token=REDACTED": EOF`},
		{"<https://u:p@h/?key=abc> and (http://v:q@i/)", "<https://REDACTED@h/?key=REDACTED> and (http://REDACTED@i/)"},
		{"'https://u:p@h/x', https://h/?sig=1", "'https://REDACTED@h/x', https://h/?sig=REDACTED"},
		{"first https://u:p@h\nsecond s3://k:s@b/c", "first https://REDACTED@h\nsecond s3://REDACTED@b/c"},
		// One within another.
		{"https://proxy/?url=https://u:p@h/", "https://proxy/?url=https://REDACTED@h/"},
		{"https://proxy/https://u:p@h/x", "https://proxy/https://REDACTED@h/x"},
		{"https://proxy/?url=https%3A%2F%2Fu%3Ap%40h%2F&a=1", "https://proxy/?url=REDACTED&a=1"},
		{"https://proxy/?url=https%3A%2F%2Fh%2F%3Ftoken%3Dabc&a=1", "https://proxy/?url=REDACTED&a=1"},
		{"a://b?c=a://b?c=a://b?c=a://b", "a://b?c=a://b?c=a://b?c=REDACTED"},
		{"https://proxy/?https://u:p@h/", "https://proxy/?https://REDACTED@h/"},
		{"https://proxy/?https://u:p@h/?a=b&c=d", "https://proxy/?https://REDACTED@h/?a=b&c=d"},
		{"https://proxy/?next=/a?sig=abc&b=/c?d=1", "https://proxy/?next=/a?sig=REDACTED&b=/c?d=1"},
		{"https://proxy/?a?sig=abc", "https://proxy/?a?sig=REDACTED"},
		{"https://proxy/?url=https%3A%2F%2Fh%2F&a=1", "https://proxy/?url=https%3A%2F%2Fh%2F&a=1"},
	} {
		if got := String(row.in); got != row.want {
			t.Errorf("%s\nbecomes %s\nwant    %s", row.in, got, row.want)
		}
		if got := String(row.want); got != row.want {
			t.Errorf("what was redacted, %s, becomes %s", row.want, got)
		}
	}
}

// Every name that grants access somewhere.
func TestSecretNames(t *testing.T) {
	for name := range strings.FieldsSeq(`
		X-Amz-Signature X-Amz-Credential X-Amz-Security-Token AWSAccessKeyId Signature
		X-Goog-Signature X-Goog-Credential GoogleAccessId sig token key access_token refresh_token id_token
		auth_token authToken api_key apikey apiKey api-key x-api-key subscription-key Ocp-Apim-Subscription-Key
		password passwd pwd secret client_secret clientSecret secret_key secretKey private_key auth jwt code
		session sessionToken session_id sessionid jsessionid access_key accessKeyId X-OSS-AccessKeyId OSSAccessKeyId
		SharedAccessSignature credentials hmac bearer authorization passphrase Policy`) {
		in := "https://h/?a=1&" + name + "=hunter2&b=2"
		if got, want := String(in), "https://h/?a=1&"+name+"="+Mark+"&b=2"; got != want {
			t.Errorf("%s becomes %s", in, got)
		}
	}
	for name := range strings.FieldsSeq("page limit q city prefix delimiter max-keys X-Amz-Date X-Amz-Expires X-Amz-Algorithm partNumber uploadId versionId keyword monkey author") {
		if in := "https://h/?" + name + "=hunter2"; String(in) != in {
			t.Errorf("%s becomes %s", in, String(in))
		}
	}
}

// What net/http and net/url say of a URL does not show its secrets.
func TestErrorsOfTheStandardLibrary(t *testing.T) {
	for _, raw := range []string{
		"https://user:hunter2@host/\x7f", "https://user:hunter2@host:port/", "https://user:hun%zzter2@host/",
		"https://host:port/it's?token=hunter2", "postgres://u:hunter2/x@host/db", "https://u:p@host/%zz?sig=hunter2",
	} {
		_, err := url.Parse(raw)
		if err == nil {
			t.Fatalf("%q is parsed", raw)
		}
		if got := String(err.Error()); strings.Contains(got, "hun") {
			t.Errorf("%v\nbecomes %s", err, got)
		}
	}
	for _, raw := range []string{
		"https://host/it's?token=hunter2", "https://host/?a=b c&token=hunter2", "https://us'er:hunter2@host/'",
		"https://host/a\"b?a=\"&key=hunter2", "https://host/?a=<x>&key=hunter2#`",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{u.String(), (&url.Error{Op: "Get", URL: u.String(), Err: fmt.Errorf("EOF")}).Error()} {
			if got := String(text); strings.Contains(got, "hunter2") && text[0] == 'G' {
				t.Errorf("%s\nbecomes %s", text, got)
			}
		}
	}
}

// URLs nested without end, and encoded over and over, take no long time.
func TestNestedWithoutEnd(t *testing.T) {
	for _, part := range []string{"https://u:hunter2@h/?a=%252525+", "https://h/?a=/x?sig=hunter2", "?a=https://u:hunter2@", "a://"} {
		if got := String("a://b?" + strings.Repeat(part, 1_000)); strings.Contains(got, "hunter2") {
			t.Errorf("%s becomes %.200s", part, got)
		}
	}
}

// FuzzString takes any text: it never panics, leaves a text as it is that has
// none of the characters of a URL, a pair or a sentence, and is done after one turn.
func FuzzString(f *testing.F) {
	for _, s := range []string{
		"", "://", "a://b", "https://u:p@h/?token=x#key=y", "a://a://a://@", `"https://h/?token=\"" x`,
		"https://h/?url=https%3A%2F%2Fu%3Ap%40h", "x://\xff@\xff?\xff=\xff", "a://b?token=c'd e", "a://:@/?@",
		"u:p@tcp(h:1)/d", `password='a b'`, `{"token":"a"}`, "a%3a%2f%2fu:p@h", "eyJhbGciOiJI.eyJhIjox.x", `password "x": token=y`, "Pwd=a; pwd=b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := String(s)
		if !strings.ContainsAny(s, ":=% ") && !strings.Contains(s, "eyJ") && got != s {
			t.Fatalf("%q has nothing secret and becomes %q", s, got)
		}
		if again := String(got); again != got {
			t.Fatalf("%q becomes %q, and then %q", s, got, again)
		}
	})
}

// FuzzSecret plants a secret in a URL, and the URL in a text: it never survives.
func FuzzSecret(f *testing.F) {
	f.Add("Get ", "api.example.com", "v1/x's", "page=1", ": EOF")
	f.Add("'", "h", "", "", "'")
	f.Add("\"", "h:80", "@scope/p", "a;b;url=http://x", "\" \"")
	f.Fuzz(func(t *testing.T, before, host, path, query, after string) {
		const secret = "hunter2hunter2"
		for _, part := range []string{host, path, query} {
			if strings.ContainsAny(part, " \t\n\r\v\f\"<>`\\#") || strings.Contains(part, secret[:4]) {
				return // ends a URL, or its query
			}
		}
		if strings.ContainsAny(host, "/?#") || strings.Contains(before+after, secret[:4]) {
			return
		}
		for _, address := range []string{
			"https://user:" + secret + "@" + host + "/" + path + "?" + query,
			"https://" + host + "/" + path + "?" + query + "&X-Amz-Signature=" + secret,
			"https://" + host + "/" + path + "?token=" + secret + "&" + query,
		} {
			if got := String(before + address + after); strings.Contains(got, secret[:4]) {
				t.Fatalf("%q\nbecomes %q", before+address+after, got)
			}
		}
	})
}

// A long text is cut, and a secret on either side of the cut is still found.
func TestMessageIsCut(t *testing.T) {
	for _, secret := range []string{"https://user:hunter2hunter2@h/x", `password="hunter2 hunter2"`, "Authorization: Bearer hunter2hunter2"} {
		for at := longest - 40; at < longest+5; at += 3 {
			long := strings.Repeat("a word ", longest)[:at-1] + " " + secret + strings.Repeat(" word", 4*longest)
			got := Message(long)
			if len(got) > longest+40 || strings.Contains(got, "hunt") || !strings.HasSuffix(got, fmt.Sprintf(" ... (%d bytes)", len(long))) {
				t.Fatalf("%s at %d: %d bytes, end %s", secret, at, len(got), got[max(len(got)-80, 0):])
			}
		}
	}
	if whole := strings.Repeat("x", longest+beyond); Message(whole) != whole {
		t.Error("a text of the greatest length is cut")
	}
}
