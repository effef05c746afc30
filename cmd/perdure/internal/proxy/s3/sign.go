package s3

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/seed-0f2c7998/perdure/internal/shown"
	"github.com/seed-0f2c7998/perdure/retry"
)

var errNoCall = errors.New("s3: the request was not admitted")

// RoundTrip makes one attempt: it signs the request with the store's credentials as they are now.
func (s *Store) RoundTrip(req *http.Request) (*http.Response, error) {
	c := callOf(req.Context())
	if c == nil {
		closeBody(req)
		return nil, errNoCall
	}
	c.class.Store(uint32(retry.ClassUnknown))
	signed, err := s.sign(req.Context(), c, req)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	res, err := s.base.RoundTrip(signed)
	if err != nil {
		return nil, shown.Error(err, signed) // net/http quotes what a store sends back of it
	}
	res.Request, res.Body = req, shownBody{res.Body, signed}
	return s.received(c, res, signed.Header)
}

// A shownBody is a body whose errors do not show the secrets of the request sent: net/http quotes a malformed trailer.
type shownBody struct {
	io.ReadCloser

	sent *http.Request
}

// Read reads the body.
func (b shownBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = shown.Error(err, b.sent)
	}
	return n, err
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// sign returns a copy of req that is signed and, if the client's was, aws-chunked.
func (s *Store) sign(ctx context.Context, c *call, req *http.Request) (*http.Request, error) {
	creds, err := s.config.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, retry.Permanent(fmt.Errorf("no AWS credentials: %w", err))
	}
	out := req.Clone(ctx)
	out.URL.RawPath = escape(out.URL.Path)
	out.URL.RawQuery = strings.ReplaceAll(out.URL.Query().Encode(), "+", "%20")
	out.Header.Del("Authorization")
	if c.operation != "GetObject" {
		out.Header.Del("Accept-Encoding") // the store's documents are read here
	}
	var f *frame
	if isStream(c.payload) {
		f = newFrame(c, req.Body)
		out.Body, out.ContentLength = f, f.total()
		out.Header["Content-Encoding"] = []string{strings.TrimSuffix("aws-chunked,"+req.Header.Get("Content-Encoding"), ",")}
		out.Header.Set("X-Amz-Decoded-Content-Length", strconv.FormatInt(c.length, 10))
		if c.trailer != "" {
			out.Header.Set("X-Amz-Trailer", c.trailer)
		}
	}
	out.Header.Set(contentSHA256, c.payload)
	bare := &http.Request{Method: out.Method, URL: out.URL, Host: out.URL.Host, Header: make(http.Header)}
	for name, values := range out.Header {
		if strings.HasPrefix(name, "X-Amz-") || name == "Content-Type" || name == "Content-Md5" {
			bare.Header[name] = values
		}
	}
	now := s.now().UTC()
	if err := s.signer.SignHTTP(ctx, creds, bare, c.payload, "s3", s.config.Region, now); err != nil {
		return nil, retry.Permanent(err)
	}
	for _, name := range []string{"Authorization", "X-Amz-Date", "X-Amz-Security-Token"} {
		if value := bare.Header.Get(name); value != "" {
			out.Header.Set(name, value)
		}
	}
	if f != nil && f.signed {
		date := now.Format(timeLayout)
		scope := date[:8] + "/" + s.config.Region + "/s3/aws4_request"
		_, f.previous, _ = strings.Cut(out.Header.Get("Authorization"), "Signature=")
		f.key = Key{Secret: creds.SecretAccessKey}.derive(scope)
		f.head = "\n" + date + "\n" + scope + "\n"
	}
	return out, nil
}

// nextSignature returns the signature of a chunk or of the trailer.
func (f *frame) nextSignature(kind, rest string) string {
	f.previous = hex.EncodeToString(sum(f.key, algorithm+kind+f.head+f.previous+rest))
	return f.previous
}

// refresh makes the provider fetch credentials again, and reports whether they can differ.
func (s *Store) refresh() bool {
	cache, ok := s.config.Credentials.(interface {
		aws.CredentialsProvider
		Invalidate()
	})
	if ok {
		cache.Invalidate()
	}
	return ok
}

const (
	chunkSize     = 64 << 10 // bytes of a chunk to the store; S3 wants 8 KiB or more
	signatureSize = len(";chunk-signature=") + 64
)

// A frame encodes a body as aws-chunked, with the signatures of one attempt.
type frame struct {
	call   *call
	source io.ReadCloser // the decoded body
	signed bool
	left   int64 // bytes of the decoded body

	key            []byte
	head, previous string // see chunks

	out  bytes.Buffer
	data []byte
	done bool
}

func newFrame(c *call, body io.ReadCloser) *frame {
	if body == nil {
		body = io.NopCloser(bytes.NewReader(nil))
	}
	return &frame{call: c, source: body, signed: c.payload != streamUnsignedTrailer, left: c.length}
}

// total returns the number of bytes of the encoded body.
func (f *frame) total() int64 {
	n := f.left / chunkSize * f.chunkLength(chunkSize)
	if rest := f.left % chunkSize; rest > 0 {
		n += f.chunkLength(rest)
	}
	n += f.chunkLength(0) // with the empty line at the end
	if f.call.trailer == "" {
		return n
	}
	digest := newChecksum(f.call.trailer).Size()
	n += int64(len(f.call.trailer) + len(":\r\n") + (digest+2)/3*4)
	if f.signed {
		n += int64(len(trailerSignature) + len(":\r\n") + 64)
	}
	return n
}

func (f *frame) chunkLength(size int64) int64 {
	n := int64(len(strconv.FormatInt(size, 16))) + size + int64(len("\r\n\r\n"))
	if f.signed {
		n += int64(signatureSize)
	}
	return n
}

// Read reads the encoded body.
func (f *frame) Read(p []byte) (int, error) {
	for f.out.Len() == 0 {
		if f.done {
			return 0, io.EOF
		}
		if err := f.fill(); err != nil {
			return 0, err
		}
	}
	return f.out.Read(p)
}

// fill encodes the next chunk.
func (f *frame) fill() error {
	if f.data == nil {
		f.data = make([]byte, min(chunkSize, max(f.left, 1)))
	}
	if f.left > 0 {
		data := f.data[:min(int64(len(f.data)), f.left)]
		if _, err := io.ReadFull(f.source, data); err != nil {
			if errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
		f.left -= int64(len(data))
		f.chunk(data)
		f.out.WriteString("\r\n")
		return nil
	}
	if _, err := io.ReadFull(f.source, f.data[:1]); !errors.Is(err, io.EOF) { // the end: the body has been checked
		if err == nil {
			err = errTooLong
		}
		return err
	}
	f.done = true
	f.chunk(nil)
	if f.call.trailer != "" {
		value := f.call.checksum.Load()
		if value == nil {
			return errNoTrailer
		}
		fmt.Fprintf(&f.out, "%s:%s\r\n", f.call.trailer, *value)
		if f.signed {
			fmt.Fprintf(&f.out, "%s:%s\r\n", trailerSignature, f.nextSignature("-TRAILER", "\n"+hexOf([]byte(f.call.trailer+":"+*value+"\n"))))
		}
	}
	f.out.WriteString("\r\n")
	return nil
}

var (
	errTooLong   = errors.New("s3: the body is longer than its length")
	errNoTrailer = errors.New("s3: the body has ended before its trailer")
)

// chunk encodes a chunk without the line break at its end.
func (f *frame) chunk(data []byte) {
	fmt.Fprintf(&f.out, "%x", len(data))
	if f.signed {
		fmt.Fprintf(&f.out, ";chunk-signature=%s", f.nextSignature("-PAYLOAD", "\n"+hexOf(nil)+"\n"+hexOf(data)))
	}
	f.out.WriteString("\r\n")
	f.out.Write(data)
}

// Close closes the body.
func (f *frame) Close() error { return f.source.Close() }
