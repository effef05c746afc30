//go:build integration && unix

package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// inParts uploads an object as another program does, with the SDK alone. A kind that is composite gives it a checksum of the
// parts' checksums; without one, the server computes a checksum of the whole object.
func inParts(t *testing.T, client *s3.Client, key string, kind types.ChecksumType, parts ...[]byte) {
	t.Helper()
	bucket := aws.String("bikes")
	algorithm := types.ChecksumAlgorithm("")
	if kind != "" {
		algorithm = types.ChecksumAlgorithmSha256
	}
	begun, err := client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: bucket, Key: &key, ChecksumType: kind, ChecksumAlgorithm: algorithm})
	if err != nil {
		t.Fatal(err)
	}
	var done types.CompletedMultipartUpload
	for i, part := range parts {
		number := aws.Int32(int32(i + 1))
		out, err := client.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: bucket, Key: &key, UploadId: begun.UploadId, PartNumber: number, Body: bytes.NewReader(part), ChecksumAlgorithm: algorithm})
		if err != nil {
			t.Fatal(err)
		}
		done.Parts = append(done.Parts, types.CompletedPart{ETag: out.ETag, PartNumber: number, ChecksumSHA256: out.ChecksumSHA256})
	}
	if _, err := client.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: &key, UploadId: begun.UploadId, MultipartUpload: &done, ChecksumType: kind}); err != nil {
		t.Fatal(err)
	}
}

// Objects that another program has uploaded to another server in parts are recognized by the checksum that the server has, of
// the object or of its parts, and in the next run by their ETag, without another request.
func TestGatewayObjectsInParts(t *testing.T) {
	s := behindGateway(t, s3test.Faults{})
	s.web = startTestServers(t).web
	content := generated(12 << 20)
	other := bytes.Clone(content)
	other[7<<20] ^= 1
	client := s3.New(s.client().Options(), func(o *s3.Options) { o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired })
	composite := types.ChecksumTypeComposite
	inParts(t, client, "raw/whole", "", content[:5<<20], content[5<<20:11<<20], content[11<<20:])
	inParts(t, client, "raw/parts", composite, content[:5<<20], content[5<<20:10<<20], content[10<<20:])
	inParts(t, client, "raw/differs", composite, other[:5<<20], other[5<<20:10<<20], other[10<<20:])
	inParts(t, client, "raw/uneven", composite, content[:5<<20], content[5<<20:11<<20], content[11<<20:])
	dir, home := t.TempDir(), t.TempDir()
	aged(t, dir, treeOf{"whole": string(content), "parts": string(content), "differs": string(content), "uneven": string(content)})
	for _, pair := range [][2]string{{dir, "s3://bikes/raw"}, {"s3://bikes/raw", dir}} {
		code, log := inProcess(t, s, "sync", pair[0], pair[1], "--dry-run")
		for _, want := range []string{"whole (same checksum)", "parts (same checksum)", "differs (other checksum)", "uneven (no checksum to compare)"} {
			if code != 0 || !strings.Contains(log, want) {
				t.Errorf("%v: code %d: %s, want %q", pair, code, log, want)
			}
		}
	}
	code, log := inHome(t, s, home, "sync", dir, "s3://bikes/raw")
	if code != 0 || !strings.Contains(log, "Copied 2 files") || !strings.Contains(log, "2 skipped, 0 failed, 1 copied without a checksum") {
		t.Errorf("code %d: %s", code, log)
	}
	s.store.Reset()
	if code, log = inHome(t, s, home, "sync", dir, "s3://bikes/raw"); code != 0 || !strings.Contains(log, "Copied 0 files") || len(s.store.Requests()) != 1 {
		t.Errorf("again: %d requests, code %d: %s", len(s.store.Requests()), code, log)
	}
}
