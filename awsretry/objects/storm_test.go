//go:build integration

package objects_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// 200 uploads and 200 downloads meet every kind of fault.
func TestTwoHundredTransfersThroughFaults(t *testing.T) {
	seed := testseed.Of(t, 2024)
	faults := s3test.TypicalFaults(seed)
	faults.Stall, faults.StallTime = 0.02, 5*time.Second
	bothServers(t, s3test.Options{Faults: faults}, func(t *testing.T, server *s3test.Server) {
		t.Helper()
		store := patient(t, server, objects.Options{PartSize: 5 * mib, Stall: time.Second})
		all := sizes(rand.New(rand.NewPCG(seed, 0)), 200)
		each(len(all), func(i int) {
			if got, err := thereAndBack(t, store, i, content(uint64(i), int(all[i]))); err != nil {
				t.Errorf("object %d of %d bytes: %v", i, all[i], err)
			} else if got.Verified == "" || got.Verified == "size" {
				t.Errorf("object %d is verified by %q, want a checksum", i, got.Verified)
			}
		})
		faultsStruck(t, server, all)
		keys, err := collect(store.List(t.Context(), bucket, ""))
		if err != nil || len(keys) != len(all) {
			t.Errorf("List: %d keys, %v, want %d", len(keys), err, len(all))
		}
		if _, err := store.AbortUploads(t.Context(), bucket, "", -time.Minute); err != nil {
			t.Errorf("AbortUploads: %v", err)
		}
		left, err := store.Client().ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket)})
		if err != nil || len(left.Uploads) > 0 {
			t.Errorf("uploads are left after AbortUploads: %+v, %v, want none", left, err)
		}
	})
}

// sizes returns n sizes from 1 B to 64 MiB, uniform in their logarithm; every sixth, up to four, is 64 MiB.
func sizes(random *rand.Rand, n int) []int64 {
	all := make([]int64, n)
	for i := range all {
		all[i] = int64(math.Exp2(random.Float64() * 26))
		if i%6 == 0 && i/6 < 4 {
			all[i] = 64 * mib
		}
	}
	return all
}

// thereAndBack puts and gets an object, in one of the possible ways each.
func thereAndBack(t *testing.T, store *objects.Store, i int, body []byte) (objects.Object, error) {
	t.Helper()
	var r io.Reader = bytes.NewReader(body)
	if i%3 == 0 {
		r = stream{r}
	}
	key := fmt.Sprintf("k%d", i)
	if put, err := store.Put(t.Context(), bucket, key, r, objects.PutOptions{}); err != nil || put.Size != int64(len(body)) {
		return put, fmt.Errorf("put, %d bytes: %w", put.Size, err)
	}
	if i%2 == 0 {
		var out bytes.Buffer
		got, err := store.Get(t.Context(), bucket, key, &out, objects.GetOptions{})
		if err == nil && !bytes.Equal(out.Bytes(), body) {
			err = fmt.Errorf("%d bytes came back, and they are others", out.Len())
		}
		return got, err
	}
	path := filepath.Join(t.TempDir(), "back")
	got, err := store.GetFile(t.Context(), bucket, key, path, objects.GetOptions{})
	if err == nil && sumOf(t, path) != sha256.Sum256(body) {
		err = errors.New("the file that came back is another")
	}
	return got, errors.Join(err, os.RemoveAll(path))
}

// faultsStruck logs the requests, and fails the test if a kind of fault is missing.
func faultsStruck(t *testing.T, server *s3test.Server, all []int64) {
	t.Helper()
	sorted, total := slices.Sorted(slices.Values(all)), int64(0)
	for _, size := range all {
		total += size
	}
	struck := map[string]int{}
	for _, r := range server.Requests() {
		struck[r.Fault.String()]++
	}
	t.Logf("sizes %d to %d, half of them below %d, %d MiB in all; requests by fault: %v",
		sorted[0], sorted[len(sorted)-1], sorted[len(sorted)/2], total/mib, struck)
	// Only what ends an upload in parts can be a 200 that holds an error, so by chance there may be none.
	for _, kind := range []string{"503 SlowDown", "500 InternalError", "reset", "cut request", "cut body", "stall", "lost response"} {
		if struck[kind] == 0 {
			t.Errorf("no %s has struck", kind)
		}
	}
}

// Sixteen clients race, with small objects and in parts, without faults and with lost responses.
func TestRacersOfBothServers(t *testing.T) {
	bothServers(t, s3test.Options{}, func(t *testing.T, server *s3test.Server) {
		t.Helper()
		p := quick()
		p.MaxAttempts = 100 // the racers share the server's luck
		store := open(t, server, objects.Options{Policy: p, PartSize: 5 * mib})
		for round := range 12 {
			lost, size := round%2 == 1, 1
			if round%4 >= 2 {
				size = 5*mib + 1
			}
			if lost {
				if err := server.SetFaults(s3test.Faults{Seed: testseed.Of(t, uint64(round)), LostResponse: 0.4, Reset: 0.1, SlowDown: 0.1}); err != nil {
					t.Fatal(err)
				}
			}
			body := func(i int) []byte { return bytes.Repeat([]byte("x"), size+i) }
			results := race(t, store, fmt.Sprint("race", round), body)
			won, ambiguous := winners(t, results)
			if err := server.SetFaults(s3test.Faults{}); err != nil {
				t.Fatal(err)
			}
			if len(won) > 1 || len(won)+len(ambiguous) == 0 || !lost && (len(won) != 1 || len(ambiguous) > 0) {
				t.Fatalf("round %d: winners %v, ambiguous %v, want one who believes it, or, if responses are lost, someone who does not know", round, won, ambiguous)
			}
			stat, err := store.Stat(t.Context(), bucket, fmt.Sprint("race", round))
			if err != nil || !slices.Contains(append(won, ambiguous...), int(stat.Size)-size) {
				t.Errorf("round %d: racer %d is stored, %v, winners %v, ambiguous %v", round, int(stat.Size)-size, err, won, ambiguous)
			}
			t.Logf("round %d: winners %v, ambiguous %v", round, won, ambiguous)
		}
	})
}

// Every tenth page fails once.
func TestListOfAHundredThousandKeys(t *testing.T) {
	const count = 100_000
	key := func(i int) string { return fmt.Sprintf("%06d", i) }
	t.Run("in the process", func(t *testing.T) {
		server := start(t, s3test.Options{})
		for i := range count {
			if err := server.Store(bucket, key(i), nil); err != nil {
				t.Fatal(err)
			}
		}
		listed(t, server, count, key)
	})
	t.Run("versitygw", func(t *testing.T) {
		g := startGateway(t)
		for i := range count {
			if err := os.WriteFile(filepath.Join(g.Data, bucket, key(i)), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		listed(t, g.behind(t, s3test.Options{}), count, key)
	})
}

func listed(t *testing.T, server *s3test.Server, count int, key func(i int) string) {
	t.Helper()
	pages := 0
	server.SetScript(func(r s3test.Request) s3test.Fault {
		if r.N > 1 {
			return s3test.Fault{}
		}
		if pages++; pages%10 == 0 {
			return s3test.InternalError()
		}
		return s3test.Fault{}
	})
	next := 0
	for o, err := range open(t, server, objects.Options{}).List(t.Context(), bucket, "") {
		if err != nil {
			t.Fatal(err)
		}
		if o.Key != key(next) {
			t.Fatalf("key %d is %s, want %s", next, o.Key, key(next))
		}
		next++
	}
	if requests := server.Count("GET", ""); next != count || pages != count/1000 || requests != pages+pages/10 {
		t.Errorf("%d keys on %d pages in %d requests, want %d, %d, and one more for every tenth", next, pages, requests, count, count/1000)
	}
}
