//go:build integration && unix

package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
)

// Runs of one name on one host keep to one rate, all of them together, and use it.
func TestRunsShareARate(t *testing.T) {
	const runs, ahead, interval = 200, 100, 100 * time.Millisecond // 600 a minute
	var mu sync.Mutex
	var arrived []time.Time
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		arrived = append(arrived, time.Now())
	}))
	defer server.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	fetch := filepath.Join(t.TempDir(), "fetch")
	if err := os.Symlink(self, fetch); err != nil {
		t.Fatal(err)
	}

	// Others come first, so that all runs have started when their turns begin.
	dir := t.TempDir()
	store := hoststore.Open(dir)
	defer store.Close()
	b := circuit.New("op:api", circuit.Config{Store: store, Rate: 10})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var others sync.WaitGroup
	var passed atomic.Int64
	for range ahead {
		others.Go(func() {
			defer passed.Add(1)
			if err := b.Do(ctx, func(context.Context) error { return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "all others wait, or have passed", func() bool { return int64(b.Metrics().Queued)+passed.Load() >= ahead-2 })
	begin := time.Now().Add(time.Duration(b.Metrics().Queued) * interval)
	var all sync.WaitGroup
	for range runs {
		c := command(t, []string{"PERDURE_STATE=" + dir}, "run", "--name", "api", "--rate", "600/m", "--wait", "120", "--", fetch, server.URL)
		c.Stderr = os.Stderr
		all.Go(func() {
			if err := c.Run(); err != nil {
				t.Errorf("a run ends with %v", err)
			}
		})
	}
	all.Wait()
	others.Wait()
	if t.Failed() {
		return
	}
	slices.SortFunc(arrived, time.Time.Compare)
	if len(arrived) != runs {
		t.Fatalf("the server got %d requests of %d runs", len(arrived), runs)
	}
	for i, at := range arrived {
		if earliest := time.Duration(i-1) * interval; at.Sub(begin) < earliest {
			t.Errorf("request %d came %v after the first turn, want %v at least", i+1, at.Sub(begin), earliest)
		}
	}
	took, ideal := arrived[runs-1].Sub(begin), (runs-1)*interval
	t.Logf("%d runs took %v, by the rate %v; the server's log has %.2f/s", runs, took, ideal, float64(runs-1)/arrived[runs-1].Sub(arrived[0]).Seconds())
	if os.Getenv("PERDURE_TEST_LONG") != "" && took > ideal*105/100+time.Second {
		t.Errorf("that is more than 5%% and 1s longer")
	}
}
