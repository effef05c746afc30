package awsretry

import (
	"fmt"
	"io"
	"strings"

	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// unsendable returns an error for a header that net/http refuses to send, such as bad metadata. To net/http that is
// an error of sending; but every attempt would fail, and the service is not involved.
func unsendable(request any) error {
	req, ok := request.(*smithyhttp.Request)
	if !ok {
		return nil
	}
	for name, values := range req.Header {
		if name == "" || strings.ContainsFunc(name, isNoToken) {
			return fmt.Errorf("header %q: the name may contain only letters, digits and -", name)
		}
		for _, value := range values {
			if strings.ContainsFunc(value, isControl) {
				return fmt.Errorf("header %s: the value contains a control character, such as a line break, which HTTP does not allow", name)
			}
		}
	}
	return nil
}

// isNoToken reports whether r is not allowed in a header name (RFC 9110, 5.6.2).
func isNoToken(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	}
	return !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

// isControl reports whether r is not allowed in a header value.
func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// A plainBody is a request body without WriteTo.
//
// The SDK closes the body as soon as the response header arrives. If net/http has not checked by then whether the
// body is longer than its length, it does so with WriteTo. On a closed body the SDK's WriteTo returns io.EOF, and
// Read would not. net/http takes that for an error and closes the connection while the response is read from it ("use
// of closed network connection"): on a busy machine one call in some thousands failed.
type plainBody struct{ io.ReadSeeker }

// withoutWriteTo returns the request with a body that hides WriteTo from net/http.
func withoutWriteTo(request any) any {
	req, ok := request.(*smithyhttp.Request)
	if !ok {
		return request
	}
	body, ok := req.GetStream().(interface {
		io.ReadSeeker
		io.WriterTo
	})
	if !ok {
		return request
	}
	if plain, err := req.SetStream(plainBody{body}); err == nil {
		return plain
	}
	return request
}
