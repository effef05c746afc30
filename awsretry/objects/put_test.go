package objects_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

func TestPutGetEverySize(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	for _, size := range []int{0, 1, 1000, 5 * mib, 5*mib + 1, 11 * mib} {
		body := content(uint64(size), size)
		for name, r := range map[string]io.Reader{"reader-at": bytes.NewReader(body), "stream": stream{bytes.NewReader(body)}} {
			key := fmt.Sprintf("%s/%d", name, size)
			put, err := store.Put(t.Context(), bucket, key, r, objects.PutOptions{Attributes: objects.Attributes{ContentType: "text/csv", Metadata: map[string]string{"step": "raw"}}})
			if err != nil {
				t.Fatalf("Put %s: %v", key, err)
			}
			stored(t, server, key, body)
			if put.Verified != "crc32" || put.Size != int64(size) {
				t.Errorf("Put %s: %+v, want verified by crc32, and the size", key, put)
			}
			var out bytes.Buffer
			got, err := store.Get(t.Context(), bucket, key, &out, objects.GetOptions{})
			if err != nil || !bytes.Equal(out.Bytes(), body) {
				t.Fatalf("Get %s: %d bytes, %v, want the %d that were put", key, out.Len(), err, size)
			}
			if got.Verified != "crc32" || got.ContentType != "text/csv" || got.Metadata["step"] != "raw" || got.Checksum != put.Checksum {
				t.Errorf("Get %s: %+v, want verified by crc32, and what Put said", key, got)
			}
		}
	}
}

func TestSmallObjectIsOneRequest(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{})
	if _, err := store.Put(t.Context(), bucket, "k", strings.NewReader("instant,cnt"), objects.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get(t.Context(), bucket, "k", io.Discard, objects.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := server.Count("", ""); got != 2 {
		t.Errorf("a put and a get of a small object: %d requests, want 2", got)
	}
}

func TestPutStartsAtTheReadersPosition(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{})
	r := strings.NewReader("header\nrows")
	if _, err := r.Seek(7, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), bucket, "k", r, objects.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	stored(t, server, "k", []byte("rows"))
}

func TestFailedPartsAloneAreSentAgain(t *testing.T) {
	server := start(t, script(
		s3test.Rule{Operation: "CreateMultipartUpload", Nth: []int{1}, Fault: s3test.SlowDown()},
		s3test.Rule{Operation: "UploadPart", Nth: []int{1}, Fault: s3test.CutRequest(mib)},
		s3test.Rule{Operation: "CompleteMultipartUpload", Nth: []int{1}, Fault: s3test.ErrorIn200()},
		s3test.Rule{Operation: "CompleteMultipartUpload", Nth: []int{2}, Fault: s3test.LostResponse()}))
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	body := content(1, 16*mib)
	if _, err := store.Put(t.Context(), bucket, "k", stream{bytes.NewReader(body)}, objects.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	stored(t, server, "k", body)
	count := map[string]int{}
	for _, r := range server.Requests() {
		count[r.Operation]++
	}
	if count["UploadPart"] != 8 || count["CreateMultipartUpload"] != 2 {
		t.Errorf("4 parts, each cut once: requests %v, want 8 UploadPart", count)
	}
}

func TestFailedUploadIsAborted(t *testing.T) {
	server := start(t, script(s3test.Rule{Operation: "UploadPart", Fault: s3test.InternalError()}))
	p := quick()
	p.MaxAttempts = 2
	store := open(t, server, objects.Options{PartSize: 5 * mib, Policy: p})
	_, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(content(1, 12*mib)), objects.PutOptions{})
	if !errors.Is(err, retry.ErrExhausted) {
		t.Errorf("no part ever arrives: %v, want %v", err, retry.ErrExhausted)
	}
	if left := server.Uploads(); len(left) > 0 {
		t.Errorf("unfinished uploads are left: %v", left)
	}

	// The same if it is the caller who ends it.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server.SetScript(func(r s3test.Request) s3test.Fault {
		if r.Operation != "UploadPart" {
			return s3test.Fault{}
		}
		cancel()
		return s3test.SlowResponse(time.Minute)
	})
	if _, err = store.Put(ctx, bucket, "k", bytes.NewReader(content(1, 12*mib)), objects.PutOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v, want %v", err, context.Canceled)
	}
	if left := server.Uploads(); len(left) > 0 {
		t.Errorf("unfinished uploads are left after a cancelled put: %v", left)
	}
}

// With the breaker open the parts of a failed upload are still aborted. That request is not a probe, and costs
// nothing from the budget, which is empty by then.
func TestOpenBreakerDoesNotKeepParts(t *testing.T) {
	for _, recovery := range []time.Duration{time.Hour, time.Millisecond} {
		server := start(t, script(
			s3test.Rule{Operation: "UploadPart", Fault: s3test.InternalError()},
			s3test.Rule{Operation: "AbortMultipartUpload", Nth: []int{1}, Fault: s3test.InternalError()}))
		p := quick()
		p.MaxAttempts = 2
		p.Breaker = circuit.New("s3", circuit.Config{
			FailureThreshold: 2, RecoveryTimeout: recovery, Budget: 1, Observe: func(context.Context, circuit.Transition) {},
		})
		store := open(t, server, objects.Options{PartSize: 5 * mib, Parallel: 1, Policy: p})
		if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(content(1, 12*mib)), objects.PutOptions{}); err == nil {
			t.Errorf("open for %v: no part arrives, and no error", recovery)
		}
		if left := server.Uploads(); len(left) > 0 {
			t.Errorf("open for %v: unfinished uploads are left: %v", recovery, left)
		}
		if state := p.Breaker.State(); state == circuit.Closed {
			t.Errorf("open for %v: the breaker is %v, want it as it was", recovery, state)
		}
	}
}

func TestBrokenSourceStoresNothing(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	for _, broken := range []error{errors.New("the disk has failed"), io.ErrUnexpectedEOF, fmt.Errorf("from upstream: %w", io.EOF)} {
		for _, size := range []int64{0, 1000, 5 * mib, 7 * mib} {
			r := io.MultiReader(io.LimitReader(rand.NewChaCha8([32]byte{}), size), failing{broken})
			if _, err := store.Put(t.Context(), bucket, "k", r, objects.PutOptions{}); !errors.Is(err, broken) {
				t.Errorf("a source that breaks after %d bytes: %v, want %v", size, err, broken)
			}
		}
	}
	if keys := server.Keys(bucket); len(keys)+len(server.Uploads()) > 0 {
		t.Errorf("a source that breaks has stored %q, and parts of %v", keys, server.Uploads())
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
