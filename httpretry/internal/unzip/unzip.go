// Package unzip takes the gzip coding off a response, as net/http does by itself, but above a body that the caller
// of this package gives: net/http's own is below whatever a RoundTripper makes of the body.
package unzip

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
)

// Response changes res, if it has a body and its Content-Encoding is gzip, so that the body is the plain one.
// As net/http does, it takes away the headers that tell of the coded one.
func Response(res *http.Response) {
	if coding := res.Header["Content-Encoding"]; res.Body == http.NoBody || len(coding) == 0 || !strings.EqualFold(coding[0], "gzip") {
		return
	}
	res.Body = &body{coded: res.Body}
	res.Header.Del("Content-Encoding")
	res.Header.Del("Content-Length")
	res.ContentLength = -1
	res.Uncompressed = true
}

// A body is decoded as it is read.
type body struct {
	coded io.ReadCloser
	plain *gzip.Reader // nil before the first Read
	err   error        // of opening plain; stays
}

// Read returns the errors of the coded body as they are.
func (b *body) Read(p []byte) (int, error) {
	if b.plain == nil && b.err == nil {
		b.plain, b.err = gzip.NewReader(b.coded)
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.plain.Read(p)
}

// Close closes the coded body.
func (b *body) Close() error { return b.coded.Close() }
