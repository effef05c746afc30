package s3_test

import (
	"bytes"
	"testing"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// The client of a CreateMultipartUpload whose response was lost gets an upload that works. The lost one is left, and is not touched: nothing
// tells it from the upload of another client.
func TestLostCreateMultipartUpload(t *testing.T) {
	store, c := start(t, s3test.Rule{Operation: "CreateMultipartUpload", Nth: []int{1}, Fault: s3test.LostResponse()})
	want := multipart(t, c, "k")
	if got, _ := store.Object(bucket, "k"); !bytes.Equal(got, want) {
		t.Errorf("the object has %d bytes, want %d", len(got), len(want))
	}
	if left := store.Uploads(); len(left) != 1 || store.Count("DELETE", "/") != 0 {
		t.Errorf("%v are left, want one upload, and none aborted", left)
	}
}
