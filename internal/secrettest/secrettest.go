// Package secrettest has secrets of each kind, in the texts that real errors, names and files have them in, and finds them
// in what a test has collected. The tests of all modules share it.
package secrettest

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// The secrets. Each has the word hunter2, or is the base64 of it, and no other text of a test has.
const (
	Password    = "hunter2-password"
	Signature   = "hunter2signature"
	Token       = "hunter2.bearer.token" //nolint:gosec // of a test
	Cookie      = "hunter2-cookie"
	AccessKey   = "AKIAHUNTER2HUNTER2"                       //nolint:gosec // of a test
	SecretKey   = "hunter2/S3/secret/key/of/forty/letters12" //nolint:gosec // of a test
	CustomerKey = "hunter2 SSE-C key of 32 letters!"
	JWT         = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJodW50ZXIyIn0.aHVudGVyMi1zaWduYXR1cmU" //nolint:gosec // of a test
)

// BasicAuth is the credentials of user and [Password], as a header field has them.
func BasicAuth() string { return base64.StdEncoding.EncodeToString([]byte("user:" + Password)) }

// CustomerKeyField is [CustomerKey] as a header field has it.
func CustomerKeyField() string { return base64.StdEncoding.EncodeToString([]byte(CustomerKey)) }

// SignedURL returns a URL of a host, with a password and the parameters that sign it.
func SignedURL(host string) string {
	return "http://user:" + Password + "@" + host + "/x?X-Amz-Signature=" + Signature + "&token=" + Token + "&X-Amz-Credential=" + AccessKey + "%2Fs3"
}

// Texts returns each kind of text with a secret in it. They are one line each.
func Texts() []string {
	address := SignedURL("127.0.0.1:1")
	return []string{
		// URLs and header fields.
		`Get "` + address + `": EOF`, address, "fetch " + url.QueryEscape(address), "//user:" + Password + "@host/x",
		"Authorization: Bearer " + Token, "got 401 for Bearer " + Token, "Basic " + BasicAuth() + " refused",
		fmt.Sprint(map[string][]string{"Authorization": {"Bearer " + Token}, "Cookie": {"session=" + Cookie}, "X-Vault-Token": {Token}}),
		"Set-Cookie: session=" + Cookie + "; Path=/", "token " + JWT + " has expired",
		"X-Amz-Server-Side-Encryption-Customer-Key: " + CustomerKeyField(),
		"AWS4-HMAC-SHA256 Credential=" + AccessKey + "/20260101/s3, Signature=" + Signature,
		// Configurations and bodies.
		"aws_secret_access_key=" + SecretKey, `body {"error":"no","access_token":"` + Token + `"}`, `body "{\"password\":\"` + Password + `\"}"`,
		// DSNs and what databases say.
		"postgres://user:" + Password + "@127.0.0.1:1/bikes", "cannot parse `host=127.0.0.1 user=u password=" + Password + " dbname=bikes`",
		"cannot parse `host=127.0.0.1 user=u password='" + Password + " and more' dbname=bikes`",
		"dial user:" + Password + "@tcp(127.0.0.1:1)/bikes: refused", "Server=db;User Id=sa;Pwd=" + Password + ";Database=bikes",
		"near ALTER ROLE u PASSWORD '" + Password + "': syntax error", "redis://:" + Password + "@127.0.0.1:1/0", "default:" + Password + "@127.0.0.1:6379",
		"ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `" + Password + "`, ",
		fmt.Sprintf("%+v", struct{ User, Passwd, Net string }{"u", Password, "tcp"}),
	}
}

// Find returns where text shows a secret: as it is, escaped for a URL, in base64 or in hexadecimal digits.
func Find(text string) (found []string) {
	lower := strings.ToLower(text)
	for _, form := range forms() {
		if at := strings.Index(lower, form); at >= 0 {
			found = append(found, fmt.Sprintf("%.200q", text[max(at-80, 0):]))
		}
	}
	return found
}

// forms returns what is looked for, in lower case.
func forms() []string {
	all := []string{"hunter2", strings.ToLower(JWT[strings.LastIndexByte(JWT, '.')+1:])}
	for _, s := range []string{Password, Signature, Token, Cookie, AccessKey, SecretKey, CustomerKey} {
		all = append(all, url.QueryEscape(s), hex.EncodeToString([]byte(s)))
		for pad := range 3 { // the secret may begin at each of three places in base64
			code := base64.RawStdEncoding.EncodeToString([]byte("..."[:pad] + s))
			all = append(all, code[4*min(pad, 1):len(code)-4], base64.RawURLEncoding.EncodeToString([]byte("..."[:pad] + s))[4*min(pad, 1):len(code)-4])
		}
	}
	for i := range all {
		all[i] = strings.ToLower(all[i])
	}
	slices.Sort(all)
	return slices.Compact(all)
}
