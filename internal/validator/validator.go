// Package validator knows which validators identify the bytes of a representation (RFC 9110, section 8.8).
package validator

import (
	"errors"
	"net/http"
	"strings"
	"time"
)

// ErrChanged is the error of a resource that has another validator than it had before.
var ErrChanged = errors.New("resource changed during transfer")

// Of returns the validator that a response with header h has for If-Range: a strong ETag, or else a Last-Modified that
// will do. At most one of them is not empty.
func Of(h http.Header) (etag, lastModified string) {
	if tag := h.Get("ETag"); IsStrong(tag) {
		return tag, ""
	}
	if modified := h.Get("Last-Modified"); IsStrongDate(modified, h.Get("Date")) {
		return "", modified
	}
	return "", ""
}

// IsStrong reports whether an ETag stands for the bytes of a representation, and not only for what they mean.
func IsStrong(etag string) bool { return strings.HasPrefix(etag, `"`) }

// IsStrongDate reports whether a Last-Modified, in a response of that Date, identifies a representation: nothing can
// have changed in the same second after the response was sent (RFC 9110, section 8.8.2.2).
func IsStrongDate(modified, date string) bool {
	then, err := http.ParseTime(modified)
	if err != nil {
		return false
	}
	now, err := http.ParseTime(date)
	return err == nil && now.Sub(then) >= time.Second
}
