package objects_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/record"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// A report collects what a transfer reports of its progress.
type report []string

func (r *report) resumed(how objects.Resumption) {
	*r = append(*r, fmt.Sprintf("resumed %d/%d %s", how.Bytes, how.Size, how.Reason))
}

func (r *report) progress(done, total int64) {
	*r = append(*r, fmt.Sprintf("%d/%d", done, total))
}

// What the store has of an upload is reported before the rest is sent, and counts.
func TestPutReportsWhatIsThere(t *testing.T) {
	server := start(t, s3test.Options{})
	body := content(1, 16*mib)
	store, path := broken(t, server, body)
	remembered, err := objects.ReadState(path)
	if err != nil || remembered.Bytes != 10*mib || remembered.Size != 16*mib || remembered.Key != "k" || remembered.Upload == "" {
		t.Errorf("the state is %+v, %v; want 10 of 16 MiB of an upload to k", remembered, err)
	}
	body[0]++ // a part that is there is another by now
	var reported report
	if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), objects.PutOptions{
		State: path, Resumed: reported.resumed, Progress: reported.progress,
	}); err != nil {
		t.Fatal(err)
	}
	size := fmt.Sprint(16 * mib)
	want := report{"resumed 10485760/" + size + " ", "10485760/" + size, "10485760/" + size, "15728640/" + size, size + "/" + size}
	if !slices.Equal(reported, want) {
		t.Errorf("reported %q, want %q", reported, want)
	}
}

// The file does not contain a secret in the URL of the endpoint, and a Store with another secret resumes.
func TestStateHoldsNoSecret(t *testing.T) {
	server := start(t, s3test.Options{})
	body, path := content(1, 16*mib), filepath.Join(t.TempDir(), "state")
	for _, secret := range []string{"hunter2", "hunter3"} {
		cfg := configFor(server)
		cfg.BaseEndpoint = aws.String(strings.Replace(server.URL, "://", "://user:"+secret+"@", 1))
		store, err := objects.New(cfg, objects.Options{Policy: quick(), PartSize: 5 * mib, Parallel: 1})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		stop := func(done, _ int64) {
			if secret == "hunter2" && done >= 5*mib {
				cancel()
			}
		}
		put, err := store.Put(ctx, bucket, "k", bytes.NewReader(body), objects.PutOptions{State: path, Progress: stop})
		cancel()
		switch text, _ := os.ReadFile(path); {
		case secret == "hunter2" && (!errors.Is(err, context.Canceled) || bytes.Contains(text, []byte(secret)) || len(text) == 0):
			t.Errorf("%v; the state is %q, want one without %s", err, text, secret)
		case secret == "hunter3" && (err != nil || put.Size != 16*mib):
			t.Errorf("%d bytes, %v; want %d", put.Size, err, 16*mib)
		}
	}
}

// What is gone from the store is reported as well.
func TestPutReportsThatNothingIsThere(t *testing.T) {
	server := start(t, s3test.Options{})
	body := content(1, 16*mib)
	store, path := broken(t, server, body)
	if _, err := store.AbortUploads(t.Context(), bucket, "", -1); err != nil {
		t.Fatal(err)
	}
	var reported report
	if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), objects.PutOptions{State: path, Resumed: reported.resumed}); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("resumed 0/%d the store no longer has the parts of the earlier run", 16*mib); len(reported) != 1 || reported[0] != want {
		t.Errorf("reported %q, want %q", reported, want)
	}
}

// A state of another version, or a damaged one, is not an error: the upload begins from scratch, and reports why.
func TestPutAfterAStateOfAnotherVersion(t *testing.T) {
	server := start(t, s3test.Options{})
	store, body := open(t, server, objects.Options{PartSize: 5 * mib}), content(1, 16*mib)
	const object = `"endpoint":"ENDPOINT","bucket":"bikes","key":"k"`
	for text, reason := range map[string]string{
		`{"format":"perdure-transfer-1",` + object + `,"upload":"1","part_size":5242880}`:                 "another version",
		`{"format":"perdure-upload-2",` + object + `,"upload":"1","part_size":5242880}`:                   "another version",
		`{"format":"perdure-upload-99","upload":{"not":"as it is now"}}`:                                  "another version",
		`{"format":"perdure-upload-4",` + object + `,"upload":"1","part_size":1}`:                         "damaged",
		`{"format":"perdure-upload-4",` + object + `,"upload":"1","part_size":4611686018427387904}`:       "damaged",
		`{"format":"perdure-upload-4","bucket":["bikes"],"key":"k"}`:                                      "damaged",
		`{"format":"perdure-upload-4",` + object + `,"upload":"1","part_size":5242880}` + "\n" + goodPart: "no longer has the parts",
	} {
		for what, r := range map[string]io.Reader{"file": bytes.NewReader(body), "stream": stream{bytes.NewReader(body)}} {
			path := filepath.Join(t.TempDir(), "state")
			if err := os.WriteFile(path, []byte(signed(t, strings.Split(strings.ReplaceAll(text, "ENDPOINT", server.URL), "\n")...)), 0o600); err != nil {
				t.Fatal(err)
			}
			var reported []objects.Resumption
			_, err := store.Put(t.Context(), bucket, "k", r, objects.PutOptions{
				State: path, Resumed: func(r objects.Resumption) { reported = append(reported, r) },
			})
			if err != nil || len(reported) != 1 || reported[0].Bytes != 0 || !strings.Contains(reported[0].Reason, reason) {
				t.Errorf("%s, %s: %v, reported %+v; want no error, and once that it is %q", what, text, err, reported, reason)
			}
			stored(t, server, "k", body)
			if _, err := os.Lstat(path); err == nil {
				t.Errorf("%s, %s: the state is still there", what, text)
			}
			if err := store.Delete(t.Context(), bucket, "k"); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// signed returns these lines of JSON as records.
func signed(t *testing.T, lines ...string) (text string) {
	t.Helper()
	for _, line := range lines {
		signed, err := record.Encode(json.RawMessage(line))
		if err != nil {
			t.Fatal(err)
		}
		text += string(signed)
	}
	return text
}

// No altered record is used: neither the address nor the ID of the upload, which used to fail or lose another upload,
// nor the size of a part.
func TestPutAfterAnAlteredState(t *testing.T) {
	server := start(t, s3test.Options{})
	body := content(1, 16*mib)
	_, path := broken(t, server, body)
	state, err := os.ReadFile(path)
	want, failed := objects.ReadState(path)
	if err := errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexByte(state, '\n') + 1
	for at := range state {
		for _, altered := range [][]byte{with(state, at, 1), with(state, at, 0x80), with(state, at, state[at]), state[:at]} {
			if err := os.WriteFile(path, altered, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := objects.ReadState(path)
			known := want
			known.Bytes = got.Bytes // of fewer parts
			isNone := err != nil && strings.Contains(err.Error(), path) || got == (objects.State{})
			if !isNone && (at < first || got != known || got.Bytes >= want.Bytes) {
				t.Errorf("%q is read as %+v, %v", altered, got, err)
			}
		}
	}
	for at := len(`{"format":"perdure-upload-`); at < len(state); at += 19 { // before: a file that is not ours
		server = start(t, s3test.Options{})
		store, path := broken(t, server, body)
		alter(t, path, at)
		var reported []objects.Resumption
		object, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), objects.PutOptions{
			State: path, Resumed: func(r objects.Resumption) { reported = append(reported, r) },
		})
		got, _ := server.Object(bucket, "k")
		if err != nil || !bytes.Equal(got, body) || object.Size != 16*mib || len(reported) != 1 || reported[0].Bytes >= want.Bytes {
			t.Errorf("byte %d altered: %v, reported %+v, %d bytes; want all, and once what is there", at, err, reported, len(got))
		}
	}
}

// alter changes one byte of a file.
func alter(t *testing.T, path string, at int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err := errors.Join(err, os.WriteFile(path, with(text, at, 1), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// with returns text with one byte changed.
func with(text []byte, at int, flip byte) []byte {
	text = bytes.Clone(text)
	text[at] ^= flip
	return text
}

const goodPart = `{"part":0,"size":5242880,"crc":1,"etag":"x"}`

// A store that is still completing the upload of a killed process returns neither the upload nor the object: no part
// is sent again before several attempts have found neither.
func TestPutWaitsForAnUploadThatIsPutTogether(t *testing.T) {
	for name, before := range map[string][]byte{"where there was nothing": nil, "where there was another": []byte("another")} {
		server := start(t, script(s3test.Rule{Operation: "CompleteMultipartUpload", Fault: s3test.LostResponse()}))
		p := quick()
		p.MaxAttempts = 1
		store := open(t, server, objects.Options{PartSize: 5 * mib, Policy: p})
		body, path := content(1, 16*mib), filepath.Join(t.TempDir(), "state")
		put := func() error {
			_, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), objects.PutOptions{State: path})
			return err
		}
		if err := put(); err == nil {
			t.Errorf("%s: the response is lost, and no error", name)
		}
		server.Reset()
		replace := func(with []byte) {
			if err := server.Store(bucket, "k", with); err != nil {
				t.Error(err)
			}
		}
		if before != nil {
			replace(before)
		}
		server.SetScript(func(r s3test.Request) s3test.Fault {
			switch {
			case r.Operation != "HeadObject":
			case before == nil && r.N < 4:
				return s3test.Failure(404, "NoSuchKey")
			case r.N == 4:
				replace(body)
			}
			return s3test.Fault{}
		})
		if err := put(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := server.Count("PUT", ""); n > 0 {
			t.Errorf("%s: %d parts are sent again", name, n)
		}
	}
}

func TestAbandon(t *testing.T) {
	server := start(t, s3test.Options{})
	store, path := broken(t, server, content(1, 16*mib))
	server.SetScript(func(s3test.Request) s3test.Fault { return s3test.AccessDenied() })
	if err := store.AbortUpload(t.Context(), path); err == nil {
		t.Error("an upload that can't be dropped: no error")
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the state of an upload that is still there: %v", err)
	}
	server.SetScript(nil)
	for range 2 { // there is nothing left the second time
		if err := store.AbortUpload(t.Context(), path); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(path); err == nil || len(server.Uploads()) > 0 {
		t.Errorf("uploads %v are left, or the state is", server.Uploads())
	}
}

// An upload that is interrupted while it begins is aborted: Put waits for its ID.
func TestUploadInterruptedWhileItBegins(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	store.SetCopyLimit(5 * mib)
	body := content(1, 6*mib)
	if err := server.Store(bucket, "original", body); err != nil {
		t.Fatal(err)
	}
	for name, begin := range map[string]func(context.Context) (objects.Object, error){
		"put": func(ctx context.Context) (objects.Object, error) {
			return store.Put(ctx, bucket, "k", bytes.NewReader(body), objects.PutOptions{})
		},
		"copy": func(ctx context.Context) (objects.Object, error) {
			return store.Copy(ctx, objects.Address{Bucket: bucket, Key: "original"}, objects.Address{Bucket: bucket, Key: "k"})
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		server.Reset()
		server.SetScript(func(r s3test.Request) s3test.Fault {
			if r.Operation != "CreateMultipartUpload" {
				return s3test.Fault{}
			}
			cancel()
			return s3test.SlowResponse(100 * time.Millisecond)
		})
		if _, err := begin(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("an interrupted %s: %v, want %v", name, err, context.Canceled)
		}
		if left := server.Uploads(); len(left) > 0 || server.Count("DELETE", "") != 1 {
			t.Errorf("uploads %v of a %s are left, want the one dropped", left, name)
		}
	}
}

// A put of a file that shrinks meanwhile is not retried, and does not count as a failure of the store.
func TestPutOfAFileThatShrinks(t *testing.T) {
	server := start(t, s3test.Options{})
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content(1, 33*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	server.SetScript(func(r s3test.Request) s3test.Fault {
		if r.Query.Get("partNumber") == "2" {
			if err := os.Truncate(path, 17*mib); err != nil {
				t.Error(err)
			}
		}
		return s3test.Fault{}
	})
	opened := false
	store := open(t, server, objects.Options{
		Policy: quick(), PartSize: 16 * mib, Parallel: 1, // a part is more than is on its way at a time
		Breakers: &circuit.Config{FailureThreshold: 1, Observe: func(context.Context, circuit.Transition) { opened = true }},
	})
	_, err := store.PutFile(t.Context(), bucket, "k", path, objects.PutOptions{})
	if err == nil || !strings.Contains(err.Error(), "the source shrank during the upload") || errors.Is(err, retry.ErrExhausted) || opened {
		t.Errorf("%v, the breaker has opened: %v; want an error about the source, and that it has not", err, opened)
	}
	// The second part may have left before the file shrank; the third is of bytes that are gone.
	if keys := server.Keys(bucket); slices.Contains(sentParts(server), "3") || len(keys) > 0 || len(server.Uploads()) > 0 {
		t.Errorf("parts %q arrived, objects %q and uploads %v are left; want no third part, and nothing left", sentParts(server), keys, server.Uploads())
	}
}
