package download

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/byterange"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/digest"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/shown"
	"github.com/seed-0f2c7998/perdure/internal/getters"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
	"github.com/seed-0f2c7998/perdure/internal/validator"
)

// ErrTruncatable reports a response that has neither a length nor an end marker, nor a digest: a truncated body would look
// complete.
var ErrTruncatable = errors.New("response has no length and no end marker: truncation cannot be detected")

// A getter requests the bytes of one resource over HTTP, as [getters.HTTP] says. It is safe for concurrent use.
//
// The resource is the bytes as the server sends them, without a coding if the server can: the getter asks for identity, and
// decodes nothing. A coding that comes nevertheless is in Header, and in the version.
type getter struct {
	req    *http.Request
	client *http.Client

	mu     sync.Mutex
	header http.Header // of the first response of the present version; guarded by mu
	whole  bool        // the server has sent something else than the range that was requested; guarded by mu
}

func newGetter(req *http.Request, client *http.Client) *getter {
	if client == nil {
		client = httpretry.Client(nil)
	}
	return &getter{req: req, client: client}
}

// What this module's own packages call, and users do not see.
func init() { //nolint:gochecknoinits // see package getters
	getters.OfferHTTP(func(req *http.Request, client *http.Client) getters.HTTP { return newGetter(req, client) })
}

// Source returns a hash of the request's URL, as source says.
func (g *getter) Source() string { return source(g.req.URL) }

// Header returns the header of the first response that brought the present version of the resource; nil before that.
// Do not change it.
func (g *getter) Header() http.Header {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.header
}

// Get requests r, as a [transfer.Getter] does. Digests in headers that apply to the whole resource are the Checksum of the
// version, which the caller compares: of several the strongest, and of those that are equally strong the one that takes
// less time (SHA-256, SHA-512, SHA-1, MD5, CRC-64/NVME, CRC-32C, CRC-32). A server that sends another range than the one
// that was requested is treated like one that serves no ranges.
//
// The error is that of the client, what [httpretry.GaveUp] says of the response, a [*httpretry.StatusError],
// [ErrTruncatable] or, if the bytes of the version of can't be had any more, [ErrChanged].
func (g *getter) Get(ctx context.Context, r transfer.Range, of *transfer.Version) (*transfer.Response, error) {
	for {
		req := g.request(ctx, r, of)
		res, err := g.client.Do(req)
		if err != nil {
			return nil, shown.Error(err, req)
		}
		answer, err := g.read(res, r, of)
		if err == nil {
			return answer, nil
		}
		err = errors.Join(err, res.Body.Close())
		if !unwrap.Is(err, httpretry.ErrWrongRange) || req.Header.Get("Range") == "" {
			return nil, err
		}
		g.mu.Lock()
		g.whole = true
		g.mu.Unlock()
	}
}

// request returns the request for r: with a Range and, if the bytes must be those of a version, with If-Range.
func (g *getter) request(ctx context.Context, r transfer.Range, of *transfer.Version) *http.Request {
	if of == nil || !of.Checksum.IsZero() { // else a range may have a digest of its own
		ctx = digest.LeaveToCaller(ctx)
	}
	req := g.req.Clone(ctx)
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Del("Range")
	req.Header.Del("If-Range")
	g.mu.Lock()
	whole := g.whole
	g.mu.Unlock()
	switch {
	case whole || r.From == 0 && r.To < 0:
		return req
	case r.To < 0:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", r.From))
	default:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", r.From, r.To-1))
	}
	if of != nil && of.Resumable() {
		req.Header.Del("If-None-Match") // these ask whether to send anything at all
		req.Header.Del("If-Modified-Since")
		req.Header.Set("If-Range", of.ETag+of.LastModified) // one of them is empty
	}
	return req
}

// read returns what a response brings of r.
func (g *getter) read(res *http.Response, r transfer.Range, of *transfer.Version) (*transfer.Response, error) {
	switch res.StatusCode {
	case http.StatusOK, http.StatusNonAuthoritativeInfo:
		v := versionOf(res, res.ContentLength)
		if isEndless(res) && v.Checksum.IsZero() {
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
	case http.StatusRequestedRangeNotSatisfiable: // it does not know If-Range, and has fewer bytes now
		if of != nil {
			return nil, ErrChanged
		}
	}
	return nil, refusal(res)
}

// note keeps the header of res, if it is the first of its version.
func (g *getter) note(res *http.Response, first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if first || g.header == nil {
		g.header = res.Header
	}
}

// isEndless reports whether nothing but the end of the connection marks that of the body.
func isEndless(res *http.Response) bool {
	return res.ContentLength < 0 && res.ProtoMajor == 1 && len(res.TransferEncoding) == 0
}

// versionOf returns the version that a response is of, which has size bytes in all.
func versionOf(res *http.Response, size int64) transfer.Version {
	v := transfer.Version{Encoding: strings.Join(res.Header.Values("Content-Encoding"), ", "), Size: size}
	v.ETag, v.LastModified = validator.Of(res.Header)
	if strings.EqualFold(v.Encoding, "identity") {
		v.Encoding = ""
	}
	v.Checksum = digest.OfWhole(res.Header, res.StatusCode == http.StatusPartialContent)
	return v
}

// partOf checks that a 206 is r, and of the version of. The error is [httpretry.ErrWrongRange] or [ErrChanged].
func partOf(res *http.Response, r transfer.Range, of *transfer.Version) (v transfer.Version, err error) {
	got, ok := byterange.Parse(res.Header.Get("Content-Range"))
	if !ok || got.Unsatisfied || got.First != r.From || res.ContentLength >= 0 && res.ContentLength != got.Length() {
		return v, httpretry.ErrWrongRange
	}
	size := got.Total
	if of == nil {
		v = versionOf(res, size)
	} else {
		if size == byterange.Unknown {
			size = of.Size
		}
		if err := isOf(versionOf(res, size), res.Header, of); err != nil {
			return v, err
		}
		v = *of
	}
	if r.To < 0 {
		r.To = size
	}
	if got.Last+1 != r.To {
		return v, httpretry.ErrWrongRange
	}
	return v, nil
}

// isOf returns, as nil, that v, with the header of a 206, is the version of. Of what does not say what it is a range of,
// no range can be used.
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

// refusal returns the error that stands for a response which is neither the whole nor a part.
func refusal(res *http.Response) error {
	if err := httpretry.GaveUp(res); err != nil {
		return err
	}
	return &httpretry.StatusError{Method: http.MethodGet, URL: shown.URL(res.Request), Status: res.StatusCode}
}
