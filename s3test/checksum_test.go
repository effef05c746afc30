package s3test_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/seed-0f2c7998/perdure/s3test"
)

func crcOf(b []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(b)))
}

// As with S3, CompleteMultipartUpload has the checksum of the whole object, which the object keeps.
func TestMultipartObjectKeepsTheChecksumOfItsWhole(t *testing.T) {
	server := start(t, s3test.Options{})
	client := connect(t, server, 1)
	body := pattern(300_000)
	in := upload(t, client, "k", body[:200_000], body[200_000:])
	in.ChecksumType, in.ChecksumCRC32 = types.ChecksumTypeFullObject, aws.String(crcOf(body[1:]))
	if _, err := client.CompleteMultipartUpload(t.Context(), in); code(err) != "BadDigest" {
		t.Errorf("complete with a wrong CRC32: %v, want BadDigest", err)
	}
	in.ChecksumCRC32 = aws.String(crcOf(body))
	if _, err := client.CompleteMultipartUpload(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	out, err := client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String("k"), ChecksumMode: types.ChecksumModeEnabled})
	if err != nil || aws.ToString(out.ChecksumCRC32) != crcOf(body) || out.ChecksumType != types.ChecksumTypeFullObject {
		t.Errorf("CRC32 %q of type %q, %v, want %q of %s", aws.ToString(out.ChecksumCRC32), out.ChecksumType, err, crcOf(body), types.ChecksumTypeFullObject)
	}
}

func TestPartResponseHasItsChecksum(t *testing.T) {
	server := start(t, s3test.Options{})
	client := connect(t, server, 1)
	body := pattern(1000)
	out, err := client.UploadPart(t.Context(), &s3.UploadPartInput{
		Bucket: aws.String(bucket), Key: aws.String("k"), UploadId: create(t, client, "k"), PartNumber: aws.Int32(1),
		Body: bytes.NewReader(body), ChecksumCRC32: aws.String(crcOf(body)),
	})
	if err != nil || aws.ToString(out.ChecksumCRC32) != crcOf(body) {
		t.Errorf("CRC32 %q, %v, want %q", aws.ToString(out.ChecksumCRC32), err, crcOf(body))
	}
}

// A server with an Upstream has its own faults and the upstream's objects.
func TestFaultsBeforeAnotherServer(t *testing.T) {
	other := start(t, s3test.Options{})
	before := s3test.Start(t, s3test.Options{
		Upstream: other.URL, AccessKey: other.AccessKey, SecretKey: other.SecretKey,
		Script: s3test.Rules(
			s3test.Rule{Method: "PUT", Nth: []int{1}, Fault: s3test.LostResponse()},
			s3test.Rule{Method: "GET", Nth: []int{1}, Fault: s3test.SlowDown()},
			s3test.Rule{Method: "GET", Nth: []int{3}, Fault: s3test.StallBody(1000, time.Millisecond)}),
	})
	body := pattern(300_000)
	client := connect(t, before, 3)
	if _, err := put(t, client, "a b+ü", body); err != nil {
		t.Fatal(err)
	}
	if got, err := get(t, client, "a b+ü"); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes, %v, want the %d that were put", len(got), err, len(body))
	}
	if got, err := get(t, client, "a b+ü"); !errors.Is(err, io.ErrUnexpectedEOF) || len(got) != 1000 {
		t.Errorf("a body that stalls after 1000 bytes: %d bytes, %v, want %v", len(got), err, io.ErrUnexpectedEOF)
	}
	if got, ok := other.Object(bucket, "a b+ü"); !ok || !bytes.Equal(got, body) {
		t.Errorf("%d bytes are in the other server, want %d", len(got), len(body))
	}
	if here, there := len(before.Requests()), len(other.Requests()); here != 5 || there != 4 {
		t.Errorf("%d requests, %d at the upstream, want 5, 4: a request with a lost response reaches the upstream, one with SlowDown does not", here, there)
	}
	if _, err := s3test.New(s3test.Options{Upstream: "nowhere"}); err == nil {
		t.Error("an upstream that is no URL: no error")
	}
}

// The status of a response is the one that follows 100 Continue or 103 Early Hints. It used to be 200.
func TestStatusAfterAnInformationalResponse(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusPreconditionFailed)
	}))
	t.Cleanup(other.Close)
	before := s3test.Start(t, s3test.Options{Upstream: other.URL})
	if _, err := put(t, connect(t, before, 1), "k", nil); !strings.Contains(fmt.Sprint(err), "StatusCode: 412") {
		t.Errorf("%v, want status 412", err)
	}
}
