// Package validator decides which validators identify the bytes of a representation (RFC 9110, section 8.8).
package validator

import (
	"errors"
	"net/http"
	"strings"
	"time"
)

// ErrChanged reports a resource whose validator has changed.
var ErrChanged = errors.New("resource changed during transfer")

// Of returns the validator in h for If-Range: a strong ETag, or else a strong Last-Modified. At most one of them is not "".
func Of(h http.Header) (etag, lastModified string) {
	if tag := h.Get("ETag"); IsStrong(tag) {
		return tag, ""
	}
	if modified := h.Get("Last-Modified"); IsStrongDate(modified, h.Get("Date")) {
		return "", modified
	}
	return "", ""
}

// IsStrong reports whether an ETag is strong: it identifies the bytes of a representation, not only their meaning.
func IsStrong(etag string) bool { return strings.HasPrefix(etag, `"`) }

// IsStrongDate reports whether a Last-Modified identifies a representation in a response with that Date: it is at least one
// second older, so no second change can have the same Last-Modified (RFC 9110, section 8.8.2.2).
func IsStrongDate(modified, date string) bool {
	then, err := http.ParseTime(modified)
	if err != nil {
		return false
	}
	now, err := http.ParseTime(date)
	return err == nil && now.Sub(then) >= time.Second
}
