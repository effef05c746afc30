package objects_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// conflict is the response to a CompleteMultipartUpload that lost against another write. S3 requires the upload to
// begin from scratch.
func conflict(nth ...int) s3test.Rule {
	return s3test.Rule{Operation: "CompleteMultipartUpload", Nth: nth, Fault: s3test.Failure(409, "ConditionalRequestConflict")}
}

func TestConflictSendsThePartsAgain(t *testing.T) {
	for name, state := range map[string]string{"without a state": "", "with a state": filepath.Join(t.TempDir(), "state")} {
		server := start(t, script(conflict(1, 2)))
		store := open(t, server, objects.Options{PartSize: 5 * mib})
		body := content(1, 11*mib)
		object, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), objects.PutOptions{IfAbsent: true, State: state})
		if err != nil || object.Verified != "crc32" {
			t.Fatalf("%s: two conflicts: %v, verified by %q, want success", name, err, object.Verified)
		}
		stored(t, server, "k", body)
		if got := len(sentParts(server)); got != 9 {
			t.Errorf("%s: %d parts sent, want three times three", name, got)
		}
		if left, _ := filepath.Glob(state); state != "" && len(left) > 0 {
			t.Errorf("%s: the state is still there", name)
		}
	}
}

func TestConflictsEndAsThePolicySays(t *testing.T) {
	server := start(t, script(conflict()))
	p := quick()
	p.MaxAttempts = 3
	store := open(t, server, objects.Options{Policy: p, PartSize: 5 * mib})
	_, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(content(1, 6*mib)), objects.PutOptions{IfAbsent: true})
	if !errors.Is(err, retry.ErrExhausted) || !strings.Contains(err.Error(), "3 attempts") || !strings.Contains(err.Error(), "ConditionalRequestConflict") {
		t.Errorf("conflicts for ever: %v, want %v after 3 attempts", err, retry.ErrExhausted)
	}
	if got := server.Count("POST", "/bikes/k"); got != 6 || len(server.Uploads()) > 0 {
		t.Errorf("%d requests to begin and to complete, uploads left: %v, want three of each, none", got, server.Uploads())
	}
}

func TestConflictOfAStreamIsItsEnd(t *testing.T) {
	server := start(t, script(conflict()))
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	_, err := store.Put(t.Context(), bucket, "k", stream{bytes.NewReader(content(1, 6*mib))}, objects.PutOptions{IfAbsent: true})
	if err == nil || !strings.Contains(err.Error(), "a stream that cannot be rewound") || !strings.Contains(err.Error(), "ConditionalRequestConflict") {
		t.Errorf("a conflict of a stream: %v, want why it is not sent again", err)
	}
	if got := len(sentParts(server)); got != 2 || len(server.Uploads()) > 0 {
		t.Errorf("%d parts sent, uploads left: %v, want 2, none", got, server.Uploads())
	}
}

// A response was lost, and then the upload is gone: another client has stored an object of the same bytes.
func TestResumedPutKnowsItsOwnName(t *testing.T) {
	body := content(1, 11*mib)
	for name, other := range map[string]bool{"its own": false, "somebody else's": true} {
		server, state := start(t, s3test.Options{}), filepath.Join(t.TempDir(), "state")
		store := open(t, server, objects.Options{PartSize: 5 * mib})
		server.SetScript(s3test.Rules(s3test.Rule{Operation: "UploadPart", Nth: []int{1}, Fault: s3test.AccessDenied()}))
		put := func() error {
			_, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), objects.PutOptions{IfAbsent: true, State: state})
			return err
		}
		if put() == nil {
			t.Fatal("a put that is denied is no success")
		}
		completes := 0
		server.SetScript(func(r s3test.Request) s3test.Fault {
			if r.Operation != "CompleteMultipartUpload" {
				return s3test.Fault{}
			}
			if completes++; completes == 1 {
				return s3test.LostResponse()
			}
			if other {
				if err := server.Store(bucket, "k", body); err != nil {
					t.Error(err)
				}
			}
			return s3test.Failure(404, "NoSuchUpload")
		})
		_, ambiguous := errors.AsType[*objects.AmbiguousError](put())
		if ambiguous != other || completes != 2 {
			t.Errorf("the object is %s: ambiguous %v, %d times completed, want %v, 2", name, ambiguous, completes, other)
		}
	}
}

// If every response is lost, the error says so.
func TestPutWithoutAResponseIsAmbiguous(t *testing.T) {
	for name, test := range map[string]struct {
		fault     s3test.Fault
		ambiguous bool
	}{
		"carried out":     {s3test.LostResponse(), false}, // and it is recognised
		"not carried out": {s3test.Reset(), true},
		"refused":         {s3test.SlowDown(), false},
	} {
		server := start(t, script(s3test.Rule{Operation: "PutObject", Fault: test.fault}))
		p := quick()
		p.MaxAttempts = 1
		_, err := open(t, server, objects.Options{Policy: p}).Put(t.Context(), bucket, "k", strings.NewReader("x"), objects.PutOptions{IfAbsent: true})
		if _, ok := errors.AsType[*objects.AmbiguousError](err); ok != test.ambiguous || (err == nil) != (name == "carried out") {
			t.Errorf("%s, without a response: %v, want ambiguous: %v", name, err, test.ambiguous)
		}
	}
}

// A put that was never sent is not ambiguous.
func TestPutThatWasNotSentIsNotAmbiguous(t *testing.T) {
	server := start(t, s3test.Options{})
	cfg := configFor(server)
	cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{}, errors.New("no credentials today")
	})
	store, err := objects.New(cfg, objects.Options{Policy: quick()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Put(t.Context(), bucket, "k", strings.NewReader("x"), objects.PutOptions{IfAbsent: true})
	if _, ok := errors.AsType[*objects.AmbiguousError](err); ok || err == nil {
		t.Errorf("without credentials: %v, want an error that is not ambiguous", err)
	}
}

func TestPutIfMatchOfWhatIsNotThere(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	for name, r := range map[string]io.Reader{"small": strings.NewReader("x"), "large": bytes.NewReader(content(1, 6*mib))} {
		server.Reset()
		_, err := store.Put(t.Context(), bucket, "k", r, objects.PutOptions{IfMatch: `"0"`})
		if !errors.Is(err, objects.ErrCondition) || server.Count("", "") != 1 {
			t.Errorf("%s: %v after %d requests, want %v after 1", name, err, server.Count("", ""), objects.ErrCondition)
		}
	}
}
