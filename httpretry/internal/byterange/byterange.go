// Package byterange writes the Range header (RFC 9110, section 14.2) and reads the Content-Range header (section 14.4).
package byterange

import (
	"fmt"
	"math"
	"net/http"
	"strings"
)

// Unknown is the length of a representation that the server has not sent.
const Unknown int64 = -1

// A Range is the part of a representation in a 206 response, or, if Unsatisfied, the statement of a 416 that the requested
// range does not exist.
type Range struct {
	First, Last int64 // offsets of the first and of the last byte; meaningless if Unsatisfied
	Total       int64 // length of the whole representation, or Unknown
	Unsatisfied bool
}

// Request makes h, of a request, ask for the bytes from first up to, but not including, end, or to the last one if end is -1:
// those of the representation with that validator, unless it is "".
func Request(h http.Header, first, end int64, validator string) {
	last := ""
	if end >= 0 {
		last = fmt.Sprint(end - 1)
	}
	h.Set("Range", fmt.Sprintf("bytes=%d-%s", first, last))
	if validator != "" {
		h.Del("If-None-Match") // these would ask whether to send a body at all
		h.Del("If-Modified-Since")
		h.Set("If-Range", validator)
	}
}

// Of returns the range of a 206. It is not ok if the response has none, or a length of another one.
func Of(res *http.Response) (r Range, ok bool) {
	r, ok = Parse(res.Header.Get("Content-Range"))
	return r, ok && !r.Unsatisfied && (res.ContentLength < 0 || res.ContentLength == r.Length())
}

// Parse reads the value of a Content-Range header. It accepts the grammar only: the unit bytes in any case, one space,
// decimal numbers that fit an int64, first <= last < total. A range of another unit is not ok.
func Parse(value string) (r Range, ok bool) {
	unit, rest, ok := strings.Cut(value, " ")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return Range{}, false
	}
	part, total, ok := strings.Cut(rest, "/")
	if !ok {
		return Range{}, false
	}
	r.Total = Unknown
	if total != "*" {
		if r.Total, ok = number(total); !ok {
			return Range{}, false
		}
	}
	if part == "*" {
		r.Unsatisfied = true
		return r, r.Total != Unknown
	}
	first, last, ok := strings.Cut(part, "-")
	if !ok {
		return Range{}, false
	}
	r.First, ok = number(first)
	if !ok {
		return Range{}, false
	}
	r.Last, ok = number(last)
	if !ok || r.First > r.Last || r.Total != Unknown && r.Last >= r.Total {
		return Range{}, false
	}
	return r, true
}

// Length returns the number of bytes in the range.
func (r Range) Length() int64 { return r.Last - r.First + 1 }

// number reads decimal digits, up to MaxInt64-1, so that Last+1 does not overflow.
func number(s string) (int64, bool) {
	n := int64(0)
	for _, digit := range []byte(s) {
		if digit < '0' || digit > '9' || n > (math.MaxInt64-1-int64(digit-'0'))/10 {
			return 0, false
		}
		n = 10*n + int64(digit-'0')
	}
	return n, s != ""
}
