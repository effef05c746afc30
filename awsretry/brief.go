package awsretry

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-0f2c7998/perdure/internal/redact"
)

// Brief returns what an AWS service answered, in one line, as "503 SlowDown:
// Please reduce your request rate.", without the words that the SDK puts around
// it; or "" if err is not such a response. A status without a code, as of a HEAD,
// has what the SDK makes of it. Of what another server answered Brief says that.
func Brief(err error) string {
	status := 0
	if res, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		status = res.HTTPStatusCode()
	}
	other, isOther := errors.AsType[*NotS3Error](err)
	_, unreadable := errors.AsType[*xml.SyntaxError](err)
	api, ok := errors.AsType[smithy.APIError](err)
	switch {
	case isOther:
		return redact.Line(other.Error())
	case !ok && unreadable && status >= http.StatusMultipleChoices:
		return fmt.Sprintf("%d %s, and no error of the service: is the endpoint another server's?", status, http.StatusText(status))
	case !ok:
		return ""
	}
	text := api.ErrorCode()
	if status > 0 {
		text = fmt.Sprintf("%d %s", status, text)
	}
	switch m := api.ErrorMessage(); m {
	case "", "UnknownError", http.StatusText(status), http.StatusText(http.StatusNotFound): // which the SDK makes of none
	default:
		text += ": " + m
	}
	return redact.Line(text)
}
