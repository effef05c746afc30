package secrettest

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strings"
	"testing"
)

// Each text has a secret, which is found in each form.
func TestFind(t *testing.T) {
	for _, text := range append(Texts(), AccessKey, SecretKey, CustomerKeyField(), BasicAuth()) {
		for _, form := range []string{
			text, url.QueryEscape(text), hex.EncodeToString([]byte(text)), base64.StdEncoding.EncodeToString([]byte(text)),
			base64.URLEncoding.EncodeToString([]byte("a" + text)), base64.StdEncoding.EncodeToString([]byte("ab" + text)),
		} {
			if len(Find(form)) == 0 && strings.Contains(text, "hunter2") {
				t.Errorf("%s as %s: not found", text, form)
			}
		}
		if len(Find(text)) == 0 {
			t.Errorf("%s: not found", text)
		}
	}
	if found := Find("REDACTED, and user, key and token without a value"); found != nil {
		t.Error(found)
	}
}
