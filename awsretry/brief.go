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

// Brief returns the error of an AWS service in one line, such as "503 SlowDown: Please reduce your request rate.",
// without the SDK's words around it. Brief returns "" if err is not such an error. For a status without a code, as of a
// HEAD, Brief returns the SDK's name of the status. If the response is not one of the service, Brief says so.
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
		return fmt.Sprintf("%d %s, but not an error of the service: is the endpoint another server's?", status, http.StatusText(status))
	case !ok:
		return ""
	}
	text := api.ErrorCode()
	if status > 0 {
		text = fmt.Sprintf("%d %s", status, text)
	}
	switch m := api.ErrorMessage(); m {
	case "", "UnknownError", http.StatusText(status), http.StatusText(http.StatusNotFound): // the SDK's texts for an error without a message
	default:
		text += ": " + m
	}
	return redact.Line(text)
}
