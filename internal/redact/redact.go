// Package redact takes secrets out of text that is about to be shown.
package redact

import (
	"net/url"
	"regexp"
	"strings"
)

// secret holds the query parameters, in lower case, whose values grant access.
// A name that ends in one of these words after "-", "_" or "." counts as well.
//
//nolint:gochecknoglobals // a constant table
var secret = map[string]bool{
	"signature": true, "sig": true, "credential": true, "token": true, "key": true,
	"secret": true, "password": true, "passwd": true, "pwd": true, "auth": true,
	"apikey": true, "code": true, "jwt": true, "session": true, "awsaccesskeyid": true,
	"accesskey": true, "appid": true, "accesstoken": true, "googleaccessid": true,
	"clientsecret": true, "policy": true,
}

// urls finds what looks like a URL, up to white space or a quote.
var urls = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>` + "`" + `]+`)

// Mark stands where a secret was.
const Mark = "REDACTED"

// String returns s with every URL in it stripped of its user information and
// of the values of query parameters that look like signatures, keys or tokens
// (X-Amz-Signature, X-Amz-Credential, sig, token, key, ...). All else stays
// byte for byte.
func String(s string) string {
	if !strings.Contains(s, "://") {
		return s
	}
	return urls.ReplaceAllStringFunc(s, address)
}

// address redacts one URL. It works on the text, so that a URL that does not
// parse is redacted all the same.
func address(s string) string {
	scheme, rest, _ := strings.Cut(s, "://")
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, path := rest[:end], rest[end:]
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		authority = Mark + authority[at:]
	}
	path, fragment, hasFragment := strings.Cut(path, "#")
	path, query, hasQuery := strings.Cut(path, "?")
	s = scheme + "://" + authority + path
	if hasQuery {
		s += "?" + parameters(query)
	}
	if hasFragment {
		s += "#" + parameters(fragment) // OAuth's implicit tokens travel there
	}
	return s
}

// parameters redacts the values in a query.
func parameters(query string) string {
	var b strings.Builder
	for query != "" {
		end := strings.IndexAny(query, "&;")
		pair, separator := query, ""
		if end >= 0 {
			pair, separator, query = query[:end], query[end:end+1], query[end+1:]
		} else {
			query = ""
		}
		name, value, found := strings.Cut(pair, "=")
		if found && value != "" && isSecret(name) {
			pair = name + "=" + Mark
		}
		b.WriteString(pair)
		b.WriteString(separator)
	}
	return b.String()
}

// isSecret tells by its name whether a query parameter grants access.
func isSecret(name string) bool {
	if plain, err := url.QueryUnescape(name); err == nil {
		name = plain
	}
	name = strings.ToLower(name)
	if secret[name] || secret[strings.NewReplacer("-", "", "_", "", ".", "").Replace(name)] {
		return true
	}
	last := strings.LastIndexAny(name, "-_.")
	return last >= 0 && secret[name[last+1:]]
}
