package awsretry

import (
	"reflect"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkretry "github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go/middleware"
)

// retryerOf returns the retryer of the SDK's loop, which knows the errors that the client, or the operation, has
// added, such as IDPCommunicationError of STS. It returns nil if the loop has an unknown form.
func retryerOf(loop *sdkretry.Attempt) aws.Retryer {
	retryer, _ := inside[aws.Retryer](loop, "retryer")
	if op, ok := retryer.(*operation); ok { // of an earlier Apply
		return op.sdk
	}
	return retryer
}

// credentialsOf returns the credentials provider of the stack's operation. It returns nil if it has none, or if the
// client is not a generated one.
func credentialsOf(stack *middleware.Stack) aws.CredentialsProvider {
	step, _ := stack.Finalize.Get("GetIdentity")
	provider, _ := inside[aws.CredentialsProvider](step, "options", "Credentials")
	if wrapped, ok := inside[aws.CredentialsProvider](provider, "SymmetricProvider"); ok { // S3's, for SigV4a
		return wrapped
	}
	return provider
}

// inside returns the field at the path of names from v, a pointer to a struct, if the field holds a T. The field may
// be unexported: the SDK's middleware gives no other access to its client's configuration.
func inside[T any](v any, names ...string) (T, bool) {
	var none T
	value := reflect.ValueOf(v)
	if value.Kind() != reflect.Pointer {
		return none, false
	}
	value = value.Elem()
	for _, name := range names {
		if value.Kind() != reflect.Struct {
			return none, false
		}
		value = value.FieldByName(name)
	}
	if !value.IsValid() {
		return none, false
	}
	return reflect.TypeAssert[T](reflect.NewAt(value.Type(), value.Addr().UnsafePointer()).Elem())
}
