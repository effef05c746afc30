package awsretry

import (
	"fmt"
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
