//go:build integration

package objects_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// What the tests show with the server in the process, with that of others.

func TestGatewayLargeFileThereAndBack(t *testing.T) {
	g := startGateway(t)
	seed := testseed.Of(t, 21)
	store := patient(t, g.behind(t, weather(seed)), objects.Options{PartSize: 5 * mib})
	dir, states := t.TempDir(), t.TempDir()
	path, body := filepath.Join(dir, "src"), content(1, 64*mib)
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	// The first put, and the first get, are ended in the middle.
	interrupted := func(what string, f func(ctx context.Context, progress func(done, _ int64)) error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := f(ctx, func(done, _ int64) {
			if done > 30*mib {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s, ended in the middle: %v, want %v", what, err, context.Canceled)
		}
	}
	put := objects.PutOptions{State: filepath.Join(states, "put")}
	interrupted("put", func(ctx context.Context, progress func(done, _ int64)) error {
		o := put
		o.Progress = progress
		_, err := store.PutFile(ctx, bucket, "large", path, o)
		return err
	})
	if _, err := store.PutFile(t.Context(), bucket, "large", path, put); err != nil {
		t.Fatal(err)
	}
	back := filepath.Join(t.TempDir(), "back")
	interrupted("get", func(ctx context.Context, progress func(done, _ int64)) error {
		o := objects.GetOptions{Progress: progress}
		_, err := store.GetFile(ctx, bucket, "large", back, o)
		return err
	})
	object, err := store.GetFile(t.Context(), bucket, "large", back, objects.GetOptions{})
	if err != nil || object.Verified != "crc32" {
		t.Fatalf("get: %v, verified by %q, want crc32", err, object.Verified)
	}
	fetched(t, back, body)
	if n, err := store.AbortUploads(t.Context(), bucket, "", -1); err != nil {
		t.Errorf("AbortUploads: %d, %v", n, err)
	}
	if left, err := g.client().ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket)}); err != nil || len(left.Uploads) > 0 {
		t.Errorf("unfinished uploads are left: %v, %v", left, err)
	}
}

func TestGatewayCopyAndBatch(t *testing.T) {
	g := startGateway(t)
	store := patient(t, g.behind(t, weather(testseed.Of(t, 22))), objects.Options{})
	body := content(1, 12*mib)
	if _, err := store.Put(t.Context(), bucket, "a b+ü", bytes.NewReader(body), objects.PutOptions{Attributes: objects.Attributes{Metadata: map[string]string{"step": "raw"}}}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"whole", "parts"} {
		if o, err := store.Copy(t.Context(), objects.Address{Bucket: bucket, Key: "a b+ü"}, objects.Address{Bucket: bucket, Key: key}); err != nil || o.Metadata["step"] != "raw" {
			t.Errorf("Copy in %s: %+v, %v", key, o, err)
		}
		var out bytes.Buffer
		if _, err := store.Get(t.Context(), bucket, key, &out, objects.GetOptions{}); err != nil || !bytes.Equal(out.Bytes(), body) {
			t.Errorf("the copy in %s: %d bytes, %v, want %d", key, out.Len(), err, len(body))
		}
		store.SetCopyLimit(5 * mib)
	}
	keys, err := collect(store.List(t.Context(), bucket, ""))
	if err != nil {
		t.Fatal(err)
	}
	for key, err := range store.DeleteAll(t.Context(), bucket, slices.Values(append(keys, "never-there"))) {
		if err != nil {
			t.Errorf("DeleteAll, %s: %v", key, err)
		}
	}
	if keys, err := collect(store.List(t.Context(), bucket, "")); err != nil || len(keys) > 0 {
		t.Errorf("after DeleteAll: %q, %v, want none", keys, err)
	}
}

// Objects of other tools have a checksum of their parts.
func TestGatewayCompositeChecksum(t *testing.T) {
	g := startGateway(t)
	client, body := g.client(), content(1, 13*mib)
	created, err := client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{
		Bucket: aws.String(bucket), Key: aws.String("k"), ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
	})
	if err != nil {
		t.Fatal(err)
	}
	var parts []types.CompletedPart
	for n := int32(1); n <= 3; n++ {
		first := int(n-1) * 5 * mib
		out, err := client.UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: aws.String(bucket), Key: aws.String("k"), UploadId: created.UploadId, PartNumber: &n, ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
			Body: bytes.NewReader(body[first:min(first+5*mib, len(body))]),
		})
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, types.CompletedPart{PartNumber: &n, ETag: out.ETag, ChecksumSHA256: out.ChecksumSHA256})
	}
	if _, err := client.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
		Bucket: aws.String(bucket), Key: aws.String("k"), UploadId: created.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	}); err != nil {
		t.Fatal(err)
	}
	store := open(t, g.behind(t, s3test.Options{}), objects.Options{})
	var out bytes.Buffer
	got, err := store.Get(t.Context(), bucket, "k", &out, objects.GetOptions{})
	if err != nil || !bytes.Equal(out.Bytes(), body) || got.Verified != "sha256 of parts" {
		t.Errorf("%d bytes, %v, verified by %q, want %d by the SHA-256 of parts", out.Len(), err, got.Verified, len(body))
	}
}

func TestGatewayAttributes(t *testing.T) {
	bothServers(t, s3test.Options{}, func(t *testing.T, server *s3test.Server) {
		t.Helper()
		store, want := open(t, server, objects.Options{PartSize: 5 * mib}), attributes()
		store.SetCopyLimit(5 * mib)
		for name, size := range map[string]int{"one request": 1000, "parts": 11 * mib} {
			if _, err := store.Put(t.Context(), bucket, name, bytes.NewReader(content(1, size)), objects.PutOptions{Attributes: want}); err != nil {
				t.Fatal(err)
			}
			attributesOf(t, store, name, name, want)
			if _, err := store.Copy(t.Context(), objects.Address{Bucket: bucket, Key: name}, objects.Address{Bucket: bucket, Key: "copy"}); err != nil {
				t.Fatal(err)
			}
			attributesOf(t, store, name+", copied", "copy", want)
		}
	})
}
