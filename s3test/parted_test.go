package s3test_test

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"io"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// An object of StoreParts has S3's ETag in each response and each condition, and its parts can be read by number.
func TestStoredParts(t *testing.T) {
	server := start(t, s3test.Options{})
	client := connect(t, server, 1)
	name, key, content := aws.String(bucket), aws.String("a/ä b"), pattern(25)
	if err := server.StoreParts(bucket, *key, content, 10); err != nil {
		t.Fatal(err)
	}
	all := md5.New()
	for _, part := range [][]byte{content[:10], content[10:20], content[20:]} {
		sum := md5.Sum(part)
		_, _ = all.Write(sum[:])
	}
	etag := aws.String(fmt.Sprintf(`"%x-3"`, all.Sum(nil)))

	for i, want := range [][]byte{content[:10], content[10:20], content[20:]} {
		number := aws.Int32(int32(i + 1))
		head, err := client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: name, Key: key, PartNumber: number, IfMatch: etag})
		if err != nil || aws.ToInt64(head.ContentLength) != int64(len(want)) || aws.ToInt32(head.PartsCount) != 3 || aws.ToString(head.ETag) != *etag {
			t.Errorf("head of part %d: %+v, %v", *number, head, err)
		}
		got, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: name, Key: key, PartNumber: number})
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(got.Body); err != nil || !bytes.Equal(body, want) || aws.ToString(got.ETag) != *etag {
			t.Errorf("part %d is %q, want %q (%s, %v)", *number, body, want, aws.ToString(got.ETag), err)
		}
	}
	if _, err := client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: name, Key: key, PartNumber: aws.Int32(4)}); err == nil {
		t.Error("there is a fourth part")
	}
	if head, err := client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: name, Key: key}); err != nil || aws.ToString(head.ETag) != *etag || aws.ToInt64(head.ContentLength) != 25 {
		t.Errorf("head: %+v, %v", head, err)
	}
	list, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: name})
	if err != nil || len(list.Contents) != 1 || aws.ToString(list.Contents[0].ETag) != *etag {
		t.Errorf("listed: %+v, %v", list, err)
	}
	if body, err := get(t, client, *key); err != nil || !bytes.Equal(body, content) {
		t.Errorf("%q, %v", body, err)
	}
	for _, match := range []string{*etag, `"0123456789abcdef0123456789abcdef-3"`} {
		_, err := client.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: name, Key: aws.String("copy"), CopySource: aws.String(bucket + "/a/%C3%A4%20b"), CopySourceIfMatch: &match})
		if (err == nil) != (match == *etag) {
			t.Errorf("copied if it is %s: %v", match, err)
		}
	}
	if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: name, Key: key, Body: bytes.NewReader(nil), IfMatch: aws.String(`"x"`)}); err == nil {
		t.Error("a condition that fails is met")
	}
	out, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: name, Key: key, Body: bytes.NewReader(content), IfMatch: etag})
	if err != nil || aws.ToString(out.ETag) != fmt.Sprintf(`"%x"`, md5.Sum(content)) {
		t.Errorf("replaced in one request: %+v, %v", out, err)
	}
	head, err := client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: name, Key: key})
	if err != nil || aws.ToString(head.ETag) != aws.ToString(out.ETag) {
		t.Errorf("the ETag stays: %+v, %v", head, err)
	}
	if err := server.StoreParts(bucket, "k", nil, 0); err == nil {
		t.Error("parts of no bytes are stored")
	}
}
