package objects_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

func TestBrokenBodyResumesWhereItBroke(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{Stall: 500 * time.Millisecond})
	body := content(1, 3*mib)
	if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), objects.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	server.Reset()
	faults := []s3test.Fault{s3test.CutBody(mib), s3test.ResetBody(mib / 2), s3test.CutBody(0), s3test.SlowDown(), s3test.StallBody(mib/2, 0)}
	asked := 0
	server.SetScript(func(s3test.Request) s3test.Fault {
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
	server.SetScript(s3test.Rules(s3test.Rule{Method: "GET", Fault: s3test.CutBody(0)}))
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
	server.SetScript(s3test.Rules(s3test.Rule{Method: "GET", Nth: []int{1}, Fault: s3test.CutBody(mib)}))

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

	// A file has no reader yet that has seen the old one: it is fetched from scratch.
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
	server.SetScript(s3test.Rules(script...))
	if _, err := store.GetFile(t.Context(), bucket, "k", path, objects.GetOptions{}); !errors.Is(err, retry.ErrExhausted) {
		t.Errorf("cut, then 500 for ever: %v, want %v", err, retry.ErrExhausted)
	}
	if got, _ := os.ReadFile(path); string(got) != "before" {
		t.Errorf("after a get that failed the file has %d bytes, want what it had", len(got))
	}
	server.SetScript(nil)
	if _, err := store.GetFile(t.Context(), bucket, "k", path, objects.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != mib || info.Mode().Perm() != 0o640 {
		t.Errorf("after a get the file is %v, %v, want 1 MiB with the mode it had", info, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%v are left, want one file", left)
	}
	device := filepath.Join(t.TempDir(), "null")
	if err := os.Symlink(os.DevNull, device); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{dir, filepath.Join(dir, "none", "k"), device} {
		if _, err := store.GetFile(t.Context(), bucket, "k", bad, objects.GetOptions{}); err == nil {
			t.Errorf("get to %s, where no file can be: no error", bad)
		}
	}
}

// A proxy may drop the Content-Length of the store.
func TestObjectOfUnknownLength(t *testing.T) {
	body := content(1, mib)
	requests := 0
	store := handMade(t, func(w http.ResponseWriter, _ *http.Request) {
		requests++
		w.Header().Set("ETag", `"1"`)
		_, _ = w.Write(body[:mib/2])
		_ = http.NewResponseController(w).Flush()
		if requests == 2 {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(body[mib/2:])
	})
	var out bytes.Buffer
	object, err := store.Get(t.Context(), bucket, "k", &out, objects.GetOptions{})
	if err != nil || !bytes.Equal(out.Bytes(), body) || object.Size != mib {
		t.Errorf("%d bytes, %v, size %d, want all %d", out.Len(), err, object.Size, mib)
	}
	if _, err := store.Get(t.Context(), bucket, "k", &out, objects.GetOptions{}); err == nil {
		t.Error("cut at an unknown length: no error")
	}
}
