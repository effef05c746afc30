package s3test_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// Parts can be listed while others come: a process that resumes an upload lists them while the last requests of the one
// before it are still being processed. (This test is for the race detector.)
func TestPartsAreListedWhileOthersCome(t *testing.T) {
	t.Parallel()
	client := connect(t, start(t, s3test.Options{}), 1)
	id := create(t, client, "listed")
	const parts = 40
	var senders sync.WaitGroup
	for n := range int32(parts) {
		senders.Go(func() {
			_, err := client.UploadPart(t.Context(), &s3.UploadPartInput{
				Bucket: aws.String(bucket), Key: aws.String("listed"), UploadId: id, PartNumber: aws.Int32(n + 1),
				Body: strings.NewReader(fmt.Sprint("part ", n)),
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	listed := func() int {
		out, err := client.ListParts(t.Context(), &s3.ListPartsInput{Bucket: aws.String(bucket), Key: aws.String("listed"), UploadId: id})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range out.Parts {
			if aws.ToString(p.ETag) == "" || aws.ToInt64(p.Size) != int64(len(fmt.Sprint("part ", *p.PartNumber-1))) {
				t.Errorf("part %d has ETag %q and size %d", *p.PartNumber, aws.ToString(p.ETag), aws.ToInt64(p.Size))
			}
		}
		return len(out.Parts)
	}
	for range parts {
		listed()
	}
	senders.Wait()
	if n := listed(); n != parts {
		t.Errorf("%d parts are listed in the end, want %d", n, parts)
	}
}
