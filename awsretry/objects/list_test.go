package objects_test

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/smithy-go"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

func TestDeleteMissingIsSuccess(t *testing.T) {
	server := start(t, script(s3test.Rule{Method: "DELETE", Nth: []int{1}, Fault: s3test.LostResponse()}))
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
	server.SetScript(func(s3test.Request) s3test.Fault {
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

func TestDeleteAllReportsEachKey(t *testing.T) {
	server := start(t, script(s3test.Rule{Operation: "DeleteObjects", Nth: []int{1, 2}, Fault: s3test.InternalError()}))
	store := open(t, server, objects.Options{})
	var keys []string
	for i := range 1500 {
		keys = append(keys, fmt.Sprintf("k%04d", i))
		if i%2 == 0 {
			if err := server.Store(bucket, keys[i], nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	var reported []string
	for key, err := range store.DeleteAll(t.Context(), bucket, slices.Values(keys)) {
		reported = append(reported, key)
		if err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	if !slices.Equal(reported, keys) || len(server.Keys(bucket)) > 0 {
		t.Errorf("reported %d keys, %d are left, want %d, none", len(reported), len(server.Keys(bucket)), len(keys))
	}
	if got := server.Count("POST", ""); got != 4 {
		t.Errorf("1,500 keys, with two failures: %d requests, want 4", got)
	}
}

// A store refuses some keys of a batch, some of them only for a while.
func TestDeleteAllRepeatsWhatMayPass(t *testing.T) {
	var requests []string
	store := handMade(t, func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		requests = append(requests, body.String())
		fmt.Fprint(w, "<DeleteResult>")
		for key, code := range map[string]string{"fine": "", "busy": "SlowDown", "locked": "AccessDenied", "gone": "NoSuchKey"} {
			switch {
			case !strings.Contains(body.String(), key):
			case code == "" || code == "SlowDown" && len(requests) == 3:
				fmt.Fprintf(w, "<Deleted><Key>%s</Key></Deleted>", key)
			default:
				fmt.Fprintf(w, "<Error><Key>%s</Key><Code>%s</Code></Error>", key, code)
			}
		}
		fmt.Fprint(w, "</DeleteResult>")
	})
	for key, err := range store.DeleteAll(t.Context(), bucket, slices.Values([]string{"fine", "busy", "locked", "gone"})) {
		coded, ok := errors.AsType[interface {
			error
			ErrorCode() string
		}](err)
		if locked := key == "locked"; ok != locked || locked && coded.ErrorCode() != "AccessDenied" || !locked && err != nil {
			t.Errorf("%s: %v, want an error, AccessDenied, for locked alone", key, err)
		}
	}
	if len(requests) != 3 || strings.Contains(requests[1], "locked") || strings.Contains(requests[2], "fine") {
		t.Errorf("requests %q, want three, the later ones for what was busy", requests)
	}
}

// A key that the response does not name was not deleted for sure: another request shows it.
func TestDeleteAllConfirmsEachKey(t *testing.T) {
	var requests []string
	store := handMade(t, func(w http.ResponseWriter, r *http.Request) {
		requests = append(requests, r.Method+" "+r.URL.Path)
		switch {
		case r.Method == http.MethodPost:
			fmt.Fprint(w, "<DeleteResult><Deleted><Key>named</Key></Deleted><Deleted><Key>other</Key></Deleted></DeleteResult>")
		case strings.HasSuffix(r.URL.Path, "/kept"):
			w.WriteHeader(http.StatusForbidden)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	for key, err := range store.DeleteAll(t.Context(), bucket, slices.Values([]string{"named", "silent", "kept"})) {
		if (err != nil) != (key == "kept") {
			t.Errorf("%s: %v, want an error for kept alone", key, err)
		}
	}
	if want := []string{"POST /bikes", "DELETE /bikes/silent", "DELETE /bikes/kept"}; !slices.Equal(requests, want) {
		t.Errorf("requests %q, want %q", requests, want)
	}
}

func TestDeleteAllWhenNothingWorks(t *testing.T) {
	server := start(t, script(s3test.Rule{Fault: s3test.AccessDenied()}))
	store := open(t, server, objects.Options{})
	for key, err := range store.DeleteAll(t.Context(), bucket, slices.Values([]string{"a", "b"})) {
		if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != "AccessDenied" {
			t.Errorf("%s: %v, want AccessDenied", key, err)
		}
		if errors.As(err, new(*retry.Error)) {
			t.Errorf("%s: %v, want the SDK's own error", key, err)
		}
	}
	if got := server.Count("", ""); got != 1 {
		t.Errorf("%d requests, want 1", got)
	}
}

// Each key has the store's error for that key.
func TestDeleteAllGivesUpEachKeyForItsReason(t *testing.T) {
	store := handMade(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "<DeleteResult><Error><Key>slow</Key><Code>SlowDown</Code></Error>"+
			"<Error><Key>broken</Key><Code>InternalError</Code></Error></DeleteResult>")
	})
	want := map[string]string{"slow": "SlowDown", "broken": "InternalError"}
	for key, err := range store.DeleteAll(t.Context(), bucket, slices.Values([]string{"slow", "broken"})) {
		if !errors.Is(err, retry.ErrExhausted) || !strings.Contains(err.Error(), want[key]) {
			t.Errorf("%s: %v, want %v for %s", key, err, retry.ErrExhausted, want[key])
		}
	}
}

// The AttemptTimeout bounds a request, not a whole batch.
func TestDeleteAllTakesAsLongAsItNeeds(t *testing.T) {
	server := start(t, script(s3test.Rule{Operation: "DeleteObjects", Nth: []int{1, 2}, Fault: s3test.SlowDown()}))
	p := quick()
	p.AttemptTimeout, p.BaseDelay, p.MaxDelay = 200*time.Millisecond, 150*time.Millisecond, 150*time.Millisecond
	store := open(t, server, objects.Options{Policy: p})
	for key, err := range store.DeleteAll(t.Context(), bucket, slices.Values([]string{"k"})) {
		if err != nil {
			t.Errorf("%s: %v, want success though two waits are longer than the AttemptTimeout", key, err)
		}
	}
}

// Some stores accept only Content-MD5 in this request.
func TestDeleteAllHasTheChecksumOfOldStores(t *testing.T) {
	store := handMade(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sum := md5.Sum(body)
		if r.Header.Get("Content-MD5") != base64.StdEncoding.EncodeToString(sum[:]) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, "<Error><Code>MissingContentMD5</Code></Error>")
			return
		}
		fmt.Fprint(w, "<DeleteResult><Deleted><Key>k</Key></Deleted></DeleteResult>")
	})
	for key, err := range store.DeleteAll(t.Context(), bucket, slices.Values([]string{"k"})) {
		if err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}
