package s3

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
)

// The aws-chunked forms of a body, as X-Amz-Content-Sha256.
const (
	streamSigned          = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	streamSignedTrailer   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	streamUnsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
)

func isStream(payload string) bool {
	return payload == streamSigned || payload == streamSignedTrailer || payload == streamUnsignedTrailer
}

// decode replaces the body of r by one that is decoded, and that never ends well if it is not what the client has signed.
func (c *call) decode(r *http.Request, from *signature) error {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	switch want, err := hex.DecodeString(c.payload); {
	case r.ContentLength < 0 && !isStream(c.payload):
		return refusal(http.StatusLengthRequired, "MissingContentLength", "the body must have a Content-Length")
	case isStream(c.payload):
		if err := c.decodeStream(r, from); err != nil {
			return err
		}
	case c.payload == unsignedPayload:
	case err != nil || len(want) != sha256.Size:
		return refusal(http.StatusNotImplemented, "NotImplemented", "perdure proxy does not know this form of "+contentSHA256)
	default:
		r.Body = &hashed{source: r.Body, call: c, sum: sha256.New(), want: want, left: r.ContentLength}
	}
	if c.length > maxObject {
		return refusal(http.StatusRequestEntityTooLarge, "EntityTooLarge", "a request may have 5 GiB")
	}
	if c.length > 0 {
		return nil
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil { // net/http sends no body of length 0: check it here
		if f := c.refused.Load(); f != nil {
			return f
		}
		return refusal(http.StatusBadRequest, "IncompleteBody", "the body ends early")
	}
	r.Body = http.NoBody
	return nil
}

// decodeStream is decode for the aws-chunked forms.
func (c *call) decodeStream(r *http.Request, from *signature) error {
	length, err := strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
	if err != nil || length < 0 {
		return refusal(http.StatusLengthRequired, "MissingContentLength", "X-Amz-Decoded-Content-Length is missing")
	}
	c.length = length
	d := &chunks{call: c, left: length, source: bufio.NewReaderSize(r.Body, 32<<10)}
	if c.payload != streamUnsignedTrailer {
		d.signed = true
		d.key, d.previous = from.key, from.value
		d.head = "\n" + from.date + "\n" + from.scope + "\n"
	}
	trailers := strings.FieldsFunc(strings.Join(r.Header.Values("X-Amz-Trailer"), ","), func(c rune) bool { return c == ',' || c == ' ' })
	switch {
	case (c.payload == streamSigned) != (len(trailers) == 0):
		return refusal(http.StatusBadRequest, "InvalidRequest", "X-Amz-Trailer and "+contentSHA256+" do not fit each other")
	case len(trailers) == 1:
		c.trailer = strings.ToLower(trailers[0])
		if d.sum = newChecksum(c.trailer); d.sum == nil {
			return refusal(http.StatusBadRequest, "InvalidRequest", "the trailer must be a checksum that S3 knows, such as x-amz-checksum-crc32")
		}
	case len(trailers) > 1:
		return refusal(http.StatusBadRequest, "InvalidRequest", "more than one trailer")
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{d, r.Body}
	r.ContentLength = length
	for _, name := range []string{"X-Amz-Decoded-Content-Length", "X-Amz-Trailer", "Content-Length"} {
		r.Header.Del(name)
	}
	codings := strings.Split(strings.Join(r.Header.Values("Content-Encoding"), ","), ",")
	codings = slices.DeleteFunc(codings, func(name string) bool {
		name = strings.TrimSpace(name)
		return name == "" || strings.EqualFold(name, "aws-chunked")
	})
	r.Header.Del("Content-Encoding")
	if len(codings) > 0 {
		r.Header.Set("Content-Encoding", strings.TrimSpace(strings.Join(codings, ",")))
	}
	return nil
}

// refuse records why the body is refused, and returns it as an error.
func (c *call) refuse(status int, code, message string) error {
	f := &proxy.Failure{Status: status, Code: code, Message: message}
	c.refused.CompareAndSwap(nil, f)
	return f
}

// A hashed is a body of known length and hash. Its last bytes are returned only if the hash is the right one.
type hashed struct {
	source io.ReadCloser
	call   *call
	sum    hash.Hash
	want   []byte
	left   int64
}

// Read reads the body.
func (b *hashed) Read(p []byte) (int, error) {
	n, err := b.source.Read(p)
	b.sum.Write(p[:n])
	b.left -= int64(n)
	if b.left > 0 || err != nil && !errors.Is(err, io.EOF) {
		return n, err
	}
	if !bytes.Equal(b.sum.Sum(nil), b.want) {
		return 0, b.call.refuse(http.StatusBadRequest, "XAmzContentSHA256Mismatch", "the body is not that of "+contentSHA256)
	}
	return n, err
}

// Close closes the body.
func (b *hashed) Close() error { return b.source.Close() }
