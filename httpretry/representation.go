package httpretry

import (
	"fmt"
	"net/http"

	"github.com/seed-0f2c7998/perdure/httpretry/internal/byterange"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/digest"
	"github.com/seed-0f2c7998/perdure/internal/validator"
)

// A representation is what a body is read from, as far as the first response told, and the part of it that is wanted.
type representation struct {
	etag      string // as sent; may be weak
	modified  string // Last-Modified, as sent
	encoding  string // Content-Encoding
	dated     bool   // there is no strong etag, and modified is old enough to identify it
	resumable bool   // it can be identified later
	digest    bool   // a header offers one
	full      bool   // the first response had everything

	from, end int64 // offsets of the part that is wanted; end is -1 while it is unknown
	total     int64 // length of the whole; -1: unknown
}

// read reads the first response. It is not ok if the response is no single part of anything.
func (e *representation) read(res *http.Response) (ok bool) {
	e.full = res.StatusCode != http.StatusPartialContent
	e.end, e.total = res.ContentLength, res.ContentLength
	if !e.full && !e.readRange(res) {
		return false
	}
	for name, values := range res.Header { // in one pass, for it is done for every response
		if len(values) == 0 {
			continue
		}
		switch { // one comparison after the other costs less here than the search that a switch of name would be
		case name == "Etag":
			e.etag = values[0]
		case name == "Last-Modified":
			e.modified = values[0]
		case name == "Content-Encoding":
			e.encoding = values[0]
		case digest.Offers(name):
			e.digest = true
		}
	}
	if e.etag != "" || e.modified != "" {
		e.dated = e.modified != "" && !validator.IsStrong(e.etag) && validator.IsStrongDate(e.modified, res.Header.Get("Date"))
		e.resumable = e.validator() != ""
	}
	return true
}

// isFull reports whether a response of that status has all of a representation, be it the origin's or what a proxy has
// made of that (203).
func isFull(status int) bool {
	return status == http.StatusOK || status == http.StatusNonAuthoritativeInfo
}

// readRange reads which part of the representation a 206 has.
func (e *representation) readRange(res *http.Response) (ok bool) {
	r, ok := byterange.Parse(res.Header.Get("Content-Range"))
	if !ok || r.Unsatisfied || res.ContentLength >= 0 && res.ContentLength != r.Length() {
		return false
	}
	e.from, e.end, e.total = r.First, r.Last+1, r.Total
	return true
}

// hasNoChecks reports whether the body is the representation as it is, with nothing to decode and nothing to check it against.
func (e *representation) hasNoChecks() bool { return e.encoding == "" && !e.digest }

// validator returns what If-Range can ask for; empty: nothing.
func (e *representation) validator() string {
	switch {
	case validator.IsStrong(e.etag):
		return e.etag
	case e.dated:
		return e.modified
	}
	return ""
}

// request returns the request for the rest from next on. If nothing has been read, it is req again.
func (e *representation) request(req *http.Request, next int64) *http.Request {
	if next == e.from {
		return req
	}
	req = req.Clone(req.Context())
	h := req.Header
	h.Del("If-None-Match") // these asked whether to send anything at all
	h.Del("If-Modified-Since")
	last := ""
	if !e.full {
		last = fmt.Sprint(e.end - 1)
	}
	h.Set("Range", fmt.Sprintf("bytes=%d-%s", next, last))
	h.Set("If-Range", e.validator())
	return req
}

// accept checks a response to request(next): a splice of two representations must not happen. It returns how many bytes of its
// body come before next, and the offset from which it has nothing that is wanted, or -1.
func (e *representation) accept(res *http.Response, next int64) (skip, stop int64, err error) {
	if !isFull(res.StatusCode) && res.StatusCode != http.StatusPartialContent {
		return 0, 0, fmt.Errorf("httpretry: the rest came with status %d", res.StatusCode)
	}
	if !e.same(res, next) {
		return 0, 0, ErrChanged
	}
	if isFull(res.StatusCode) {
		if e.total >= 0 && res.ContentLength >= 0 && res.ContentLength != e.total {
			return 0, 0, ErrChanged
		}
		return next, e.end, nil
	}
	return e.acceptPart(res, next)
}

// acceptPart is accept for a 206.
func (e *representation) acceptPart(res *http.Response, next int64) (skip, stop int64, err error) {
	r, ok := byterange.Parse(res.Header.Get("Content-Range"))
	switch {
	case !ok || r.Unsatisfied || r.First > next || r.Last < next:
		return 0, 0, ErrWrongRange
	case res.ContentLength >= 0 && res.ContentLength != r.Length():
		return 0, 0, ErrWrongRange
	case e.total >= 0 && r.Total >= 0 && r.Total != e.total:
		return 0, 0, ErrChanged
	case e.total < 0 && r.Total >= 0:
		e.total = r.Total
		if e.full {
			e.end = r.Total
		}
	}
	stop = r.Last + 1
	if e.end >= 0 {
		stop = min(stop, e.end)
	}
	return next - r.First, stop, nil
}

// same reports whether res is of the representation that the first response was of. Where nothing has been read, it is enough if
// no header that the caller has seen says otherwise.
func (e *representation) same(res *http.Response, next int64) bool {
	h := res.Header
	if res.Uncompressed || h.Get("Content-Encoding") != e.encoding {
		return false
	}
	if next == e.from {
		return isFull(res.StatusCode) == e.full && h.Get("ETag") == e.etag && h.Get("Last-Modified") == e.modified &&
			(res.ContentLength == e.end-e.from || res.ContentLength < 0 || e.end < 0)
	}
	if validator.IsStrong(e.etag) {
		return h.Get("ETag") == e.etag
	}
	return h.Get("Last-Modified") == e.modified
}

// ended reports whether a 416 response says that the representation ends at next, which the caller of request then has reached.
func (e *representation) ended(res *http.Response, next int64) bool {
	r, ok := byterange.Parse(res.Header.Get("Content-Range"))
	return ok && r.Unsatisfied && r.Total == next && (e.total < 0 || e.total == next)
}
