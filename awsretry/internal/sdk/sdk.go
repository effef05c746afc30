// Package sdk reads what the SDK's errors and inputs hold.
package sdk

import (
	"errors"
	"reflect"

	"github.com/aws/aws-sdk-go-v2/aws"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Response returns the response of err, without its body; nil if it has none.
func Response(err error) *smithyhttp.Response {
	e, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || e.Response == nil || e.Response.Response == nil {
		return nil
	}
	return e.Response
}

// Status returns the HTTP status of err; 0 without a response.
func Status(err error) int {
	if response := Response(err); response != nil {
		return response.StatusCode
	}
	return 0
}

// Parameter returns the text in a field of an operation's input; "" if it is missing.
func Parameter(input any, name string) string {
	v := reflect.ValueOf(input)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return ""
	}
	f := v.Elem().FieldByName(name)
	if !f.IsValid() {
		return ""
	}
	text, _ := reflect.TypeAssert[*string](f)
	return aws.ToString(text)
}
