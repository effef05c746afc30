package objects_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// fetch downloads the object of the server, and compares it with body.
func fetch(t *testing.T, server *s3test.Server, store *objects.Store, body []byte) {
	t.Helper()
	if err := server.Store(bucket, "k", body); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "k")
	if _, err := store.GetFile(t.Context(), bucket, "k", path, objects.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	fetched(t, path, body)
}

// fetched fails the test unless the file has exactly these bytes and is alone in
// its directory.
func fetched(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v, want the %d of the object", len(got), err, len(want))
	}
	if all, _ := os.ReadDir(filepath.Dir(path)); len(all) != 1 {
		t.Errorf("%v lie in the directory, want the file alone", all)
	}
}

func TestLargeFileComesInPiecesOnceEach(t *testing.T) {
	// The first connection stalls, so that the others have the time to bring most.
	server := start(t, script(s3test.Rule{Method: "GET", Nth: []int{1}, Fault: s3test.StallBody(mib, 200*time.Millisecond)}))
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	body := content(1, 22*mib+1234)
	if err := server.Store(bucket, "k", body); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "k")
	var last int64
	object, err := store.GetFile(t.Context(), bucket, "k", path, objects.GetOptions{Progress: func(done, total int64) {
		if done < last || total != int64(len(body)) {
			t.Errorf("progress went from %d to %d of %d", last, done, total)
		}
		last = done
	}})
	if err != nil || object.Verified == "size" || last != int64(len(body)) {
		t.Errorf("%v, verified by %q, progress %d, want a checksum, and all", err, object.Verified, last)
	}
	fetched(t, path, body)
	ranges := map[string]int{}
	for _, r := range server.Requests() {
		ranges[r.Header.Get("Range")]++
		if r.Header.Get("Range") != "" && r.Header.Get("If-Match") == "" {
			t.Errorf("a piece is asked for without If-Match: %v", r.Header)
		}
	}
	for span, n := range ranges {
		if n > 1 || len(ranges) < 3 {
			t.Errorf("%s was asked for %d times; all: %v, want several, once each", span, n, ranges)
		}
	}
}

// The first response has delivered bytes before other ranges are requested:
// it is not closed without a piece, however many other requests there are.
func TestFirstResponseBringsTheFirstPiece(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{PartSize: 5 * mib, Parallel: 16})
	body := content(1, 15*mib)
	fetch(t, server, store, body)
	for _, r := range server.Requests() {
		if from := r.Header.Get("Range"); strings.HasPrefix(from, "bytes=0-") {
			t.Errorf("%s was requested, which the first response has", from)
		}
	}
}

func TestLargeFileThroughFaults(t *testing.T) {
	seed := testseed.Of(t, 99)
	server := start(t, s3test.Options{Faults: s3test.Faults{
		Seed: seed, SlowDown: 0.1, InternalError: 0.1, Reset: 0.1, CutBody: 0.2, ResetBody: 0.1, Stall: 0.05, StallTime: time.Hour,
	}})
	store := open(t, server, objects.Options{PartSize: 5 * mib, Stall: time.Second})
	body := content(1, 26*mib)
	fetch(t, server, store, body)
}

func TestLargeFileThatChangesIsFetchedAgain(t *testing.T) {
	server := start(t, script(s3test.Rule{Method: "GET", Nth: []int{1}, Fault: s3test.CutBody(mib)}))
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	older, newer := content(1, 21*mib), content(2, 16*mib)
	if err := server.Store(bucket, "k", older); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "k")
	replaced := false
	_, err := store.GetFile(t.Context(), bucket, "k", path, objects.GetOptions{Progress: func(_, _ int64) {
		if !replaced { // before the first response breaks
			replaced = true
			if err := server.Store(bucket, "k", newer); err != nil {
				t.Error(err)
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	fetched(t, path, newer)
}

// Downloaded bytes stay for the next process, except those that were altered.
func TestDownloadResumesWithWhatIsMissing(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	body := content(1, 31*mib)
	if err := server.Store(bucket, "k", body); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "k")
	interrupted(t, store, "k", path, 27*mib)
	if _, err := os.Stat(path); err == nil {
		t.Fatal("the file is there before it is complete")
	}
	parts, err := filepath.Glob(filepath.Join(dir, ".perdure-*", "*.part"))
	if err != nil || len(parts) != 1 {
		t.Fatalf("parts %q, %v; want one", parts, err)
	}
	f, err := os.OpenFile(parts[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteAt([]byte("spoilt"), 100)
	_ = f.Close()
	server.Reset()
	var reported report
	var kept int64
	object, err := store.GetFile(t.Context(), bucket, "k", path, objects.GetOptions{
		Resumed: func(r objects.Resumption) {
			reported.resumed(r)
			kept = r.Bytes
		},
	})
	if err != nil || object.ETag == "" || object.Size != 31*mib || object.Verified != "md5" {
		t.Errorf("%+v, %v; want what the store says of the object, verified by its MD5", object, err)
	}
	fetched(t, path, body)
	if len(reported) != 1 || kept < 15*mib {
		t.Errorf("reported %q, want once, and at least half of the bytes", reported)
	}
	if got := asked(server, "GetObject", func(r s3test.Request) string { return r.Header.Get("Range") }); slices.Contains(got, "") {
		t.Errorf("%q was requested, want ranges only", got)
	}
}

func TestDownloadOfAnotherVersionBeginsFromScratch(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	if err := server.Store(bucket, "k", content(1, 26*mib)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "k")
	interrupted(t, store, "k", path, 12*mib)
	newer := content(2, 16*mib)
	if err := server.Store(bucket, "k", newer); err != nil {
		t.Fatal(err)
	}
	var reported []objects.Resumption
	if _, err := store.GetFile(t.Context(), bucket, "k", path, objects.GetOptions{
		Resumed: func(r objects.Resumption) { reported = append(reported, r) },
	}); err != nil {
		t.Fatal(err)
	}
	fetched(t, path, newer)
	if len(reported) != 1 || reported[0].Bytes != 0 || reported[0].Reason == "" {
		t.Errorf("reported %+v, want once, that it begins from scratch, and why", reported)
	}
}

// Without resuming, leftovers are neither used nor left.
func TestDownloadWithoutResuming(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	body := content(1, 26*mib)
	if err := server.Store(bucket, "k", body); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "k")
	interrupted(t, store, "k", path, 12*mib)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	fresh := objects.GetOptions{NoResume: true, Resumed: func(r objects.Resumption) { t.Errorf("resumed: %+v", r) }}
	if _, err := store.GetFile(ctx, bucket, "k", path, fresh); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
		t.Errorf("%v are left (%v), want nothing", left, err)
	}
	interrupted(t, store, "k", path, 12*mib)
	if _, err := store.GetFile(t.Context(), bucket, "k", path, fresh); err != nil {
		t.Fatal(err)
	}
	fetched(t, path, body)
}

// interrupted begins a download and cancels it after enough bytes.
func interrupted(t *testing.T, store *objects.Store, key, path string, enough int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := store.GetFile(ctx, bucket, key, path, objects.GetOptions{Progress: func(done, _ int64) {
		if done > enough {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%s, cancelled after %d bytes: %v, want %v", key, enough, err, context.Canceled)
	}
}

// The rest of a longer object for the same path does not get into the file.
func TestLongerRemainsAreCutOff(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	path, body := filepath.Join(t.TempDir(), "k"), content(1, 15*mib)
	for key, content := range map[string][]byte{"short": body, "long": content(2, 25*mib)} {
		if _, err := store.Put(t.Context(), bucket, key, bytes.NewReader(content), objects.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	interrupted(t, store, "short", path, mib)
	interrupted(t, store, "long", path, 16*mib)
	if _, err := store.GetFile(t.Context(), bucket, "short", path, objects.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	fetched(t, path, body)
}
