package objects_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

const (
	bucket = "bikes"
	mib    = 1 << 20
)

// quick is a policy that gets a test on.
func quick() *retry.Policy {
	return &retry.Policy{
		Name: "transfer", MaxAttempts: 10, BaseDelay: time.Millisecond, MaxDelay: 5 * time.Millisecond,
		Jitter: retry.NoJitter, Observe: func(retry.Event) {},
	}
}

func start(t *testing.T, o s3test.Options) *s3test.Server {
	t.Helper()
	o.Buckets = append(o.Buckets, bucket)
	return s3test.Start(t, o)
}

func configFor(server *s3test.Server) aws.Config {
	return aws.Config{
		Region: "eu-central-1", BaseEndpoint: aws.String(server.URL()),
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, ""),
	}
}

func open(t *testing.T, server *s3test.Server, o objects.Options) *objects.Store {
	t.Helper()
	if o.Policy == nil {
		o.Policy = quick()
	}
	store, err := objects.New(configFor(server), o)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// content returns n bytes that differ from place to place.
func content(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

func script(rules ...s3test.Rule) s3test.Options {
	return s3test.Options{Script: s3test.Rules(rules...)}
}

// stored fails the test unless the server has exactly these bytes, and nothing besides.
func stored(t *testing.T, server *s3test.Server, key string, want []byte) {
	t.Helper()
	got, ok := server.Object(bucket, key)
	if !ok || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes stored (found: %v), want the %d that were sent", key, len(got), ok, len(want))
	}
	if left := server.Uploads(); len(left) > 0 {
		t.Errorf("%s: unfinished uploads are left: %v", key, left)
	}
}

// stream hides everything but Read.
type stream struct{ io.Reader }

func TestPutGetEverySize(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	for _, size := range []int{0, 1, 1000, 5 * mib, 5*mib + 1, 11 * mib} {
		body := content(uint64(size), size)
		for name, r := range map[string]io.Reader{"reader-at": bytes.NewReader(body), "stream": stream{bytes.NewReader(body)}} {
			key := fmt.Sprintf("%s/%d", name, size)
			byPut, byGet := "crc32", "crc32"
			if size > 5*mib || size == 5*mib && name == "stream" { // in parts: this server has no checksum of the whole then
				byPut, byGet = "parts", "md5"
			}
			put, err := store.Put(t.Context(), bucket, key, r, objects.PutOptions{ContentType: "text/csv", Metadata: map[string]string{"step": "raw"}})
			if err != nil {
				t.Fatalf("Put %s: %v", key, err)
			}
			stored(t, server, key, body)
			if put.Verified != byPut || put.Size != int64(size) {
				t.Errorf("Put %s: %+v, want verified by %s, and the size", key, put, byPut)
			}
			var out bytes.Buffer
			got, err := store.Get(t.Context(), bucket, key, &out, objects.GetOptions{})
			if err != nil || !bytes.Equal(out.Bytes(), body) {
				t.Fatalf("Get %s: %d bytes, %v, want the %d that were put", key, out.Len(), err, size)
			}
			if got.Verified != byGet || got.ContentType != "text/csv" || got.Metadata["step"] != "raw" || got.Checksum != put.Checksum {
				t.Errorf("Get %s: %+v, want verified by %s, and what Put said", key, got, byGet)
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

func TestErrorsThatWillNotPassAreOneRequest(t *testing.T) {
	server := start(t, s3test.Options{})
	server.Deny("/bikes/secret/")
	store := open(t, server, objects.Options{})
	path := filepath.Join(t.TempDir(), "out.csv")

	_, err := store.GetFile(t.Context(), bucket, "absent", path, objects.GetOptions{})
	if _, ok := errors.AsType[*types.NoSuchKey](err); !ok || !strings.HasPrefix(err.Error(), "get s3://bikes/absent: ") {
		t.Errorf("an absent key: %v, want NoSuchKey, with the object's name first", err)
	}
	if left, _ := filepath.Glob(filepath.Dir(path) + "/*"); len(left) > 0 {
		t.Errorf("an absent key left %q", left)
	}
	if left, _ := filepath.Glob(filepath.Dir(path) + "/.*.part"); len(left) > 0 {
		t.Errorf("an absent key left %q", left)
	}
	_, err = store.Put(t.Context(), bucket, "secret/k", strings.NewReader("x"), objects.PutOptions{})
	if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != "AccessDenied" {
		t.Errorf("a forbidden key: %v, want AccessDenied", err)
	}
	_, err = store.Put(t.Context(), "nowhere", "k", strings.NewReader("x"), objects.PutOptions{})
	if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != "NoSuchBucket" {
		t.Errorf("an absent bucket: %v, want NoSuchBucket", err)
	}
	if got := server.Count("", ""); got != 3 {
		t.Errorf("%d requests for three errors that will not pass, want 3", got)
	}
	if strings.Contains(fmt.Sprint(err), server.SecretKey) {
		t.Errorf("%v shows the secret key", err)
	}
}

func TestFailedPartsAloneAreSentAgain(t *testing.T) {
	server := start(t, script(
		s3test.Rule{Operation: "CreateMultipartUpload", Nth: []int{1}, Fault: s3test.SlowDown()},
		s3test.Rule{Operation: "UploadPart", Nth: []int{1}, Fault: s3test.CutRequest(mib)},
		s3test.Rule{Operation: "CompleteMultipartUpload", Nth: []int{1}, Fault: s3test.ErrorIn200()},
		s3test.Rule{Operation: "CompleteMultipartUpload", Nth: []int{2}, Fault: s3test.LostAnswer()}))
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
	server.Script(s3test.Rules(s3test.Rule{Operation: "UploadPart", Fault: s3test.SlowAnswer(time.Minute)}))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err = store.Put(ctx, bucket, "k", bytes.NewReader(content(1, 12*mib)), objects.PutOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancelled: %v, want %v", err, context.DeadlineExceeded)
	}
	if left := server.Uploads(); len(left) > 0 {
		t.Errorf("unfinished uploads are left after a cancelled put: %v", left)
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

func TestBrokenBodyGoesOnWhereItBroke(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{Stall: 100 * time.Millisecond})
	body := content(1, 3*mib)
	if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), objects.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	server.Reset()
	faults := []s3test.Fault{s3test.CutBody(mib), s3test.ResetBody(mib / 2), s3test.CutBody(0), s3test.SlowDown(), s3test.StallBody(mib/2, 0)}
	asked := 0
	server.Script(func(s3test.Request) s3test.Fault {
		if asked++; asked <= len(faults) {
			return faults[asked-1]
		}
		return s3test.Fault{}
	})
	var out bytes.Buffer
	got, err := store.Get(t.Context(), bucket, "k", &out, objects.GetOptions{})
	if err != nil || !bytes.Equal(out.Bytes(), body) || got.Verified != "crc32" {
		t.Errorf("after five faults: %d bytes of %d, verified by %q, %v", out.Len(), len(body), got.Verified, err)
	}
	for i, r := range server.Requests() {
		ranged, matched := r.Header.Get("Range"), r.Header.Get("If-Match")
		if (i == 0) != (ranged == "") || (i == 0) != (matched == "") {
			t.Errorf("request %d: Range %q, If-Match %q, want both from the second on", i+1, ranged, matched)
		}
	}
}

func TestBodyThatNeverComesIsGivenUp(t *testing.T) {
	server := start(t, s3test.Options{})
	p := quick()
	p.MaxAttempts = 3
	store := open(t, server, objects.Options{Policy: p})
	if _, err := store.Put(t.Context(), bucket, "k", strings.NewReader("some bytes"), objects.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	server.Script(s3test.Rules(s3test.Rule{Method: "GET", Fault: s3test.CutBody(0)}))
	_, err := store.Get(t.Context(), bucket, "k", io.Discard, objects.GetOptions{})
	if !errors.Is(err, retry.ErrExhausted) || !errors.Is(err, io.ErrUnexpectedEOF) || server.Count("GET", "") != 3 {
		t.Errorf("a body that never comes: %d requests, %v, want 3, %v", server.Count("GET", ""), err, retry.ErrExhausted)
	}
}

func TestTwoVersionsAreNeverMixed(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{})
	older, newer := content(1, 2*mib), content(2, 2*mib)
	replace := func() {
		if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(newer), objects.PutOptions{}); err != nil {
			t.Error(err)
		}
	}
	if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(older), objects.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	server.Reset()
	server.Script(s3test.Rules(s3test.Rule{Method: "GET", Nth: []int{1}, Fault: s3test.CutBody(mib)}))

	r, err := store.Open(t.Context(), bucket, "k", objects.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	replace()
	if n, err := io.Copy(io.Discard, r); !errors.Is(err, objects.ErrChanged) {
		t.Errorf("a stream of an object that was replaced: %d bytes, %v, want %v", n, err, objects.ErrChanged)
	}

	// A file has no reader yet that has seen the old one: it is begun anew.
	if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(older), objects.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	server.Reset()
	path := filepath.Join(t.TempDir(), "k")
	once := false
	_, err = store.GetFile(t.Context(), bucket, "k", path, objects.GetOptions{Progress: func(_, _ int64) {
		if !once {
			once = true
			replace()
		}
	}})
	if got, _ := os.ReadFile(path); err != nil || !bytes.Equal(got, newer) {
		t.Errorf("a file of an object that was replaced: %v, %d bytes, want the new %d", err, len(got), len(newer))
	}
}

func TestFileIsThereWholeOrNotAtAll(t *testing.T) {
	server := start(t, s3test.Options{})
	p := quick()
	p.MaxAttempts = 2
	store := open(t, server, objects.Options{Policy: p})
	if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(content(1, mib)), objects.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "k")
	if err := os.WriteFile(path, []byte("before"), 0o640); err != nil {
		t.Fatal(err)
	}
	script := []s3test.Rule{{Method: "GET", Nth: []int{1}, Fault: s3test.CutBody(1000)}, {Method: "GET", Fault: s3test.InternalError()}}
	server.Script(s3test.Rules(script...))
	if _, err := store.GetFile(t.Context(), bucket, "k", path, objects.GetOptions{}); !errors.Is(err, retry.ErrExhausted) {
		t.Errorf("cut, then 500 for ever: %v, want %v", err, retry.ErrExhausted)
	}
	if got, _ := os.ReadFile(path); string(got) != "before" {
		t.Errorf("after a get that failed the file has %d bytes, want what it had", len(got))
	}
	server.Script(nil)
	if _, err := store.GetFile(t.Context(), bucket, "k", path, objects.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != mib || info.Mode().Perm() != 0o640 {
		t.Errorf("after a get the file is %v, %v, want 1 MiB with the mode it had", info, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%v are left, want one file", left)
	}
	for _, bad := range []string{dir, filepath.Join(dir, "none", "k")} {
		if _, err := store.GetFile(t.Context(), bucket, "k", bad, objects.GetOptions{}); err == nil {
			t.Errorf("get to %s, where no file can be: no error", bad)
		}
	}
}

func TestDeleteMissingIsSuccess(t *testing.T) {
	server := start(t, script(s3test.Rule{Method: "DELETE", Nth: []int{1}, Fault: s3test.LostAnswer()}))
	store := open(t, server, objects.Options{})
	if _, err := store.Put(t.Context(), bucket, "k", strings.NewReader("x"), objects.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := store.Delete(t.Context(), bucket, "k"); err != nil {
			t.Errorf("Delete: %v", err)
		}
	}
	if err := store.Delete(t.Context(), "nowhere", "k"); err == nil {
		t.Error("Delete in a bucket that is not there: no error")
	}
	if keys := server.Keys(bucket); len(keys) > 0 {
		t.Errorf("%q are left", keys)
	}
}

func collect(seq iter.Seq2[objects.Object, error]) (keys []string, err error) {
	for o, err := range seq {
		if err != nil {
			return keys, err
		}
		keys = append(keys, o.Key)
	}
	return keys, nil
}

func TestListIsCompleteAndInOrder(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{})
	var want []string
	for i := range 2500 {
		key := fmt.Sprintf("a b+ü&%%/%04d", i)
		want = append(want, key)
		if err := server.Store(bucket, key, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := server.Store(bucket, "other", nil); err != nil {
		t.Fatal(err)
	}
	pages := 0
	server.Script(func(s3test.Request) s3test.Fault {
		if pages++; pages%2 == 1 {
			return s3test.InternalError()
		}
		return s3test.Fault{}
	})
	got, err := collect(store.List(t.Context(), bucket, "a b"))
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("List: %d keys, %v, want all %d in order", len(got), err, len(want))
	}
	for o, err := range store.List(t.Context(), bucket, "") {
		if err != nil || o.Key != want[0] {
			t.Errorf("the first of a list: %q, %v, want %q", o.Key, err, want[0])
		}
		break // must not panic
	}
	if _, err := collect(store.List(t.Context(), "nowhere", "")); err == nil {
		t.Error("a list of a bucket that is not there: no error")
	}
}

func TestOptionsOutOfRange(t *testing.T) {
	for _, test := range []struct {
		o    objects.Options
		want string
	}{
		{objects.Options{PartSize: 1000}, "PartSize"},
		{objects.Options{PartSize: 6 << 30}, "PartSize"},
		{objects.Options{Parallel: -1}, "Parallel"},
		{objects.Options{Stall: -1}, "Stall"},
		{objects.Options{Policy: &retry.Policy{MaxAttempts: -7}}, "max_attempts"},
	} {
		_, err := objects.New(aws.Config{}, test.o)
		bad, ok := errors.AsType[*retry.ConfigError](err)
		if !ok || bad.Field != test.want {
			t.Errorf("New with %+v: %v, want a *retry.ConfigError about %s", test.o, err, test.want)
		}
	}
}
