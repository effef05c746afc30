package s3_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy/s3"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// send sends a request and returns the response with its body.
func send(t *testing.T, c *http.Client, req *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

// unix sends a request to a Unix socket.
func unix(t *testing.T, path, method, url, body string) *http.Response {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, _ := send(t, &http.Client{Transport: transport}, req)
	return res
}

// A sent is a request that a test signs by itself.
type sent struct {
	payload string                                           // X-Amz-Content-Sha256
	body    string                                           // as it is sent
	decoded int                                              // X-Amz-Decoded-Content-Length; 0 means no header
	trailer string                                           // X-Amz-Trailer
	key     s3.Key                                           // the zero Key means that of the proxy
	age     time.Duration                                    // of the signature; it is of the future if negative
	chunks  func(sign func(kind, rest string) string) string // makes the body
	presign int                                              // seconds; 0 means a signature in the header
	before  func(*http.Request)                              // signing
	change  func(*http.Request)                              // after signing
}

func (s sent) request(t *testing.T, endpoint string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, endpoint+"/bikes/k", strings.NewReader(s.body))
	if err != nil {
		t.Fatal(err)
	}
	if s.key.ID == "" {
		s.key = key
	}
	at := time.Now().Add(-s.age)
	if s.decoded > 0 {
		req.Header.Set("X-Amz-Decoded-Content-Length", strconv.Itoa(s.decoded))
		req.Header.Set("Content-Encoding", "aws-chunked")
	}
	if s.trailer != "" {
		req.Header.Set("X-Amz-Trailer", s.trailer)
	}
	if s.before != nil {
		s.before(req)
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	creds := aws.Credentials{AccessKeyID: s.key.ID, SecretAccessKey: s.key.Secret}
	if s.presign > 0 {
		query := req.URL.Query()
		query.Set("X-Amz-Expires", strconv.Itoa(s.presign))
		req.URL.RawQuery, req.ContentLength = query.Encode(), 0
		address, _, err := signer.PresignHTTP(t.Context(), creds, req, "UNSIGNED-PAYLOAD", "s3", "us-east-1", at)
		if err != nil {
			t.Fatal(err)
		}
		if req.URL, err = url.Parse(address); err != nil {
			t.Fatal(err)
		}
		req.ContentLength = int64(len(s.body))
	} else {
		s.signHeader(t, signer, creds, req, at)
	}
	if s.change != nil {
		s.change(req)
	}
	return req
}

// signHeader signs the header of a request at that time, and sets its body.
func (s sent) signHeader(t *testing.T, signer *v4.Signer, creds aws.Credentials, req *http.Request, at time.Time) {
	t.Helper()
	req.Header.Set("X-Amz-Content-Sha256", s.payload)
	req.ContentLength = 0 // of a body that is made below
	if err := signer.SignHTTP(t.Context(), creds, req, s.payload, "s3", "us-east-1", at); err != nil {
		t.Fatal(err)
	}
	if s.chunks != nil {
		s.body = s.chunks(chunkSigner(s.key, at.UTC(), req.Header.Get("Authorization")))
	}
	req.Body, req.ContentLength = io.NopCloser(strings.NewReader(s.body)), int64(len(s.body))
	if s.body == "" {
		req.Body = http.NoBody
	}
}

// chunkSigner returns a function that signs one chunk after the other, as the documentation of S3 says.
func chunkSigner(k s3.Key, at time.Time, authorization string) func(kind, rest string) string {
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	date, scope := at.Format("20060102T150405Z"), at.Format("20060102")+"/us-east-1/s3/aws4_request"
	signing := []byte("AWS4" + k.Secret)
	for part := range strings.SplitSeq(scope, "/") {
		signing = mac(signing, part)
	}
	_, previous, _ := strings.Cut(authorization, "Signature=")
	return func(kind, rest string) string {
		previous = hex.EncodeToString(mac(signing, "AWS4-HMAC-SHA256-"+kind+"\n"+date+"\n"+scope+"\n"+previous+"\n"+rest))
		return previous
	}
}

func hexOf(text string) string {
	digest := sha256.Sum256([]byte(text))
	return hex.EncodeToString(digest[:])
}

func crcOf(text string) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(text))))
}

// signedChunks encodes texts as signed chunks; tamper may change the result.
func signedChunks(texts []string, crc string, tamper func(string) string) func(func(kind, rest string) string) string {
	return func(sign func(kind, rest string) string) string {
		var b bytes.Buffer
		for _, text := range append(slices.Clone(texts), "") {
			fmt.Fprintf(&b, "%x;chunk-signature=%s\r\n%s", len(text), sign("PAYLOAD", hexOf("")+"\n"+hexOf(text)), text)
			if text != "" {
				b.WriteString("\r\n")
			}
		}
		if crc != "" {
			line := "x-amz-checksum-crc32:" + crc
			fmt.Fprintf(&b, "%s\r\nx-amz-trailer-signature:%s\r\n", line, sign("TRAILER", hexOf(line+"\n")))
		}
		b.WriteString("\r\n")
		if tamper != nil {
			return tamper(b.String())
		}
		return b.String()
	}
}

const crcTrailer = "x-amz-checksum-crc32"

// What a client has signed is stored, in each form of a body.
func TestFormsOfABody(t *testing.T) {
	unsigned := "3\r\nabc\r\n3\r\ndef\r\n0\r\nx-amz-checksum-crc32:" + crcOf("abcdef") + "\r\n\r\n"
	for name, s := range map[string]sent{
		"hash":                    {payload: hexOf("abcdef"), body: "abcdef"},
		"unsigned":                {payload: "UNSIGNED-PAYLOAD", body: "abcdef"},
		"presigned":               {presign: 60, body: "abcdef"},
		"signed chunks":           {payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", decoded: 6, chunks: signedChunks([]string{"abc", "def"}, "", nil)},
		"unsigned with a trailer": {payload: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", decoded: 6, trailer: crcTrailer, body: unsigned},
	} {
		store := s3test.Start(t, s3test.Options{Buckets: []string{bucket}, Script: s3test.Rules(s3test.Rule{Nth: []int{1}, Fault: s3test.SlowDown()})})
		res, text := send(t, http.DefaultClient, s.request(t, serve(t, store, key, "127.0.0.1:0")))
		if got, _ := store.Object(bucket, "k"); res.StatusCode != http.StatusOK || string(got) != "abcdef" {
			t.Errorf("%s: status %d, stored %q: %s", name, res.StatusCode, got, text)
		}
	}
}

// Nothing that its client has not signed reaches the store.
func TestRefusedRequestsStoreNothing(t *testing.T) {
	flip := func(old, now string) func(string) string {
		return func(text string) string { return strings.Replace(text, old, now, 1) }
	}
	const streaming, trailing, loose = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	two := []string{"uvw", "xyz"} // not hexadecimal, so that no signature has them
	// No body is longer than the 256 KiB that a server still reads after its response: of a longer one the client may see a reset
	// in place of the response.
	for name, test := range map[string]struct {
		sent

		code string
	}{
		"no signature":         {sent{payload: hexOf("x"), body: "x", change: func(r *http.Request) { r.Header.Del("Authorization") }}, "AccessDenied"},
		"another key":          {sent{payload: hexOf("x"), body: "x", key: s3.Key{ID: "AKIAOFTHESTORE", Secret: key.Secret}}, "InvalidAccessKeyId"},
		"another secret":       {sent{payload: hexOf("x"), body: "x", key: s3.Key{ID: key.ID, Secret: "guessed"}}, "SignatureDoesNotMatch"},
		"more of a signature":  {sent{payload: hexOf("x"), body: "x", change: func(r *http.Request) { r.Header["Authorization"][0] += "zz" }}, "SignatureDoesNotMatch"},
		"presigned, and more":  {sent{presign: 60, body: "x", change: func(r *http.Request) { r.URL.RawQuery += "zz" }}, "SignatureDoesNotMatch"},
		"more of a chunk's":    {sent{payload: streaming, decoded: 6, chunks: signedChunks(two, "", flip("\r\nuvw", "zz\r\nuvw"))}, "SignatureDoesNotMatch"},
		"another path":         {sent{payload: hexOf("x"), body: "x", change: func(r *http.Request) { r.URL.Path = "/bikes/other" }}, "SignatureDoesNotMatch"},
		"another query":        {sent{payload: hexOf("x"), body: "x", change: func(r *http.Request) { r.URL.RawQuery = "acl" }}, "SignatureDoesNotMatch"},
		"another method":       {sent{payload: hexOf("x"), body: "x", change: func(r *http.Request) { r.Method = http.MethodDelete }}, "SignatureDoesNotMatch"},
		"unsigned header":      {sent{payload: hexOf("x"), body: "x", change: func(r *http.Request) { r.Header.Set("X-Amz-Acl", "public-read") }}, "AccessDenied"},
		"underscores":          {sent{payload: hexOf("x"), body: "x", change: func(r *http.Request) { r.Header["X_Amz_Acl"] = []string{"public-read"} }}, "AccessDenied"},
		"another body":         {sent{payload: hexOf("x"), body: "y"}, "XAmzContentSHA256Mismatch"},
		"no body":              {sent{payload: hexOf("x"), body: ""}, "XAmzContentSHA256Mismatch"},
		"old":                  {sent{payload: hexOf("x"), body: "x", age: 16 * time.Minute}, "RequestTimeTooSkewed"},
		"of the future":        {sent{payload: hexOf("x"), body: "x", age: -16 * time.Minute}, "RequestTimeTooSkewed"},
		"presigned, replayed":  {sent{presign: 60, body: "x", age: 61 * time.Second}, "AccessDenied"},
		"presigned, extended":  {sent{presign: 60, body: "x", change: func(r *http.Request) { r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "Expires=60", "Expires=99", 1) }}, "SignatureDoesNotMatch"},
		"presigned, for ever":  {sent{presign: 700_000, body: "x"}, "AuthorizationQueryParametersError"},
		"presigned, moved":     {sent{presign: 60, body: "x", change: func(r *http.Request) { r.URL.Path = "/bikes/other" }}, "SignatureDoesNotMatch"},
		"signature V2":         {sent{payload: hexOf("x"), body: "x", change: func(r *http.Request) { r.Header.Set("Authorization", "AWS "+key.ID+":abc") }}, "InvalidRequest"},
		"presigned V2":         {sent{presign: 60, body: "x", change: func(r *http.Request) { r.URL.RawQuery = "AWSAccessKeyId=" + key.ID + "&Signature=abc&Expires=1" }}, "InvalidRequest"},
		"unknown form":         {sent{payload: "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", body: "x"}, "NotImplemented"},
		"tampered chunk":       {sent{payload: streaming, decoded: 6, chunks: signedChunks(two, "", flip("xyz", "xYz"))}, "SignatureDoesNotMatch"},
		"tampered size":        {sent{payload: streaming, decoded: 6, chunks: signedChunks(two, "", flip("3;", "4;"))}, "SignatureDoesNotMatch"},
		"missing chunk":        {sent{payload: streaming, decoded: 6, chunks: signedChunks(two[:1], "", nil)}, "InvalidChunk"},
		"chunk too many":       {sent{payload: streaming, decoded: 3, chunks: signedChunks(two, "", nil)}, "InvalidChunk"},
		"chunk of 17 MiB":      {sent{payload: streaming, decoded: 17 << 20, chunks: signedChunks(two[:1], "", flip("3;", "1100000;"))}, "InvalidRequest"},
		"no last chunk":        {sent{payload: streaming, decoded: 6, chunks: signedChunks(two, "", func(s string) string { return s[:strings.LastIndex(s, "0;")] })}, "IncompleteBody"},
		"bytes after the end":  {sent{payload: streaming, decoded: 6, chunks: signedChunks(two, "", func(s string) string { return s + "x" })}, "InvalidChunk"},
		"tampered trailer":     {sent{payload: trailing, trailer: crcTrailer, decoded: 6, chunks: signedChunks(two, crcOf("uvwxyz"), flip(crcOf("uvwxyz"), crcOf("uvwxyy")))}, "SignatureDoesNotMatch"},
		"wrong trailer":        {sent{payload: trailing, trailer: crcTrailer, decoded: 6, chunks: signedChunks(two, crcOf("uvwxyy"), nil)}, "BadDigest"},
		"no trailer":           {sent{payload: trailing, trailer: crcTrailer, decoded: 6, chunks: signedChunks(two, "", nil)}, "MalformedTrailerError"},
		"another trailer":      {sent{payload: trailing, trailer: "x-amz-checksum-sha1", decoded: 6, chunks: signedChunks(two, crcOf("uvwxyz"), nil)}, "MalformedTrailerError"},
		"unsigned trailer":     {sent{payload: trailing, trailer: crcTrailer, decoded: 6, chunks: signedChunks(two, crcOf("uvwxyz"), flip("x-amz-trailer-signature", "x-amz-other"))}, "MalformedTrailerError"},
		"trailer of no digest": {sent{payload: loose, trailer: "x-amz-meta-a", decoded: 1, body: "1\r\na\r\n0\r\nx-amz-meta-a:b\r\n\r\n"}, "InvalidRequest"},
		"wrong loose trailer":  {sent{payload: loose, trailer: crcTrailer, decoded: 1, body: "1\r\na\r\n0\r\nx-amz-checksum-crc32:" + crcOf("b") + "\r\n\r\n"}, "BadDigest"},
		"endless line":         {sent{payload: loose, trailer: crcTrailer, decoded: 1, body: strings.Repeat("1", 128<<10)}, "InvalidChunk"},
	} {
		store := s3test.Start(t, s3test.Options{Buckets: []string{bucket}})
		res, text := send(t, http.DefaultClient, test.request(t, serve(t, store, key, "127.0.0.1:0")))
		if res.StatusCode < 400 || !strings.Contains(text, "<Code>"+test.code+"</Code>") {
			t.Errorf("%s: status %d, want %s: %s", name, res.StatusCode, test.code, text)
		}
		if keys := store.Keys(bucket); len(keys) > 0 {
			t.Errorf("%s: the store has %q", name, keys)
		}
		for _, secret := range []string{store.SecretKey, store.AccessKey, key.Secret} {
			if strings.Contains(text, secret) {
				t.Errorf("%s: the response has a secret: %s", name, text)
			}
		}
	}
}
