// Package getters gives this module's packages access to what users do not see: the [transfer.Getter] of an HTTP
// resource in package download, and that of an S3 object in package objects.
package getters

import (
	"net/http"

	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// An HTTP requests ranges of one resource. It is safe for concurrent use.
type HTTP interface {
	transfer.Getter
	// Source identifies the resource to a later process, without secrets.
	Source() string
	// Header returns the header of the first response with the present version of the resource; nil before that. Do
	// not change it.
	Header() http.Header
}

// NewHTTP returns an HTTP that sends copies of req, a GET without a body. If client is nil, it is
// httpretry.Client(nil). The client retries, and resumes bodies. Package download sets NewHTTP when it is initialized.
var NewHTTP func(req *http.Request, client *http.Client) HTTP //nolint:gochecknoglobals // a function

// An S3 requests ranges of one object, where O is an objects.Object. At most
// Options.Parallel of its responses are open at a time. It is safe for concurrent use.
type S3[O any] interface {
	transfer.Getter
	// Source identifies the object to a later process, without secrets.
	Source() string
	// Parallel returns how many ranges to request at a time: twice the number of slots, because a request that waits
	// for its next attempt yields its slot.
	Parallel() int
	// Object returns the description from the last response for the whole object, or else from the first response for
	// a range.
	Object() O
}

// NewS3 is the function that returns the S3 of an object: a
// func(store *objects.Store, bucket, key string, o objects.GetOptions) S3[objects.Object]. It uses only VersionID and
// Tags of o. Package objects, which imports this one, sets NewS3 when it is initialized.
var NewS3 any //nolint:gochecknoglobals // a function
