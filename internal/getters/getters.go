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

// A NewS3 returns the S3 of an object, where S is an *objects.Store and G an objects.GetOptions, of which only
// VersionID and Tags are used.
type NewS3[S, G, O any] func(store S, bucket, key string, o G) S3[O]

var newS3 any //nolint:gochecknoglobals // set once, as package objects is initialized

// OfferS3 is called by package objects when it is initialized.
func OfferS3[S, G, O any](f NewS3[S, G, O]) { newS3 = f }

// TakeS3 returns the function of package objects, for a package that imports it.
func TakeS3[S, G, O any]() NewS3[S, G, O] {
	return newS3.(NewS3[S, G, O]) //nolint:errcheck,forcetypeassert // else the program does not start
}
