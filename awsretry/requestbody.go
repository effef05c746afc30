package awsretry

import (
	"io"

	smithyhttp "github.com/aws/smithy-go/transport/http"
)

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
