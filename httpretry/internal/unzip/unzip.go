// Package unzip decodes a gzip response as net/http does, but above the body that a RoundTripper has set: net/http decodes
// below it.
package unzip

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
)

// Response decodes the body of res, if res has a body and its Content-Encoding is gzip. As net/http does, it removes the
// headers that describe the compressed body.
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

// A body decodes coded as it is read.
type body struct {
	coded io.ReadCloser
	plain *gzip.Reader // nil before the first Read
	err   error        // of gzip.NewReader; permanent
}

// Read returns the errors of the coded body unchanged.
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
