package objects

import (
	"context"
	"crypto/md5" //nolint:gosec // as S3 wants it
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-0f2c7998/perdure/retry"
)

// customerKeySize is that of a key for AES-256, in bytes.
const customerKeySize = 32

// WithCustomerKey returns a Store like s, with its connections and breakers, whose
// objects are encrypted by the server with that key of the caller's, of 32 bytes
// (SSE-C, AES-256). It is sent with each request that writes, reads or asks about
// an object, the two of a Copy included, and kept nowhere: the server forgets it,
// and no state file or error has it. So the Store is for objects of that key
// alone: what has another or none is refused by the server, and who loses the key
// has lost them.
//
// The endpoint must be https. An object's ETag is no MD5 then: against what a
// store says of it without a checksum, only the size is compared. The error is a
// [*retry.ConfigError].
func (s *Store) WithCustomerKey(key []byte) (*Store, error) {
	bad := func(field, value, want string) error {
		return &retry.ConfigError{Field: field, Value: value, Want: want}
	}
	switch {
	case len(key) != customerKeySize:
		return nil, bad("customer key", fmt.Sprintf("of %d bytes", len(key)), "32 bytes, for AES-256")
	case s.signed:
		return nil, bad("endpoint", s.endpoint, "https, as the customer key is sent with each request")
	}
	keyed := *s
	keyed.customer = true
	keyed.client = s3.New(s.client.Options(), func(o *s3.Options) {
		o.APIOptions = append(slices.Clip(o.APIOptions), sending(key))
	})
	return &keyed, nil
}

// sending adds the key to the requests that need it.
func sending(key []byte) func(*middleware.Stack) error {
	encoded, digest := base64.StdEncoding.EncodeToString(key), md5.Sum(key) //nolint:gosec // as S3 wants it
	fields := map[string]string{
		"Algorithm": string(types.ServerSideEncryptionAes256), "Key": encoded,
		"Key-Md5": base64.StdEncoding.EncodeToString(digest[:]),
	}
	add := middleware.BuildMiddlewareFunc("perdure:CustomerKey", func(
		ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler,
	) (middleware.BuildOutput, middleware.Metadata, error) {
		if r, ok := in.Request.(*smithyhttp.Request); ok {
			for _, prefix := range customerHeaders(middleware.GetOperationName(ctx)) {
				for name, value := range fields {
					r.Header.Set(prefix+name, value)
				}
			}
		}
		return next.HandleBuild(ctx, in)
	})
	return func(stack *middleware.Stack) error { return stack.Build.Add(add, middleware.After) }
}

// customerHeaders returns what the headers begin with in which an operation takes
// a key: for the object, and for one that it is copied from.
func customerHeaders(operation string) []string {
	const object, source = "X-Amz-Server-Side-Encryption-Customer-", "X-Amz-Copy-Source-Server-Side-Encryption-Customer-"
	switch operation {
	case "PutObject", "GetObject", "HeadObject", "GetObjectAttributes",
		"CreateMultipartUpload", "UploadPart", "ListParts", "CompleteMultipartUpload":
		return []string{object}
	case "CopyObject", "UploadPartCopy":
		return []string{object, source}
	}
	return nil
}
