package objects_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// sentParts returns the numbers of the received parts.
func sentParts(server *s3test.Server) (numbers []string) {
	for _, r := range server.Requests() {
		if r.Operation == "UploadPart" && r.Status == 200 {
			numbers = append(numbers, r.Query.Get("partNumber"))
		}
	}
	slices.Sort(numbers)
	return numbers
}

// broken leaves an upload of 4 parts without the last two, and returns the path
// of its state.
func broken(t *testing.T, server *s3test.Server, body []byte) (*objects.Store, string) {
	t.Helper()
	return brokenWith(t, server, body, objects.PutOptions{})
}

// brokenWith is broken for a put with these options.
func brokenWith(t *testing.T, server *s3test.Server, body []byte, o objects.PutOptions) (*objects.Store, string) {
	t.Helper()
	p := quick()
	p.MaxAttempts = 2
	store := open(t, server, objects.Options{Policy: p, PartSize: 5 * mib, Parallel: 1})
	server.SetScript(func(r s3test.Request) s3test.Fault {
		if r.Query.Get("partNumber") >= "3" {
			return s3test.InternalError()
		}
		return s3test.Fault{}
	})
	o.State = filepath.Join(t.TempDir(), "state")
	_, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), o)
	if !errors.Is(err, retry.ErrExhausted) || len(server.Uploads()) != 1 {
		t.Fatalf("parts that never arrive: %v, uploads %v, want %v, one that waits", err, server.Uploads(), retry.ErrExhausted)
	}
	server.SetScript(nil)
	server.Reset()
	return store, o.State
}

func TestPutResumesWithWhatIsMissing(t *testing.T) {
	for name, reader := range map[string]func([]byte) io.Reader{
		"file":   func(b []byte) io.Reader { return bytes.NewReader(b) },
		"stream": func(b []byte) io.Reader { return stream{bytes.NewReader(b)} },
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, s3test.Options{})
			body := content(1, 16*mib)
			_, state := broken(t, server, body)
			// A process that was killed while it wrote has left half a line.
			f, err := os.OpenFile(state, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = f.WriteString(`{"part":2,"si`)
			_ = f.Close()

			again := open(t, server, objects.Options{Parallel: 1}) // the part size is the state's
			if _, err := again.Put(t.Context(), bucket, "k", reader(body), objects.PutOptions{State: state}); err != nil {
				t.Fatal(err)
			}
			stored(t, server, "k", body)
			if got := sentParts(server); !slices.Equal(got, []string{"3", "4"}) {
				t.Errorf("the second put sent parts %q, want 3 and 4", got)
			}
			if _, err := os.Stat(state); err == nil {
				t.Error("the state is still there")
			}
		})
	}
}

func TestPutSendsWhatHasChangedSince(t *testing.T) {
	server := start(t, s3test.Options{})
	body := content(1, 16*mib)
	store, state := broken(t, server, body)
	body[0]++
	if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), objects.PutOptions{State: state}); err != nil {
		t.Fatal(err)
	}
	stored(t, server, "k", body)
	if got := sentParts(server); !slices.Equal(got, []string{"1", "3", "4"}) {
		t.Errorf("the second put sent parts %q, want 1, 3 and 4", got)
	}
}

func TestPutAfterItsUploadIsGone(t *testing.T) {
	server := start(t, s3test.Options{})
	body := content(1, 16*mib)
	store, state := broken(t, server, body)
	if n, err := store.AbortUploads(t.Context(), bucket, "k", time.Hour); n != 0 || err != nil {
		t.Errorf("AbortUploads of what is older than an hour: %d, %v, want 0", n, err)
	}
	if n, err := store.AbortUploads(t.Context(), bucket, "k", -time.Hour); n != 1 || err != nil || len(server.Uploads()) != 0 {
		t.Errorf("AbortUploads: %d, %v, want 1", n, err)
	}
	if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), objects.PutOptions{State: state}); err != nil {
		t.Fatal(err)
	}
	stored(t, server, "k", body)
}

func TestPutOfAShorterSourceDropsTheUpload(t *testing.T) {
	server := start(t, s3test.Options{})
	store, state := broken(t, server, content(1, 16*mib))
	if _, err := store.Put(t.Context(), bucket, "k", strings.NewReader("short"), objects.PutOptions{State: state}); err != nil {
		t.Fatal(err)
	}
	stored(t, server, "k", []byte("short"))
	if _, err := os.Stat(state); err == nil {
		t.Error("the state is still there")
	}
}

func TestStateOfSomethingElseIsLeftAlone(t *testing.T) {
	server := start(t, s3test.Options{})
	store, state := broken(t, server, content(1, 16*mib))
	_, err := store.Put(t.Context(), bucket, "other", strings.NewReader("x"), objects.PutOptions{State: state})
	if err == nil || !strings.Contains(err.Error(), "s3://bikes/k") {
		t.Errorf("the state of another key: %v, want an error that names it", err)
	}
	precious := filepath.Join(t.TempDir(), "thesis.txt")
	if err := os.WriteFile(precious, []byte("chapter 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), bucket, "k", strings.NewReader("x"), objects.PutOptions{State: precious}); err == nil {
		t.Error("a file that is no state: no error")
	}
	if got, _ := os.ReadFile(precious); string(got) != "chapter 1\n" {
		t.Errorf("a file that is no state has become %q", got)
	}
	if got := server.Count("", ""); got != 0 {
		t.Errorf("%d requests, want none", got)
	}
}

func TestPutKnowsThatItWasDone(t *testing.T) {
	server := start(t, script(s3test.Rule{Operation: "CompleteMultipartUpload", Nth: []int{1}, Fault: s3test.LostResponse()}))
	p := quick()
	p.MaxAttempts = 1 // so that it never hears of its success
	store := open(t, server, objects.Options{Policy: p, PartSize: 5 * mib})
	body, state := content(1, 11*mib), filepath.Join(t.TempDir(), "state")
	if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), objects.PutOptions{State: state}); err == nil {
		t.Fatal("the lost response arrived")
	}
	server.Reset()
	object, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), objects.PutOptions{State: state})
	if err != nil || object.Verified == "size" || len(sentParts(server)) > 0 {
		t.Errorf("a put of what is there: %v, verified by %q, parts %q sent, want none", err, object.Verified, sentParts(server))
	}
	stored(t, server, "k", body)
}
