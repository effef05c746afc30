package s3

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
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
		return refusal(http.StatusLengthRequired, "MissingContentLength", "X-Amz-Decoded-Content-Length must be the number of bytes of the decoded body")
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

const (
	maxLine        = 1 << 10  // bytes of the head of a chunk, or of a trailer field
	maxSignedChunk = 16 << 20 // bytes of a chunk that is kept until its signature has been checked
	maxTrailers    = 8        // lines after the last chunk

	checksumPrefix   = "x-amz-checksum-"
	trailerSignature = "x-amz-trailer-signature"
)

// newChecksum returns the hash of a trailer field, or nil if it is not that of a checksum of S3.
func newChecksum(field string) hash.Hash {
	switch name, _ := strings.CutPrefix(field, checksumPrefix); name {
	case "crc32", "crc32c", "crc64nvme", "sha1", "sha256":
		return checksum.New(name)
	}
	return nil
}

// A chunks decodes an aws-chunked body. What a signed chunk holds is returned once its signature has been checked, and the
// last bytes once all of the body has been.
type chunks struct {
	call     *call
	source   *bufio.Reader
	left     int64     // bytes of the decoded body
	signed   bool      // chunks have signatures
	key      []byte    // of the signatures; nil if they are not checked
	head     string    // of what is signed
	previous string    // signature
	sum      hash.Hash // of the decoded body; nil without a trailer

	chunk  int64        // bytes left of an unsigned chunk
	buffer bytes.Reader // of a signed chunk
	begun  bool
	err    error
}

// Read reads the decoded body.
func (d *chunks) Read(p []byte) (int, error) {
	for d.err == nil && d.buffer.Len() == 0 && d.chunk == 0 {
		d.err = d.next()
	}
	if d.err != nil {
		return 0, d.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	var n int
	if d.buffer.Len() > 0 {
		n, _ = d.buffer.Read(p)
	} else {
		n, d.err = d.source.Read(p[:min(int64(len(p)), d.chunk)])
		d.chunk -= int64(n)
		if errors.Is(d.err, io.EOF) {
			d.err = d.broken(d.err)
		}
	}
	if d.sum != nil {
		d.sum.Write(p[:n])
	}
	if d.err == nil && d.left == 0 && d.chunk == 0 && d.buffer.Len() == 0 {
		return d.last(n)
	}
	return n, d.err
}

// last reads what follows the last n bytes of the decoded body, which are returned only if all of it is right: a store may
// keep an object once it has the bytes.
func (d *chunks) last(n int) (int, error) {
	if d.err = d.next(); d.err == nil {
		d.err = d.broken(nil)
	}
	if !errors.Is(d.err, io.EOF) {
		return 0, d.err
	}
	return n, nil
}

// next begins the next chunk. After the last one it checks the trailer and returns io.EOF.
func (d *chunks) next() error {
	size, signature, err := d.chunkHead()
	if err != nil {
		return err
	}
	d.left -= size
	if !d.signed {
		d.chunk = size
	} else if err := d.signedChunk(size, signature); err != nil {
		return err
	}
	if size == 0 {
		return d.end()
	}
	return nil
}

// chunkHead reads the size of the next chunk and its signature.
func (d *chunks) chunkHead() (size int64, signature string, err error) {
	if d.begun {
		if line, err := d.line(); err != nil || line != "" {
			return 0, "", d.broken(err)
		}
	}
	d.begun = true
	line, err := d.line()
	if err != nil {
		return 0, "", d.broken(err)
	}
	text, extension, _ := strings.Cut(line, ";")
	signature, ok := strings.CutPrefix(extension, "chunk-signature=")
	size, err = strconv.ParseInt(text, 16, 64)
	if err != nil || size < 0 || size > d.left || size == 0 && d.left > 0 || ok != d.signed {
		return 0, "", d.broken(nil)
	}
	return size, signature, nil
}

// signedChunk reads the bytes of a chunk, and checks their signature.
func (d *chunks) signedChunk(size int64, signature string) error {
	if size > maxSignedChunk {
		return d.call.refuse(http.StatusBadRequest, "InvalidRequest", "a signed chunk may have 16 MiB")
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(d.source, data); err != nil {
		return d.broken(err)
	}
	d.buffer.Reset(data)
	return d.check(signature, "-PAYLOAD", "\n"+hexOf(nil)+"\n"+hexOf(data))
}

// check checks the signature of a chunk or of the trailer.
func (d *chunks) check(given, kind, rest string) error {
	if d.key == nil {
		return nil
	}
	want := hex.EncodeToString(sum(d.key, algorithm+kind+d.head+d.previous+rest))
	if !hmac.Equal([]byte(given), []byte(want)) {
		return d.call.refuse(http.StatusForbidden, "SignatureDoesNotMatch", "the signature of a chunk, or of the trailer, does not match")
	}
	d.previous = want
	return nil
}

// end reads what follows the last chunk: the trailer, its signature, an empty line.
func (d *chunks) end() error {
	var value, given string
	for range maxTrailers {
		line, err := d.line()
		if err != nil && (line != "" || !errors.Is(err, io.EOF)) { // some clients send no empty line
			return d.broken(err)
		}
		if line == "" {
			if err != nil || d.complete(value, given) {
				return d.finish(value, given)
			}
			continue // some clients send one before the signature of the trailer
		}
		name, text, _ := strings.Cut(line, ":")
		switch name = strings.ToLower(name); {
		case name == d.call.trailer && value == "" && given == "":
			value = strings.TrimSpace(text)
		case name == trailerSignature && d.signed && given == "":
			given = strings.TrimSpace(text)
		default:
			return d.call.refuse(http.StatusBadRequest, "MalformedTrailerError", "the trailer is not the one that X-Amz-Trailer announces")
		}
	}
	return d.broken(nil)
}

// complete reports whether nothing can follow the trailer with this value and signature.
func (d *chunks) complete(value, given string) bool {
	return d.sum == nil || value != "" && (given != "" || !d.signed)
}

// finish checks the trailer. It returns io.EOF if the body is complete and right.
func (d *chunks) finish(value, given string) error {
	if _, err := d.source.ReadByte(); err == nil {
		return d.broken(nil)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	if d.sum == nil {
		return io.EOF
	}
	if value == "" || d.signed && given == "" {
		return d.call.refuse(http.StatusBadRequest, "MalformedTrailerError", "the trailer, or its signature, is missing")
	}
	if d.signed {
		if err := d.check(given, "-TRAILER", "\n"+hexOf([]byte(d.call.trailer+":"+value+"\n"))); err != nil {
			return err
		}
	}
	if value != base64.StdEncoding.EncodeToString(d.sum.Sum(nil)) {
		return d.call.refuse(http.StatusBadRequest, "BadDigest", "the checksum in the trailer is not that of the body")
	}
	d.call.checksum.Store(&value)
	return io.EOF
}

// line reads a line without its end.
func (d *chunks) line() (string, error) {
	text, err := d.source.ReadSlice('\n')
	if len(text) > maxLine {
		return "", bufio.ErrBufferFull
	}
	return strings.TrimRight(string(text), "\r\n"), err
}

// broken returns the error of a body that is malformed, or that err has ended.
func (d *chunks) broken(err error) error {
	if err == nil || errors.Is(err, bufio.ErrBufferFull) {
		return d.call.refuse(http.StatusBadRequest, "InvalidChunk", "the aws-chunked body is malformed")
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return d.call.refuse(http.StatusBadRequest, "IncompleteBody", "the body ends early")
	}
	return err
}
