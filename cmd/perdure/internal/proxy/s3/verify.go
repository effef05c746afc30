package s3

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

const (
	algorithm       = "AWS4-HMAC-SHA256"
	contentSHA256   = "X-Amz-Content-Sha256"
	unsignedPayload = "UNSIGNED-PAYLOAD"
	timeLayout      = "20060102T150405Z"

	maxSkew    = 15 * time.Minute   // between the clocks of client and proxy, as of S3
	maxExpires = 7 * 24 * time.Hour // of a presigned URL, as of S3
)

// A signature is that of a client's request.
type signature struct {
	date    string   // as X-Amz-Date
	scope   string   // 20060102/region/s3/aws4_request
	names   []string // of the signed headers
	value   string   // hex
	payload string   // X-Amz-Content-Sha256
	key     []byte   // that chunks are signed with; nil if the client is not checked
}

// verify returns the signature of r, or a Failure if it is not one of k over all that r says.
func (k Key) verify(r *http.Request, query url.Values) (*signature, error) {
	var s *signature
	var err error
	if query.Has("X-Amz-Algorithm") || query.Has("X-Amz-Signature") {
		s, err = k.fromQuery(r, query)
	} else {
		s, err = k.fromHeader(r)
	}
	if err != nil {
		return nil, err
	}
	if name := s.unsigned(r); name != "" {
		return nil, refusal(http.StatusForbidden, "AccessDenied", "the header "+name+" is not signed")
	}
	s.key = k.derive(s.scope)
	for _, path := range []string{escape(r.URL.Path), r.URL.EscapedPath()} {
		text := algorithm + "\n" + s.date + "\n" + s.scope + "\n" + hexOf([]byte(s.canonical(r, path, query)))
		if hmac.Equal([]byte(s.value), []byte(hex.EncodeToString(sum(s.key, text)))) {
			return s, nil
		}
	}
	return nil, refusal(http.StatusForbidden, "SignatureDoesNotMatch", "the signature is not one of the key of perdure proxy over this request")
}

// fromHeader reads the signature in the header of a request.
func (k Key) fromHeader(r *http.Request) (*signature, error) {
	text := r.Header.Get("Authorization")
	rest, ok := strings.CutPrefix(text, algorithm+" ")
	switch {
	case text == "" && r.URL.Query().Has("AWSAccessKeyId"): // a presigned URL of Version 2, boto3's default
		return nil, refusal(http.StatusBadRequest, "InvalidRequest", "perdure proxy accepts URLs that are presigned with AWS Signature Version 4 only: in boto3, Config(signature_version='s3v4')")
	case text == "":
		return nil, refusal(http.StatusForbidden, "AccessDenied", "perdure proxy signs only for clients that sign with its key")
	case !ok || len(r.Header["Authorization"]) > 1:
		return nil, refusal(http.StatusBadRequest, "InvalidRequest", "perdure proxy accepts AWS Signature Version 4 ("+algorithm+") only")
	}
	s := &signature{date: r.Header.Get("X-Amz-Date"), payload: r.Header.Get(contentSHA256)}
	var credential string
	for field := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch name {
		case "Credential":
			credential = value
		case "SignedHeaders":
			s.names = strings.Split(value, ";")
		case "Signature":
			s.value = value
		}
	}
	if s.payload == "" {
		return nil, refusal(http.StatusBadRequest, "MissingSecurityHeader", "the header "+contentSHA256+" is missing")
	}
	at, err := k.accept(s, credential)
	if err != nil {
		return nil, err
	}
	if time.Since(at).Abs() > maxSkew {
		return nil, tooSkewed()
	}
	return s, nil
}

// fromQuery reads the signature of a presigned URL.
func (k Key) fromQuery(r *http.Request, query url.Values) (*signature, error) {
	for name, values := range query {
		if isAuthParameter(strings.ToLower(name)) && len(values) > 1 {
			return nil, refusal(http.StatusBadRequest, "AuthorizationQueryParametersError", name+" is given twice")
		}
	}
	if query.Get("X-Amz-Algorithm") != algorithm || r.Header.Get("Authorization") != "" {
		return nil, refusal(http.StatusBadRequest, "AuthorizationQueryParametersError", "perdure proxy accepts one signature, of "+algorithm)
	}
	s := &signature{
		date: query.Get("X-Amz-Date"), names: strings.Split(query.Get("X-Amz-SignedHeaders"), ";"), value: query.Get("X-Amz-Signature"),
		payload: unsignedPayload,
	}
	if payload := r.Header.Get(contentSHA256); payload != "" {
		s.payload = payload
	} else if query.Has(contentSHA256) {
		s.payload = query.Get(contentSHA256)
	}
	at, err := k.accept(s, query.Get("X-Amz-Credential"))
	if err != nil {
		return nil, err
	}
	seconds, err := strconv.ParseInt(query.Get("X-Amz-Expires"), 10, 32)
	lasts := time.Duration(seconds) * time.Second
	switch age := time.Since(at); {
	case err != nil || lasts <= 0 || lasts > maxExpires:
		return nil, refusal(http.StatusBadRequest, "AuthorizationQueryParametersError", "X-Amz-Expires must be from 1 to 604800")
	case age > lasts:
		return nil, refusal(http.StatusForbidden, "AccessDenied", "Request has expired")
	case age < -maxSkew:
		return nil, tooSkewed()
	}
	return s, nil
}

func tooSkewed() error {
	return refusal(http.StatusForbidden, "RequestTimeTooSkewed", "the clocks of the client and of this host differ by more than 15 minutes")
}

// accept checks the credential of a signature, and returns the time of the signature.
func (k Key) accept(s *signature, credential string) (time.Time, error) {
	id, scope, _ := strings.Cut(credential, "/")
	parts := strings.Split(scope, "/")
	at, err := time.Parse(timeLayout, s.date)
	switch {
	case subtle.ConstantTimeCompare([]byte(id), []byte(k.ID)) != 1:
		return at, refusal(http.StatusForbidden, "InvalidAccessKeyId", "perdure proxy does not know this access key: clients sign with the key of the proxy, not with the store's")
	case err != nil || len(parts) != 4 || parts[0] != s.date[:8] || parts[2] != "s3" || parts[3] != "aws4_request" || !slices.Contains(s.names, "host"):
		return at, refusal(http.StatusBadRequest, "AuthorizationHeaderMalformed", "the credential must be of the day of X-Amz-Date and of the service s3, and the header host signed")
	}
	s.scope = scope
	return at, nil
}

// unsigned returns the name of a header that must be signed and is not, or "". Some stores take an underscore for a hyphen.
func (s *signature) unsigned(r *http.Request) string {
	for name := range r.Header {
		lower := strings.ToLower(name)
		if strings.HasPrefix(strings.ReplaceAll(lower, "_", "-"), "x-amz-") && !slices.Contains(s.names, lower) {
			return lower
		}
	}
	return ""
}

// canonical returns the canonical request.
func (s *signature) canonical(r *http.Request, path string, query url.Values) string {
	var b strings.Builder
	b.WriteString(r.Method + "\n" + path + "\n" + canonicalQuery(query) + "\n")
	for _, name := range s.names {
		b.WriteString(name + ":" + headerValue(r, name) + "\n")
	}
	b.WriteString("\n" + strings.Join(s.names, ";") + "\n" + s.payload)
	return b.String()
}

// canonicalQuery returns the query as it is signed.
func canonicalQuery(query url.Values) string {
	var pairs []string
	for name, values := range query {
		if name == "X-Amz-Signature" {
			continue
		}
		for _, value := range values {
			pairs = append(pairs, escapeAll(name)+"="+escapeAll(value))
		}
	}
	slices.SortFunc(pairs, func(a, b string) int { // by name, then by value: "=" is not part of either
		return strings.Compare(strings.Replace(a, "=", "\x00", 1), strings.Replace(b, "=", "\x00", 1))
	})
	return strings.Join(pairs, "&")
}

// headerValue returns the value of a header as it is signed.
func headerValue(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10)
	case "transfer-encoding":
		return strings.Join(r.TransferEncoding, ",")
	}
	values := slices.Clone(r.Header.Values(name))
	for i, value := range values {
		values[i] = strings.Join(strings.FieldsFunc(value, func(c rune) bool { return c == ' ' }), " ")
	}
	return strings.Join(values, ",")
}

// derive returns the signing key of a scope.
func (k Key) derive(scope string) []byte {
	key := []byte("AWS4" + k.Secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = sum(key, part)
	}
	return key
}

func sum(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func hexOf(b []byte) string {
	digest := sha256.Sum256(b)
	return hex.EncodeToString(digest[:])
}

// escape escapes a path as S3 signs it.
func escape(path string) string {
	if path == "" {
		return "/"
	}
	return strings.ReplaceAll(escapeAll(path), "%2F", "/")
}

// escapeAll escapes everything but the unreserved characters.
func escapeAll(text string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		switch c := text[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~", c) >= 0:
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}

// A Key is what clients sign with.
type Key struct{ ID, Secret string }

// NewKey returns a random Key.
func NewKey() Key {
	return Key{ID: "PERDURE" + rand.Text()[:13], Secret: rand.Text() + rand.Text()[:14]}
}

// LoadKey reads a Key from a file in the format of ~/.aws/credentials. If the file does not exist, LoadKey creates it with a
// new Key. A file that others can read is refused. Errors name field, and never the secret.
func LoadKey(field, path string) (Key, error) {
	k, err := readKey(field, path)
	if errors.Is(err, fs.ErrNotExist) {
		k, err = createKey(path)
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return Key{}, fmt.Errorf("%s: %w", field, err)
	}
	return k, err
}

func readKey(field, path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return Key{}, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return Key{}, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return Key{}, setting.Bad(field, path, "a file that only this user can read (chmod 600)")
	}
	text, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return Key{}, err
	}
	var k Key
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, "=")
		switch strings.TrimSpace(name) {
		case "aws_access_key_id":
			k.ID = strings.TrimSpace(value)
		case "aws_secret_access_key":
			k.Secret = strings.TrimSpace(value)
		}
	}
	if len(k.ID) < 3 || strings.ContainsAny(k.ID, "/,") || len(k.Secret) < 16 {
		return Key{}, setting.Bad(field, path, "a file with aws_access_key_id and, of 16 characters or more, aws_secret_access_key")
	}
	return k, nil
}

func createKey(path string) (Key, error) {
	k := NewKey()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Key{}, err
	}
	_, err = fmt.Fprintf(f, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", k.ID, k.Secret)
	return k, errors.Join(err, f.Close())
}
