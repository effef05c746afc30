package objects_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/aws/smithy-go"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// race lets sixteen clients put the same key if it is absent, and returns their errors.
func race(t *testing.T, store *objects.Store, key string, body func(i int) []byte) []error {
	t.Helper()
	results := make([]error, 16)
	var group sync.WaitGroup
	for i := range results {
		group.Go(func() {
			_, results[i] = store.Put(t.Context(), bucket, key, bytes.NewReader(body(i)), objects.PutOptions{IfAbsent: true})
		})
	}
	group.Wait()
	return results
}

// winners returns which puts succeeded, and which are ambiguous.
func winners(t *testing.T, results []error) (won, ambiguous []int) {
	t.Helper()
	for i, err := range results {
		switch {
		case err == nil:
			won = append(won, i)
		case errors.As(err, new(*objects.AmbiguousError)):
			ambiguous = append(ambiguous, i)
		case !errors.Is(err, objects.ErrCondition):
			t.Errorf("racer %d: %v, want to know that it has lost", i, err)
		}
	}
	return won, ambiguous
}

func TestSixteenRacersHaveOneWinner(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{})
	for round := range 10 {
		key := fmt.Sprint(round)
		results := race(t, store, key, func(i int) []byte { return []byte(strings.Repeat("x", i+1)) })
		won, ambiguous := winners(t, results)
		if len(won) != 1 || len(ambiguous) != 0 {
			t.Fatalf("round %d: winners %v, ambiguous %v, want one, none", round, won, ambiguous)
		}
		stored(t, server, key, []byte(strings.Repeat("x", won[0]+1)))
		err := results[(won[0]+1)%16]
		if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != "PreconditionFailed" {
			t.Errorf("a loser got %v, want PreconditionFailed in it", err)
		}
	}
}

func TestRacersWithLostResponsesHaveAtMostOneWinner(t *testing.T) {
	seed := testseed.Of(t, 3)
	server := start(t, s3test.Options{Faults: s3test.Faults{Seed: seed, LostResponse: 0.4, Reset: 0.1, SlowDown: 0.1}})
	p := quick()
	p.MaxAttempts = 100 // the racers share the server's luck
	store := open(t, server, objects.Options{Policy: p})
	for round := range 8 {
		key := fmt.Sprint(round)
		results := race(t, store, key, func(i int) []byte { return []byte(strings.Repeat("x", i+1)) })
		won, ambiguous := winners(t, results)
		if len(won) > 1 || len(won)+len(ambiguous) == 0 {
			t.Fatalf("round %d: winners %v, ambiguous %v, want one who believes it, or someone who does not know", round, won, ambiguous)
		}
		if len(won) == 1 {
			stored(t, server, key, []byte(strings.Repeat("x", won[0]+1)))
		}
	}
}

func TestOwnWriteIsKnownAfterALostResponse(t *testing.T) {
	server := start(t, script(
		s3test.Rule{Operation: "PutObject", Prefix: "/bikes/small", Nth: []int{1}, Fault: s3test.LostResponse()},
		s3test.Rule{Operation: "CompleteMultipartUpload", Nth: []int{1}, Fault: s3test.LostResponse()}))
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	for key, body := range map[string][]byte{"small": []byte("one"), "large": content(1, 6*mib)} {
		first, err := store.Put(t.Context(), bucket, key, bytes.NewReader(body), objects.PutOptions{IfAbsent: true, Attributes: objects.Attributes{Metadata: map[string]string{"step": "raw"}}})
		if err != nil {
			t.Errorf("%s, if absent, its response lost: %v, want success", key, err)
		}
		stored(t, server, key, body)
		_, err = store.Put(t.Context(), bucket, key, strings.NewReader("other"), objects.PutOptions{IfAbsent: true})
		if !errors.Is(err, objects.ErrCondition) {
			t.Errorf("%s, if absent, once more: %v, want %v", key, err, objects.ErrCondition)
		}
		server.Reset() // so that the next response is lost as well
		next, err := store.Put(t.Context(), bucket, key, strings.NewReader("next"), objects.PutOptions{IfMatch: first.ETag})
		if err != nil {
			t.Errorf("%s, if it is the first, its response lost: %v, want success", key, err)
		}
		stored(t, server, key, []byte("next"))
		if _, err := store.Put(t.Context(), bucket, key, strings.NewReader("late"), objects.PutOptions{IfMatch: first.ETag}); !errors.Is(err, objects.ErrCondition) {
			t.Errorf("%s, if it is the first, which it is not: %v, want %v", key, err, objects.ErrCondition)
		}
		if next.Verified != "crc32" {
			t.Errorf("%s: verified by %q, want crc32", key, next.Verified)
		}
	}
}

func TestLargePutIfAbsentIsRefusedBeforeItIsSent(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	if err := server.Store(bucket, "k", []byte("there")); err != nil {
		t.Fatal(err)
	}
	_, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(content(1, 11*mib)), objects.PutOptions{IfAbsent: true})
	if !errors.Is(err, objects.ErrCondition) || server.Count("", "") != 1 {
		t.Errorf("%d requests, %v, want 1, %v", server.Count("", ""), err, objects.ErrCondition)
	}
}

func TestOverwrittenWriteIsAmbiguous(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{})
	puts := 0
	server.SetScript(func(r s3test.Request) s3test.Fault {
		if r.Operation != "PutObject" {
			return s3test.Fault{}
		}
		if puts++; puts == 1 {
			return s3test.LostResponse()
		}
		// Before the second attempt somebody else has replaced the object.
		if err := server.Store(bucket, "k", []byte("somebody else's")); err != nil {
			t.Error(err)
		}
		return s3test.Fault{}
	})
	_, err := store.Put(t.Context(), bucket, "k", strings.NewReader("ours"), objects.PutOptions{IfAbsent: true})
	ambiguous, ok := errors.AsType[*objects.AmbiguousError](err)
	if !ok || ambiguous.ETag == "" {
		t.Errorf("a put whose response was lost and whose object was replaced: %v, want an *AmbiguousError", err)
	}
}
