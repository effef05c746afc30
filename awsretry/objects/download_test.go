package objects_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// fetch has the store bring what the server has, and checks that it comes whole.
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

// The first answer has brought something by the time that others are asked for:
// it is not closed for want of a piece, however many others there may be.
func TestFirstAnswerBringsTheFirstPiece(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{PartSize: 5 * mib, Parallel: 16})
	body := content(1, 15*mib)
	fetch(t, server, store, body)
	for _, r := range server.Requests() {
		if from := r.Header.Get("Range"); strings.HasPrefix(from, "bytes=0-") {
			t.Errorf("%s was asked for, which the first answer has", from)
		}
	}
}

func TestLargeFileThroughFaults(t *testing.T) {
	seed := seedOf(t, 99)
	server := start(t, s3test.Options{Faults: s3test.Faults{
		Seed: seed, SlowDown: 0.1, InternalError: 0.1, Reset: 0.1, CutBody: 0.2, ResetBody: 0.1, Stall: 0.05, StallTime: time.Hour,
	}})
	store := open(t, server, objects.Options{PartSize: 5 * mib, Stall: 200 * time.Millisecond})
	body := content(1, 26*mib)
	fetch(t, server, store, body)
}

func TestLargeFileThatChangesIsBegunAnew(t *testing.T) {
	server := start(t, script(s3test.Rule{Method: "GET", Nth: []int{1}, Fault: s3test.CutBody(mib)}))
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	older, newer := content(1, 21*mib), content(2, 16*mib)
	if err := server.Store(bucket, "k", older); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "k")
	replaced := false
	_, err := store.GetFile(t.Context(), bucket, "k", path, objects.GetOptions{Progress: func(_, _ int64) {
		if !replaced { // before the first answer breaks
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

func TestDownloadGoesOnWithWhatIsMissing(t *testing.T) {
	server := start(t, s3test.Options{})
	p := quick()
	p.MaxAttempts = 2
	store := open(t, server, objects.Options{PartSize: 5 * mib, Policy: p})
	body := content(1, 31*mib)
	if err := server.Store(bucket, "k", body); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, o := filepath.Join(dir, "k"), objects.GetOptions{State: filepath.Join(t.TempDir(), "state")}
	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = func(done, _ int64) {
		if done > 27*mib { // less than 20 of them are in pieces that are not whole
			cancel()
		}
	}
	if _, err := store.GetFile(ctx, bucket, "k", path, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled in the middle: %v, want %v", err, context.Canceled)
	}
	if _, err := os.Stat(path); err == nil {
		t.Fatal("the file is there before it is whole")
	}
	first := int64(0)
	o.Progress = func(done, _ int64) {
		if first == 0 {
			first = done
		}
	}
	// One of the pieces is spoilt meanwhile: that is noticed.
	if f, err := os.OpenFile(filepath.Join(dir, ".k.part"), os.O_WRONLY, 0); err != nil {
		t.Error(err)
	} else {
		_, _ = f.WriteAt([]byte("spoilt"), 100)
		_ = f.Close()
	}
	if _, err := store.GetFile(t.Context(), bucket, "k", path, o); err != nil {
		t.Fatal(err)
	}
	fetched(t, path, body)
	if first < 4*mib {
		t.Errorf("the second run began with %d bytes, want the pieces that the first run had but for the spoilt one", first)
	}
	if _, err := os.Stat(o.State); err == nil {
		t.Error("the state is still there")
	}
}

func TestDownloadOfAnotherVersionBeginsAnew(t *testing.T) {
	server := start(t, s3test.Options{})
	p := quick()
	p.MaxAttempts = 1
	store := open(t, server, objects.Options{PartSize: 5 * mib, Policy: p})
	if err := server.Store(bucket, "k", content(1, 26*mib)); err != nil {
		t.Fatal(err)
	}
	path, o := filepath.Join(t.TempDir(), "k"), objects.GetOptions{State: filepath.Join(t.TempDir(), "state")}
	var asked atomic.Int64
	server.Script(func(s3test.Request) s3test.Fault {
		if asked.Add(1) > 1 {
			return s3test.InternalError()
		}
		return s3test.CutBody(12 * mib)
	})
	if _, err := store.GetFile(t.Context(), bucket, "k", path, o); !errors.Is(err, retry.ErrExhausted) {
		t.Fatalf("after 12 MiB nothing: %v, want %v", err, retry.ErrExhausted)
	}
	server.Script(nil)
	newer := content(2, 16*mib)
	if err := server.Store(bucket, "k", newer); err != nil {
		t.Fatal(err)
	}
	if _, err := store.GetFile(t.Context(), bucket, "k", path, o); err != nil {
		t.Fatal(err)
	}
	fetched(t, path, newer)
}

// interrupted begins a download and ends it after so many bytes.
func interrupted(t *testing.T, store *objects.Store, key, path, state string, enough int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := store.GetFile(ctx, bucket, key, path, objects.GetOptions{State: state, Progress: func(done, _ int64) {
		if done > enough {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%s, cancelled after %d bytes: %v, want %v", key, enough, err, context.Canceled)
	}
}

// What is left of a longer object under the same name is no part of the file.
func TestLongerRemainsAreCutOff(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	path, states, body := filepath.Join(t.TempDir(), "k"), t.TempDir(), content(1, 15*mib)
	for key, content := range map[string][]byte{"short": body, "long": content(2, 25*mib)} {
		if _, err := store.Put(t.Context(), bucket, key, bytes.NewReader(content), objects.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	interrupted(t, store, "short", path, filepath.Join(states, "short"), mib)
	interrupted(t, store, "long", path, filepath.Join(states, "long"), 16*mib)
	if _, err := store.GetFile(t.Context(), bucket, "short", path, objects.GetOptions{State: filepath.Join(states, "short")}); err != nil {
		t.Fatal(err)
	}
	fetched(t, path, body)
}
