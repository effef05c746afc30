package objects_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// weather makes about every fourth request fail, in every way.
func weather(seed uint64) s3test.Options { return s3test.Options{Faults: s3test.TypicalFaults(seed)} }

// patient returns a Store for a server whose 429s request a wait of a second.
func patient(t *testing.T, server *s3test.Server, o objects.Options) *objects.Store {
	t.Helper()
	o.Policy = quick()
	o.Policy.IgnoreRetryAfter = true
	return open(t, server, o)
}

// each calls f for 0 to n-1, four at a time.
func each(n int, f func(i int)) {
	var group sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i := range n {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			f(i)
		})
	}
	group.Wait()
}

func TestTwoHundredRoundTripsThroughFaults(t *testing.T) {
	seed := testseed.Of(t, 20241123)
	server := start(t, weather(seed))
	store := patient(t, server, objects.Options{PartSize: 5 * mib})
	each(200, func(i int) {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		size := int(math.Exp2(random.Float64() * 20)) // 1 B to 1 MiB, each order of magnitude alike
		if i%70 == 0 {
			size = 5*mib + random.IntN(6*mib) // in parts
		}
		body, key := content(uint64(i), size), fmt.Sprintf("k/%d", i)
		var r io.Reader = bytes.NewReader(body)
		if i%3 == 0 {
			r = stream{r}
		}
		if _, err := store.Put(t.Context(), bucket, key, r, objects.PutOptions{}); err != nil {
			t.Errorf("Put %d of %d bytes: %v", i, size, err)
			return
		}
		if got, _ := server.Object(bucket, key); !bytes.Equal(got, body) {
			t.Errorf("Put %d: %d bytes stored, want the %d that were sent", i, len(got), size)
		}
		var out bytes.Buffer
		got, err := store.Get(t.Context(), bucket, key, &out, objects.GetOptions{})
		if err != nil || !bytes.Equal(out.Bytes(), body) {
			t.Errorf("Get %d: %d bytes, %v, want the %d that were put", i, out.Len(), err, size)
		}
		if got.Verified == "size" || got.Verified == "" {
			t.Errorf("Get %d is verified by %q, want a checksum", i, got.Verified)
		}
	})
	struck := map[string]int{}
	for _, r := range server.Requests() {
		struck[r.Fault.String()]++
	}
	t.Logf("requests by fault: %v", struck)
	if struck["none"] == len(server.Requests()) {
		t.Error("no fault has struck")
	}
}

// hourCSV returns the path of a real file of a bike-sharing system, 1.1 MB, which is not in this repository.
func hourCSV(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("PERDURE_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data", "bike-sharing")
	}
	path := filepath.Join(dir, "hour.csv")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no real data (set PERDURE_TESTDATA to a directory with hour.csv): %v", err)
	}
	return path
}

func TestRealFileThereAndBack100Times(t *testing.T) {
	path := hourCSV(t)
	seed := testseed.Of(t, 7)
	want := sumOf(t, path)
	server := start(t, weather(seed))
	store := patient(t, server, objects.Options{})
	dir := t.TempDir()
	each(100, func(i int) {
		key := fmt.Sprintf("2011/%d/hour.csv", i)
		back := filepath.Join(dir, strconv.Itoa(i))
		if _, err := store.PutFile(t.Context(), bucket, key, path, objects.PutOptions{}); err != nil {
			t.Errorf("there, %d: %v", i, err)
			return
		}
		if _, err := store.GetFile(t.Context(), bucket, key, back, objects.GetOptions{}); err != nil {
			t.Errorf("back, %d: %v", i, err)
			return
		}
		if got := sumOf(t, back); got != want {
			t.Errorf("round trip %d: SHA-256 %x, want %x", i, got, want)
		}
	})
	if left, _ := os.ReadDir(dir); len(left) != 100 {
		t.Errorf("%d files are there, want 100", len(left))
	}
}

func sumOf(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return sha256.Sum256(b)
}
