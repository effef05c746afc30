package httpretry

import (
	"fmt"
	"net/http"

	"github.com/seed-0f2c7998/perdure/httpretry/internal/byterange"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/digest"
	"github.com/seed-0f2c7998/perdure/internal/validator"
)

// A representation is the version of a resource that the first response has, and the part of it that the caller wants.
type representation struct {
	etag      string // as sent; may be weak
	modified  string // Last-Modified, as sent
	encoding  string // Content-Encoding
	dated     bool   // etag is not strong, and modified is old enough to be a validator
	resumable bool   // it has a validator
	digest    bool   // a header has a digest
	full      bool   // the first response was not a 206

	from, end int64 // offsets of the wanted part; end is -1 while unknown
	total     int64 // length of the representation; -1 if unknown
}

// read reads the header of the first response. It is not ok if res is a 206 without a single valid range.
func (rep *representation) read(res *http.Response) (ok bool) {
	rep.full = res.StatusCode != http.StatusPartialContent
	rep.end, rep.total = res.ContentLength, res.ContentLength
	if !rep.full && !rep.readRange(res) {
		return false
	}
	for name, values := range res.Header { // one pass, because each response takes it
		if len(values) == 0 {
			continue
		}
		switch { // three comparisons are faster here than switch name
		case name == "Etag":
			rep.etag = values[0]
		case name == "Last-Modified":
			rep.modified = values[0]
		case name == "Content-Encoding":
			rep.encoding = values[0]
		case digest.Offers(name):
			rep.digest = true
		}
	}
	if rep.etag != "" || rep.modified != "" {
		rep.dated = rep.modified != "" && !validator.IsStrong(rep.etag) && validator.IsStrongDate(rep.modified, res.Header.Get("Date"))
		rep.resumable = rep.validator() != ""
	}
	return true
}

// isFull reports whether a response with that status has a whole representation, of the origin or of a proxy (203).
func isFull(status int) bool {
	return status == http.StatusOK || status == http.StatusNonAuthoritativeInfo
}

// readRange reads the range of a 206.
func (rep *representation) readRange(res *http.Response) (ok bool) {
	r, ok := byterange.Of(res)
	if !ok {
		return false
	}
	rep.from, rep.end, rep.total = r.First, r.Last+1, r.Total
	return true
}

// hasNoChecks reports whether the body needs neither decoding nor a digest.
func (rep *representation) hasNoChecks() bool { return rep.encoding == "" && !rep.digest }

// validator returns the value for If-Range, or "" if the representation has no validator.
func (rep *representation) validator() string {
	switch {
	case validator.IsStrong(rep.etag):
		return rep.etag
	case rep.dated:
		return rep.modified
	}
	return ""
}

// request returns the request for the bytes from next on. If nothing has been read, it returns req.
func (rep *representation) request(req *http.Request, next int64) *http.Request {
	if next == rep.from {
		return req
	}
	req = req.Clone(req.Context())
	end := int64(-1)
	if !rep.full {
		end = rep.end
	}
	byterange.Request(req.Header, next, end, rep.validator())
	return req
}

// accept checks a response to request(next): the caller must never get a mixture of two representations. It returns how many
// bytes of res precede next, and the offset at which res has no more wanted bytes, or -1 if unknown.
func (rep *representation) accept(res *http.Response, next int64) (skip, stop int64, err error) {
	if !isFull(res.StatusCode) && res.StatusCode != http.StatusPartialContent {
		return 0, 0, fmt.Errorf("httpretry: the rest came with status %d", res.StatusCode)
	}
	if !rep.same(res, next) {
		return 0, 0, ErrChanged
	}
	if isFull(res.StatusCode) {
		if rep.total >= 0 && res.ContentLength >= 0 && res.ContentLength != rep.total {
			return 0, 0, ErrChanged
		}
		return next, rep.end, nil
	}
	return rep.acceptPart(res, next)
}

// acceptPart is accept for a 206.
func (rep *representation) acceptPart(res *http.Response, next int64) (skip, stop int64, err error) {
	r, ok := byterange.Of(res)
	switch {
	case !ok || r.First > next || r.Last < next:
		return 0, 0, ErrWrongRange
	case rep.total >= 0 && r.Total >= 0 && r.Total != rep.total:
		return 0, 0, ErrChanged
	case rep.total < 0 && r.Total >= 0:
		rep.total = r.Total
		if rep.full {
			rep.end = r.Total
		}
	}
	stop = r.Last + 1
	if rep.end >= 0 {
		stop = min(stop, rep.end)
	}
	return next - r.First, stop, nil
}

// same reports whether res has the representation of the first response. If nothing has been read, the headers that the
// caller has seen must agree; no validator is needed then.
func (rep *representation) same(res *http.Response, next int64) bool {
	h := res.Header
	if res.Uncompressed || h.Get("Content-Encoding") != rep.encoding {
		return false
	}
	if next == rep.from {
		return isFull(res.StatusCode) == rep.full && h.Get("ETag") == rep.etag && h.Get("Last-Modified") == rep.modified &&
			(res.ContentLength == rep.end-rep.from || res.ContentLength < 0 || rep.end < 0)
	}
	if validator.IsStrong(rep.etag) {
		return h.Get("ETag") == rep.etag
	}
	return h.Get("Last-Modified") == rep.modified
}

// ended reports whether a 416 says that the representation ends at next: the body is complete.
func (rep *representation) ended(res *http.Response, next int64) bool {
	r, ok := byterange.Parse(res.Header.Get("Content-Range"))
	return ok && r.Unsatisfied && r.Total == next && (rep.total < 0 || rep.total == next)
}
