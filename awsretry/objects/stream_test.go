package objects_test

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"testing"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/source"
	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// partSizes returns the size of each received part, by number.
func partSizes(server *s3test.Server) (sizes []int) {
	for _, r := range server.Requests() {
		n, err := strconv.Atoi(r.Query.Get("partNumber"))
		if r.Operation != "UploadPart" || err != nil {
			continue
		}
		for len(sizes) < n {
			sizes = append(sizes, 0)
		}
		sizes[n-1], _ = strconv.Atoi(r.Header.Get("Content-Length"))
	}
	return sizes
}

func TestStreamOfHundredsOfMiB(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{})
	body := content(1, 300*mib+7)
	put, err := store.Put(t.Context(), bucket, "k", stream{bytes.NewReader(body)}, objects.PutOptions{})
	if err != nil || put.Size != int64(len(body)) || put.Verified == "size" {
		t.Fatalf("%+v, %v; want all bytes, verified by a checksum", put, err)
	}
	stored(t, server, "k", body)
	if sizes := partSizes(server); len(sizes) != 61 || slices.Max(sizes) != 5*mib {
		t.Errorf("%d parts, the largest of %d bytes; want 61 of 5 MiB at most", len(sizes), slices.Max(sizes))
	}
}

// Growing parts are assembled correctly, by this process or the next, within the memory limit.
func TestStreamWhosePartsGrow(t *testing.T) {
	growth := source.Growth{After: 3, Every: 2, By: 3 * mib, Memory: 24 * mib}
	server := start(t, s3test.Options{})
	p := quick()
	p.MaxAttempts = 2
	store := open(t, server, objects.Options{Policy: p})
	store.SetStreamGrowth(growth)
	body, state := content(1, 100*mib), t.TempDir()+"/state"
	server.SetScript(s3test.Rules(s3test.Rule{Operation: "CompleteMultipartUpload", Fault: s3test.AccessDenied()}))
	put := func() (objects.Object, error) {
		return store.Put(t.Context(), bucket, "k", stream{bytes.NewReader(body)}, objects.PutOptions{State: state})
	}
	if _, err := put(); err == nil || errors.Is(err, retry.ErrExhausted) {
		t.Fatalf("what is refused: %v, want an error", err)
	}
	// 3 × 5, 2 × 8, 2 × 11, 2 × 14, and the rest of 17 MiB
	want := []int{5 * mib, 5 * mib, 5 * mib, 8 * mib, 8 * mib, 11 * mib, 11 * mib, 14 * mib, 14 * mib, 17 * mib, 2 * mib}
	if sizes := partSizes(server); !slices.Equal(sizes, want) {
		t.Errorf("parts of %d bytes, want %d", sizes, want)
	}
	server.SetScript(nil)
	server.Reset()
	if _, err := put(); err != nil {
		t.Fatal(err)
	}
	stored(t, server, "k", body)
	if sent := sentParts(server); len(sent) > 0 {
		t.Errorf("parts %q were sent again, want none", sent)
	}
}
