package awsretry

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-0f2c7998/perdure/internal/redact"
)

// Brief returns what an AWS service answered, in one line, as "503 SlowDown:
// Please reduce your request rate.", without the words that the SDK puts around
// it; or "" if err is not such an answer. A status without a code, as of a HEAD,
// has what the SDK makes of it.
func Brief(err error) string {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return ""
	}
	text := api.ErrorCode()
	if res, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && res.HTTPStatusCode() > 0 {
		text = fmt.Sprintf("%d %s", res.HTTPStatusCode(), text)
	}
	if m := api.ErrorMessage(); m != "" && m != http.StatusText(http.StatusNotFound) {
		text += ": " + m
	}
	return redact.Line(text)
}
