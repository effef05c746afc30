package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/seed-0f2c7998/perdure/examples/recipes"
	"github.com/seed-0f2c7998/perdure/fallback"
	"github.com/seed-0f2c7998/perdure/hedge"
	"github.com/seed-0f2c7998/perdure/retry"
)

func quiet() *retry.Policy {
	return &retry.Policy{MaxAttempts: 2, Observe: func(context.Context, retry.Event) {}}
}

func unseen() *fallback.Policy {
	return &fallback.Policy{Observe: func(context.Context, fallback.Event) {}}
}

func TestCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fetches atomic.Int32
		var down atomic.Bool
		c := &recipes.Cached[int]{Policy: quiet(), Fallback: unseen(), Fetch: func(context.Context) (int, error) {
			n := fetches.Add(1)
			<-time.After(100 * time.Millisecond)
			if down.Load() {
				return 0, io.ErrUnexpectedEOF
			}
			return int(n), nil
		}}
		all := func(want int, old bool) {
			t.Helper()
			var callers sync.WaitGroup
			for range 50 {
				callers.Go(func() {
					if v, replaced, err := c.Get(t.Context()); v != want || (replaced != nil) != old || err != nil {
						t.Errorf("%d, replaced %v, error %v; want %d", v, replaced, err, want)
					}
				})
			}
			callers.Wait()
		}
		down.Store(true)
		if _, _, err := c.Get(t.Context()); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("nothing is cached: %v", err)
		}
		down.Store(false)
		all(3, false)
		all(3, false)
		down.Store(true)
		<-time.After(time.Minute)
		all(3, true)
		if n := fetches.Load(); n != 5 {
			t.Errorf("%d fetches, want 2 attempts, 1, and 2", n)
		}
		left, cancel := context.WithCancel(t.Context())
		cancel()
		if _, replaced, err := c.Get(left); !errors.Is(err, context.Canceled) || replaced != nil {
			t.Errorf("a caller that has left: %v, %v", replaced, err)
		}
		<-time.After(time.Minute) // its fetch ends by itself
	})
}

func TestLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		h := &hedge.Hedge[string]{After: time.Second}
		v, err := recipes.Lookup(t.Context(), quiet(), h, func(ctx context.Context) (string, error) {
			if calls.Add(1) == 1 {
				<-ctx.Done()
				return "", ctx.Err()
			}
			return "fresh", nil
		}, "default")
		if v != "fresh" || err != nil || calls.Load() != 2 {
			t.Errorf("%q, %v after %d calls", v, err, calls.Load())
		}
		v, err = recipes.Lookup(t.Context(), quiet(), h, func(context.Context) (string, error) { return "", io.ErrUnexpectedEOF }, "default")
		if v != "default" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
	})
}

func TestBulkheads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int32
		work := func(ctx context.Context) error {
			for n, m := running.Add(1), most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-time.After(time.Second)
			running.Add(-1)
			return ctx.Err()
		}
		var keys []string
		for i := range 40 {
			keys = append(keys, fmt.Sprint(i))
		}
		err := recipes.Each(t.Context(), keys, 7, quiet(), func(ctx context.Context, _ string) error { return work(ctx) })
		if err != nil || most.Load() != 7 {
			t.Errorf("%v, %d calls at once; want 7", err, most.Load())
		}
		most.Store(0)
		memory := semaphore.NewWeighted(100)
		var callers sync.WaitGroup
		for range 20 {
			callers.Go(func() {
				if err := recipes.Weighted(t.Context(), memory, 30, quiet(), work); err != nil {
					t.Error(err)
				}
			})
		}
		if callers.Wait(); most.Load() != 3 {
			t.Errorf("%d calls of 30 at once; want 3 in 100", most.Load())
		}
	})
}

// The code of docs/combining.md is that of this package, letter by letter.
func TestThePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/combining.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("recipes.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 4 {
		t.Errorf("%d blocks of code", len(blocks))
	}
	for _, b := range blocks {
		if !strings.Contains(string(source), b[1]) {
			t.Errorf("the page shows what is not compiled here:\n%s", b[1])
		}
	}
}
