package awsretry

import (
	"fmt"
	"io"
	"strings"

	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// unsendable returns what is wrong with a header of the request, as metadata can
// be, that net/http will not send. It calls that an error of sending like any
// other; but no attempt would be different, and the service has no part in it.
func unsendable(request any) error {
	req, ok := request.(*smithyhttp.Request)
	if !ok {
		return nil
	}
	for name, values := range req.Header {
		if name == "" || strings.ContainsFunc(name, isNoToken) {
			return fmt.Errorf("header %q: the name may have letters, digits and - alone", name)
		}
		for _, value := range values {
			if strings.ContainsFunc(value, isControl) {
				return fmt.Errorf("header %s: the value has a control character, as a line's end, which no header may have", name)
			}
		}
	}
	return nil
}

// isNoToken reports whether r may not be in a header's name (RFC 9110, 5.6.2).
func isNoToken(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	}
	return !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

// isControl reports whether r may not be in a header's value.
func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// A plainBody is a request's body without WriteTo.
//
// The SDK closes the body as soon as the head of the response has come. If net/http has not looked by then whether the
// body has more than its length, it does so with WriteTo, which the SDK's body answers with io.EOF, where Read would not.
// That is an error for net/http, and it closes the connection while the response is read from it ("use of closed network
// connection"): on a busy machine, one call in some thousands failed so.
type plainBody struct{ io.ReadSeeker }

// withoutWriteTo returns the request with a body of which net/http knows no WriteTo.
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
