// Package getters gives this module's own packages what their users do not see: the
// [transfer.Getter] of an HTTP resource, from package download, and that of an S3 object,
// from package objects.
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
	// Header returns the header of the first response that brought the present version of
	// the resource, and nil before that. Do not change it.
	Header() http.Header
}

// A NewHTTP returns an HTTP that sends copies of req, a GET without a body. If client is
// nil, it is httpretry.Client(nil). Retries and the resuming of bodies are the client's.
type NewHTTP func(req *http.Request, client *http.Client) HTTP

// An S3 requests ranges of one object, where O is an objects.Object. At most
// Options.Parallel of its responses are open at a time. It is safe for concurrent use.
type S3[O any] interface {
	transfer.Getter
	// Source identifies the object to a later process, without secrets.
	Source() string
	// Parallel returns how many ranges are to be requested at a time: twice as many as may
	// be under way, as one that waits for its next attempt lets another go in its place.
	Parallel() int
	// Object returns what the store said of the object at the last request of all of it, or
	// else at the first of a range.
	Object() O
}

// A NewS3 returns the S3 of an object, where S is an *objects.Store and G an
// objects.GetOptions, of which only VersionID and Tags count.
type NewS3[S, G, O any] func(store S, bucket, key string, o G) S3[O]

var newHTTP, newS3 any //nolint:gochecknoglobals // set once, as the packages are initialized

// OfferHTTP is called by package download.
func OfferHTTP(f NewHTTP) { newHTTP = f }

// TakeHTTP returns what package download has offered, for a package that imports it.
func TakeHTTP() NewHTTP {
	return newHTTP.(NewHTTP) //nolint:errcheck,forcetypeassert // else the program does not start
}

// OfferS3 is called by package objects.
func OfferS3[S, G, O any](f NewS3[S, G, O]) { newS3 = f }

// TakeS3 returns what package objects has offered, for a package that imports it.
func TakeS3[S, G, O any]() NewS3[S, G, O] {
	return newS3.(NewS3[S, G, O]) //nolint:errcheck,forcetypeassert // else the program does not start
}
