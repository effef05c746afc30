package objects_test

import (
	"bytes"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/s3test"
)

func TestCopyIsTheSame(t *testing.T) {
	server := start(t, script(
		s3test.Rule{Operation: "CopyObject", Nth: []int{1}, Fault: s3test.ErrorIn200()},
		s3test.Rule{Operation: "CopyObject", Nth: []int{2}, Fault: s3test.LostResponse()},
		s3test.Rule{Operation: "UploadPartCopy", Nth: []int{1}, Fault: s3test.SlowDown()},
		s3test.Rule{Operation: "CompleteMultipartUpload", Nth: []int{1}, Fault: s3test.LostResponse()}))
	store := open(t, server, objects.Options{PartSize: 20 * mib})
	body := content(1, 12*mib)
	from := objects.Address{Bucket: bucket, Key: "a b/ü+%.csv"}
	if _, err := store.Put(t.Context(), bucket, from.Key, bytes.NewReader(body), objects.PutOptions{Attributes: objects.Attributes{Metadata: map[string]string{"step": "raw"}}}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"whole", "parts"} {
		copied, err := store.Copy(t.Context(), from, objects.Address{Bucket: bucket, Key: key})
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		stored(t, server, key, body)
		if copied.Verified == "" || copied.Size != int64(len(body)) || copied.Metadata["step"] != "raw" {
			t.Errorf("%s: %+v, want it verified, with size and metadata", key, copied)
		}
		store.SetCopyLimit(5 * mib)
	}
	if _, err := store.Copy(t.Context(), objects.Address{Bucket: bucket, Key: "none"}, from); err == nil || !strings.Contains(err.Error(), "s3://bikes/none") {
		t.Errorf("a copy of what is not there: %v, want an error that names it", err)
	}
	stored(t, server, from.Key, body)
}

// A copy has the attributes of its original, in one request or in parts.
func TestCopyKeepsTheHeaders(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{})
	in := &s3.PutObjectInput{
		Bucket: aws.String(bucket), Key: aws.String("a"), Body: bytes.NewReader(content(1, 6*mib)), ContentType: aws.String("text/csv"),
		ContentEncoding: aws.String("gzip"), CacheControl: aws.String("no-cache"), ContentDisposition: aws.String("attachment"),
	}
	if _, err := store.Client().PutObject(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"whole", "parts"} {
		if _, err := store.Copy(t.Context(), objects.Address{Bucket: bucket, Key: "a"}, objects.Address{Bucket: bucket, Key: key}); err != nil {
			t.Fatal(err)
		}
		got, err := store.Client().HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: &key})
		if err != nil {
			t.Fatal(err)
		}
		for name, header := range map[string][2]*string{
			"Content-Type": {in.ContentType, got.ContentType}, "Content-Encoding": {in.ContentEncoding, got.ContentEncoding},
			"Cache-Control": {in.CacheControl, got.CacheControl}, "Content-Disposition": {in.ContentDisposition, got.ContentDisposition},
		} {
			if aws.ToString(header[1]) != *header[0] {
				t.Errorf("the copy in %s has %s %q, want %q", key, name, aws.ToString(header[1]), *header[0])
			}
		}
		store.SetCopyLimit(5 * mib)
	}
}

// Some stores refuse copied parts if the whole is to have a checksum.
func TestCopyInPartsWhereTheyMayHaveNoChecksum(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{})
	store.SetCopyLimit(5 * mib)
	body := content(1, 12*mib)
	if _, err := store.Put(t.Context(), bucket, "a", bytes.NewReader(body), objects.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	var checked atomic.Bool
	server.SetScript(func(r s3test.Request) s3test.Fault {
		switch {
		case r.Operation == "CreateMultipartUpload":
			checked.Store(r.Header.Get("X-Amz-Checksum-Algorithm") != "")
		case r.Operation == "UploadPartCopy" && checked.Load():
			return s3test.Failure(http.StatusBadRequest, "InvalidArgument")
		}
		return s3test.Fault{}
	})
	if _, err := store.Copy(t.Context(), objects.Address{Bucket: bucket, Key: "a"}, objects.Address{Bucket: bucket, Key: "b"}); err != nil {
		t.Error(err)
	}
	stored(t, server, "b", body)
	server.SetScript(s3test.Rules(s3test.Rule{Operation: "UploadPartCopy", Fault: s3test.Failure(http.StatusBadRequest, "InvalidArgument")}))
	_, err := store.Copy(t.Context(), objects.Address{Bucket: bucket, Key: "a"}, objects.Address{Bucket: bucket, Key: "b"})
	if err == nil || !strings.Contains(err.Error(), "InvalidArgument") {
		t.Errorf("what is refused in any case: %v, want InvalidArgument", err)
	}
	stored(t, server, "b", body)
}
