package download

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/byterange"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/digest"
	"github.com/seed-0f2c7998/perdure/internal/getters"
	"github.com/seed-0f2c7998/perdure/internal/shown"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
	"github.com/seed-0f2c7998/perdure/internal/validator"
)

// ErrTruncatable reports a response that has neither a length nor an end marker, nor a digest: a truncated body would look
// complete.
var ErrTruncatable = errors.New("response has no length and no end marker: truncation cannot be detected")

// A getter requests the bytes of one resource over HTTP, as [getters.HTTP] says. It is safe for concurrent use.
//
// The getter requests the identity coding and decodes nothing. If the server sends another coding nevertheless, the coding
// is in Header and in the version.
type getter struct {
	req    *http.Request
	client *http.Client

	whole  atomic.Bool                 // the server has sent another range than requested
	header atomic.Pointer[http.Header] // of the first response of the current version
}

func newGetter(req *http.Request, client *http.Client) *getter {
	if client == nil {
		client = httpretry.Client(nil)
	}
	return &getter{req: req, client: client}
}

// init offers the getter to the packages of this module, but not to users.
func init() { //nolint:gochecknoinits // see package getters
	getters.NewHTTP = func(req *http.Request, client *http.Client) getters.HTTP { return newGetter(req, client) }
}

// Source returns a hash of the request's URL, as source says.
func (g *getter) Source() string { return source(g.req.URL) }

// Header returns the header of the first response with the current version of the resource, or nil before that. Do not
// change it.
func (g *getter) Header() http.Header {
	if h := g.header.Load(); h != nil {
		return *h
	}
	return nil
}

// Get requests r, as a [transfer.Getter] does. A digest in the header that applies to the whole resource is the Checksum of
// the version, which the caller compares: the first of SHA-256, SHA-512, SHA-1, MD5, CRC-64/NVME, CRC-32C and CRC-32. A
// server that sends another range than requested is treated as one without ranges.
//
// The error is that of the client, of [httpretry.GaveUp], a [*httpretry.StatusError], [ErrTruncatable] or, if the server no
// longer has the version of, [ErrChanged].
func (g *getter) Get(ctx context.Context, r transfer.Range, of *transfer.Version) (*transfer.Response, error) {
	for {
		req := g.request(ctx, r, of)
		res, err := g.client.Do(req)
		if err != nil {
			return nil, shown.Error(err, req)
		}
		got, err := g.read(res, r, of)
		if err == nil {
			return got, nil
		}
		err = errors.Join(err, res.Body.Close())
		if !unwrap.Is(err, httpretry.ErrWrongRange) || req.Header.Get("Range") == "" {
			return nil, err
		}
		g.whole.Store(true)
	}
}

// request returns the request for r: with a Range and, if the bytes must be those of a version, with If-Range.
func (g *getter) request(ctx context.Context, r transfer.Range, of *transfer.Version) *http.Request {
	if of == nil || !of.Checksum.IsZero() { // otherwise a range may have a digest of its own
		ctx = digest.LeaveToCaller(ctx)
	}
	req := g.req.Clone(ctx)
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Del("Range")
	req.Header.Del("If-Range")
	if g.whole.Load() || r.From == 0 && r.To < 0 {
		return req
	}
	validator := ""
	if of != nil && of.Resumable() {
		validator = of.ETag + of.LastModified // one of them is empty
	}
	byterange.Request(req.Header, r.From, r.To, validator)
	return req
}

// read returns the part of r that a response has.
func (g *getter) read(res *http.Response, r transfer.Range, of *transfer.Version) (*transfer.Response, error) {
	switch res.StatusCode {
	case http.StatusOK, http.StatusNonAuthoritativeInfo:
		v := versionOf(res, res.ContentLength)
		endsWithConnection := res.ContentLength < 0 && res.ProtoMajor == 1 && len(res.TransferEncoding) == 0
		if endsWithConnection && v.Checksum.IsZero() {
			return nil, ErrTruncatable
		}
		g.note(res, of == nil || !v.Same(*of))
		ranges := strings.EqualFold(res.Header.Get("Accept-Ranges"), "bytes")
		return &transfer.Response{Version: v, Ranges: ranges, Body: res.Body}, nil
	case http.StatusPartialContent:
		v, err := partOf(res, r, of)
		if err != nil {
			return nil, err
		}
		g.note(res, of == nil)
		return &transfer.Response{Version: v, From: r.From, Ranges: true, Body: res.Body}, nil
	case http.StatusRequestedRangeNotSatisfiable: // a server without If-Range, whose resource is shorter now
		if of != nil {
			return nil, ErrChanged
		}
	}
	if err := httpretry.GaveUp(res); err != nil {
		return nil, err
	}
	return nil, &httpretry.StatusError{Method: http.MethodGet, URL: shown.URL(res.Request), Status: res.StatusCode}
}

// note keeps the header of res, if res is the first response of its version.
func (g *getter) note(res *http.Response, first bool) {
	if first {
		g.header.Store(&res.Header)
	} else {
		g.header.CompareAndSwap(nil, &res.Header)
	}
}

// versionOf returns the version of a response; size is the length of the version in bytes.
func versionOf(res *http.Response, size int64) transfer.Version {
	v := transfer.Version{Encoding: strings.Join(res.Header.Values("Content-Encoding"), ", "), Size: size}
	v.ETag, v.LastModified = validator.Of(res.Header)
	if strings.EqualFold(v.Encoding, "identity") {
		v.Encoding = ""
	}
	v.Checksum = digest.OfWhole(res.Header, res.StatusCode == http.StatusPartialContent)
	return v
}

// partOf checks that a 206 has the range r and, if of is not nil, its version. The error is [httpretry.ErrWrongRange] or
// [ErrChanged].
func partOf(res *http.Response, r transfer.Range, of *transfer.Version) (v transfer.Version, err error) {
	got, ok := byterange.Of(res)
	if !ok || got.First != r.From {
		return v, httpretry.ErrWrongRange
	}
	v = versionOf(res, got.Total)
	if of != nil {
		if got.Total == byterange.Unknown {
			v.Size = of.Size
		}
		if err := isOf(v, res.Header, of); err != nil {
			return v, err
		}
		v = *of
	}
	if r.To < 0 {
		r.To = v.Size
	}
	if got.Last+1 != r.To {
		return v, httpretry.ErrWrongRange
	}
	return v, nil
}

// isOf returns nil if v, from a 206 with header h, is the version of. A 206 without a validator cannot be used.
func isOf(v transfer.Version, h http.Header, of *transfer.Version) error {
	v.ETag, v.LastModified = h.Get("ETag"), ""
	if of.LastModified != "" {
		v.ETag, v.LastModified = "", h.Get("Last-Modified")
	}
	switch {
	case v.ETag+v.LastModified == "", of.Encoding != "" && v.Encoding == "":
		return httpretry.ErrWrongRange
	case !v.Same(*of):
		return ErrChanged
	}
	return nil
}
