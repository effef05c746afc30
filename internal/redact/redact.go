// Package redact takes secrets out of text that is about to be shown.
package redact

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Mark stands where a secret was.
const Mark = "REDACTED"

//nolint:gochecknoglobals // constants, some of which are compiled when they are needed
var (
	// urls finds what looks like a URL: in double quotes, as errors of net/http
	// have it, up to the closing one, since a URL's query may hold any
	// character; else up to white space or what cannot be in one. An apostrophe
	// can: object keys have them.
	urls = regexp.MustCompile(`"[A-Za-z][A-Za-z0-9+.-]*://(?:[^"\\\n]|\\.)*"|[A-Za-z][A-Za-z0-9+.-]*://[^\s"<>` + "`" + `]+`)

	// port finds the part of a password that net/url took for a port.
	port = regexp.MustCompile(`invalid port ":[^"]*"`)

	// slashless finds the user information of a URL that lacks a slash or both.
	slashless = regexp.MustCompile(`(?i)\b(?:https?|rediss?|valkeys?|unix):/?[^\s"'/@][^\s"'@]*@`)

	// schemes finds the credentials of an Authorization header.
	schemes = regexp.MustCompile(`(?i)\b(?:bearer|basic) [A-Za-z0-9+/._~=-]{8,}`)

	// fields finds header fields that hold credentials, as an HTTP message or a
	// map that is printed has them, up to the end of the line or of the value.
	fields = regexp.MustCompile(`(?i)(\b(?:proxy-)?authorization["']?: ?\[?["']?|\b(?:set-)?cookie["']?: ?\[?["']?|` +
		`\bx-[a-z-]*(?:security-token|customer-key(?:-md5)?|api-key|auth-token)["']?: ?\[?["']?)[^"'\r\n\]]+`)

	// pairs finds what stands beside a name that holds one of the words of secretParts: name=value, name: value, in
	// quotes or not, as configurations, JSON, YAML and Go print it, and with = as in a query that is part of a URL.
	pairs = lazily(`(?i)([a-z0-9_.-]*(?:` + strings.Join(secretParts[:], "|") + `|api[_-]key|access[_-]?key|` +
		`(?:private|account|encryption|signing|master|shared|customer|subscription)[_-]key|session[_-]id)[a-z0-9_.-]*)` +
		`(\\*["']?)( ?= ?|%3d|: ?\[?)("(?:[^"\\]|\\.)*"|\\"(?:[^"\\]|\\\\\\"|\\[^"])*\\"|\\+"(?:[^"\\]|\\[^"])*\\"|''+[^']+''+|'\\''[^']+'\\''|'(?:[^'\\]|\\.|\'\')*'|[^\s"'&,;<>(){}\]\\]{6,})`)

	// users finds the user information of what is no URL: user:password@tcp(host:port)/ of MySQL, user:password@host:port.
	users = lazily(`(^|[\s"'` + "`" + `(=\[{,:]|//)[^\s"'` + "`" + `(=\[{,:/@]*:(?:[^\s"']*(@[a-z0-9]*\()|[^\s"'/@]+(@(?:[A-Za-z0-9_.-]+|\[[0-9a-fA-F:.]+\])(?::[0-9]{2,5}\b|/)))`)

	// statements finds passwords in SQL and in the DSNs of ODBC, and the arguments that Redis quotes of a command that it does not know.
	statements = lazily(`(?i)(\b(?:password|passphrase|identified (?:[a-z0-9_ ]+ )?(?:by|as)(?: password)?|secret) +)(?:''+[^']+''+|'\\''[^']+'\\''|'[^']*'|"[^"]*")|(; ?pwd ?= ?)[^\s;"']+|(\bwith args beginning with:)[^\r\n]+`)

	// escaped finds a URL that is escaped as a part of another one.
	escaped = lazily(`(?i)\b[a-z][a-z0-9+.-]*%3a(?:%2f|/){2}[^\s"'<>&]+`)

	// tokens finds JSON Web Tokens.
	tokens = lazily(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*`)

	// separators of query parameters: the last is & as encoding/json has it.
	separators = regexp.MustCompile(`[&;]|\\u0026`)
)

// lazily returns a function that compiles a pattern when it is called first. Few programs ever need these patterns, and the
// largest take longer than all others together.
func lazily(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}

// secret holds the query parameters, in lower case, whose values grant access.
// A name that ends in one of these words after "-", "_" or "." counts as well.
//
//nolint:gochecknoglobals // a constant table
var secret = map[string]bool{
	"sig": true, "key": true, "pwd": true, "pass": true, "auth": true, "code": true, "jwt": true,
	"session": true, "appid": true, "googleaccessid": true, "policy": true, "hmac": true,
}

// secretParts are the words that make a name a secret's wherever they are in it.
//
//nolint:gochecknoglobals // a constant table
var secretParts = [...]string{
	"token", "secret", "passw", "passphrase", "signature", "credential", "accesskey", "apikey",
	"privatekey", "accountkey", "encryptionkey", "signingkey", "masterkey", "sharedkey", "subscriptionkey", "sessionid", "authorization", "bearer",
}

// about are the ends of names that say something about a secret and do not hold it: token_count, SignatureVersion,
// max_tokens, AWS_WEB_IDENTITY_TOKEN_FILE. That of an identifier is none: a secret_id is a secret.
//
//nolint:gochecknoglobals // a constant table
var about = [...]string{
	"count", "tokens", "type", "version", "size", "length", "limit", "ttl", "expires", "expiresin", "expiresat", "expiry",
	"expiration", "lifetime", "file", "path", "name", "source", "provider", "algorithm",
}

// String returns s with every URL in it stripped of its user information and
// of the values of query parameters that look like signatures, keys or tokens
// (X-Amz-Signature, X-Amz-Credential, sig, token, key, ...), and without the
// credentials that are not in a URL but are known by what stands before them: an
// Authorization header's, a customer key's, those of name=value and "name": value, a
// DSN's. All else stays
// byte for byte. In doubt it takes out too much.
func String(s string) string {
	if !suspicious(s) {
		return s
	}
	if strings.Contains(s, "://") {
		s = port.ReplaceAllString(within(s, 0), `invalid port ":`+Mark+`"`)
	}
	return outside(s)
}

// longest is how many bytes Message shows, and beyond how many more it looks for secrets.
const (
	longest = 4 << 10
	beyond  = 1 << 10
)

// Message returns String(s) for a log or an error, cut between two words if s is longer than 5 KiB. Servers choose the
// texts of errors, that of a gRPC status has up to 16 MiB, and String takes some microseconds a byte.
func Message(s string) string {
	if len(s) <= longest+beyond {
		return String(s)
	}
	begin := String(s[:longest+beyond]) // a secret on both sides of the cut is found
	begin = begin[:min(len(begin), longest)]
	begin = begin[:max(strings.LastIndexAny(begin, " \t\r\n"), 0)]
	return begin + " ... (" + strconv.Itoa(len(s)) + " bytes)"
}

// suspicious reports whether s has one of the characters without which no
// pattern finds a secret. Most names have none, and each event has two names.
func suspicious(s string) bool {
	return strings.IndexByte(s, ' ') >= 0 || strings.IndexByte(s, '=') >= 0 || strings.IndexByte(s, ':') >= 0 ||
		strings.IndexByte(s, '%') >= 0 || strings.Contains(s, "eyJ")
}

// deepest is how many URLs may be within one another; what is deeper goes.
const deepest = 2

// within redacts the URLs in s, which is itself within depth URLs.
func within(s string, depth int) string {
	switch {
	case !strings.Contains(s, "://"):
		return s
	case depth > deepest:
		return Mark
	}
	return urls.ReplaceAllStringFunc(s, func(s string) string {
		if inner, ok := strings.CutPrefix(s, `"`); ok {
			return `"` + address(strings.TrimSuffix(inner, `"`), depth+1) + `"`
		}
		trimmed := strings.TrimRight(s, `'),.;:!\`)
		return address(trimmed, depth+1) + s[len(trimmed):]
	})
}

// address redacts one URL. It works on the text, so that a URL that does not
// parse is redacted all the same.
func address(s string, depth int) string {
	scheme, rest, _ := strings.Cut(s, "://")
	host := hostAt(rest)
	user, rest := rest[:host], rest[host:]
	rest, fragment, hasFragment := strings.Cut(rest, "#")
	path, query, hasQuery := strings.Cut(rest, "?")
	path = within(path, depth)
	if strings.ContainsAny(user, "?#") { // or the path is part of a query after all
		path = parameters(path, depth)
	}
	if user != "" {
		user = Mark + "@"
	}
	s = scheme + "://" + user + path
	if hasQuery {
		s += "?" + parameters(query, depth)
	}
	if hasFragment {
		s += "#" + parameters(fragment, depth) // OAuth's implicit tokens travel there
	}
	return s
}

// hostAt returns where in the part of a URL after "://" the host begins, which
// is after the user information and its "@". A password with a slash in it
// should have been escaped and was not: it is known by what then looks like a
// port and is none.
func hostAt(rest string) int {
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority := rest[:end]
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		return at + 1
	}
	colon := strings.LastIndexByte(authority, ':')
	if colon < 0 || strings.HasSuffix(authority, "]") || strings.Trim(authority[colon+1:], "0123456789") == "" {
		return 0
	}
	return strings.LastIndexByte(rest, '@') + 1
}

// parameters redacts the values in a query.
func parameters(query string, depth int) string {
	var b strings.Builder
	for query != "" {
		pair, separator, next := query, "", ""
		if at := separators.FindStringIndex(query); at != nil {
			pair, separator, next = query[:at[0]], query[at[0]:at[1]], query[at[1]:]
		}
		if name, value, ok := strings.Cut(pair, "="); ok && !strings.Contains(name, "://") {
			pair = name + "=" + parameter(name, value, depth)
		} else {
			pair = within(pair, depth)
		}
		b.WriteString(pair)
		b.WriteString(separator)
		query = next
	}
	return b.String()
}

// parameter redacts the value of one parameter, which may be a URL again, or
// a path with a query.
func parameter(name, value string, depth int) string {
	if value != "" && isSecret(name) {
		return Mark
	}
	value = within(value, depth)
	switch path, query, ok := strings.Cut(value, "?"); {
	case ok && depth > deepest:
		return Mark
	case ok:
		value = path + "?" + parameters(query, depth+1)
	}
	if plain, err := url.QueryUnescape(value); err == nil && plain != value && within(plain, depth) != plain {
		return Mark
	}
	return value
}

// isSecret tells by its name whether a query parameter grants access.
func isSecret(name string) bool {
	if plain, err := url.QueryUnescape(name); err == nil {
		name = plain
	}
	name = strings.ToLower(name)
	if secret[name] || secret[name[strings.LastIndexAny(name, "-_.?")+1:]] {
		return true
	}
	return isPlainlySecret(name) || secret[bare.Replace(name)]
}

// bare takes what separates words out of a name.
var bare = strings.NewReplacer("-", "", "_", "", ".", "") //nolint:gochecknoglobals // a constant

// isPlainlySecret is isSecret without the words that mean something else outside
// of URLs: the key of an object is no secret. A name that ends as one of about is none either.
func isPlainlySecret(name string) bool {
	name = bare.Replace(strings.ToLower(name))
	for _, end := range about {
		if strings.HasSuffix(name, end) {
			return false
		}
	}
	for _, part := range secretParts {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
