package httpretry

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry/internal/byterange"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/digest"
)

// Why a body is not resumed, as BodyError.Stop.
var (
	ErrNoValidator = errors.New("nothing identifies the entity: it has no strong ETag, and no Last-Modified that would do")
	ErrChanged     = errors.New("the entity is another one now")
	ErrWrongRange  = errors.New("the server sent another range than it was asked for")
)

// An entity is what a body is read from, as far as the first answer told, and the part of it that is wanted.
type entity struct {
	etag     string // as sent; may be weak
	modified string // Last-Modified, as sent
	encoding string // Content-Encoding
	dated    bool   // there is no strong etag, and modified is old enough to identify it
	lasting  bool   // it can be identified later
	digest   bool   // a header offers one
	whole    bool   // the first answer had everything

	from, end int64 // offsets of the part that is wanted; end is -1 while it is unknown
	total     int64 // length of the whole; -1: unknown
}

// read reads the first answer. It is not ok if the answer is no single part of anything.
func (e *entity) read(res *http.Response) (ok bool) {
	e.whole = res.StatusCode == http.StatusOK
	e.end, e.total = res.ContentLength, res.ContentLength
	if !e.whole && !e.readRange(res) {
		return false
	}
	for name, values := range res.Header { // in one pass, for it is done for every answer
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
		e.dated = e.modified != "" && !isStrong(e.etag) && isOld(e.modified, res.Header.Get("Date"))
		e.lasting = e.validator() != ""
	}
	return true
}

// readRange reads which part of the entity a 206 has.
func (e *entity) readRange(res *http.Response) (ok bool) {
	r, ok := byterange.Parse(res.Header.Get("Content-Range"))
	if !ok || r.Unsatisfied || res.ContentLength >= 0 && res.ContentLength != r.Length() {
		return false
	}
	e.from, e.end, e.total = r.First, r.Last+1, r.Total
	return true
}

// isBare reports whether the body is the entity as it is, with nothing to decode and nothing to check it against.
func (e *entity) isBare() bool { return e.encoding == "" && !e.digest }

// isStrong reports whether an ETag stands for the bytes of an entity, and not only for what they mean.
func isStrong(etag string) bool { return strings.HasPrefix(etag, `"`) }

// isOld reports whether a Last-Modified identifies an entity: nothing can have changed in the same second after it was
// sent (RFC 9110, section 8.8.2.2).
func isOld(modified, date string) bool {
	then, err := http.ParseTime(modified)
	if err != nil {
		return false
	}
	now, err := http.ParseTime(date)
	return err == nil && now.Sub(then) >= time.Second
}

// validator returns what If-Range can ask for; empty: nothing.
func (e *entity) validator() string {
	switch {
	case isStrong(e.etag):
		return e.etag
	case e.dated:
		return e.modified
	}
	return ""
}

// request returns the request for the rest from next on. If nothing has been read, it is req again.
func (e *entity) request(req *http.Request, next int64) *http.Request {
	if next == e.from {
		return req
	}
	req = req.Clone(req.Context())
	h := req.Header
	h.Del("If-None-Match") // these asked whether to send anything at all
	h.Del("If-Modified-Since")
	last := ""
	if !e.whole {
		last = fmt.Sprint(e.end - 1)
	}
	h.Set("Range", fmt.Sprintf("bytes=%d-%s", next, last))
	h.Set("If-Range", e.validator())
	return req
}

// accept checks an answer to request(next): a splice of two entities must not happen. It returns how many bytes of its
// body come before next, and the offset from which it has nothing that is wanted, or -1.
func (e *entity) accept(res *http.Response, next int64) (skip, stop int64, err error) {
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusPartialContent {
		return 0, 0, fmt.Errorf("httpretry: the rest came with status %d", res.StatusCode)
	}
	if !e.same(res, next) {
		return 0, 0, ErrChanged
	}
	if res.StatusCode == http.StatusOK {
		if e.total >= 0 && res.ContentLength >= 0 && res.ContentLength != e.total {
			return 0, 0, ErrChanged
		}
		return next, e.end, nil
	}
	return e.acceptPart(res, next)
}

// acceptPart is accept for a 206.
func (e *entity) acceptPart(res *http.Response, next int64) (skip, stop int64, err error) {
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
		if e.whole {
			e.end = r.Total
		}
	}
	stop = r.Last + 1
	if e.end >= 0 {
		stop = min(stop, e.end)
	}
	return next - r.First, stop, nil
}

// same reports whether res is of the entity that the first answer was of. Where nothing has been read, it is enough if
// no header that the caller has seen says otherwise.
func (e *entity) same(res *http.Response, next int64) bool {
	h := res.Header
	if res.Uncompressed || h.Get("Content-Encoding") != e.encoding {
		return false
	}
	if next == e.from {
		return (res.StatusCode == http.StatusOK) == e.whole && h.Get("ETag") == e.etag && h.Get("Last-Modified") == e.modified &&
			(res.ContentLength == e.end-e.from || res.ContentLength < 0 || e.end < 0)
	}
	if isStrong(e.etag) {
		return h.Get("ETag") == e.etag
	}
	return h.Get("Last-Modified") == e.modified
}

// ended reports whether a 416 answer says that the entity ends at next, which the caller of request then has reached.
func (e *entity) ended(res *http.Response, next int64) bool {
	r, ok := byterange.Parse(res.Header.Get("Content-Range"))
	return ok && r.Unsatisfied && r.Total == next && (e.total < 0 || e.total == next)
}
