package policy_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/policy"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A logged receives the lines of a log.
type logged chan string

func (l logged) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// watched calls do with a Set of the file at path that Watch watches, and a function that
// lets Watch look at the file n times and returns what it logged since.
func watched(t *testing.T, path string, do func(set *policy.Set, looks func(n int) string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		log := make(logged, 100)
		set, err := policy.Options{Log: slog.New(slog.NewTextHandler(log, nil))}.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			set.Watch(ctx, 0)
		}()
		<-time.NewTimer(time.Second).C // between two looks
		do(set, func(n int) (lines string) {
			<-time.NewTimer(time.Duration(n) * 5 * time.Second).C
			synctest.Wait()
			for len(log) > 0 {
				lines += <-log
			}
			return lines
		})
		stop()
		<-ended
	})
}

// attempts returns a file whose policy fetch has that many attempts.
func attempts(n int) string {
	return fmt.Sprintf("policies: {fetch: {max_attempts: %d, circuit_breaker: {}}}\n", n)
}

// replace replaces a file at once, as editors do.
func replace(t *testing.T, path, text string) {
	t.Helper()
	rewrite(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A change is one way in which the file at path changes.
type change struct {
	*testing.T

	path  string
	looks func(n int) string // see watched
}

// However a file changes, Watch finds out, and says so once.
func TestWatch(t *testing.T) {
	remove := func(c change) {
		if err := os.Remove(c.path); err != nil {
			c.Fatal(err)
		}
	}
	for name, changes := range map[string]func(c change){
		"written to": func(c change) { rewrite(c.T, c.path, attempts(8)) },
		"replaced":   func(c change) { replace(c.T, c.path, attempts(8)) },
		"of the same size and time": func(c change) {
			was, err := os.Stat(c.path)
			if err == nil {
				rewrite(c.T, c.path, attempts(8))
				err = os.Chtimes(c.path, was.ModTime(), was.ModTime())
			}
			if err != nil {
				c.Fatal(err)
			}
		},
		"truncated, and written after a look": func(c change) {
			for _, part := range []string{"", "policies: {fetch: {}}\n", "policies: {fetch: {max_at"} {
				rewrite(c.T, c.path, part)
				if got := c.looks(1); got != "" {
					c.Errorf("a part of the file was used: %s", got)
				}
			}
			rewrite(c.T, c.path, attempts(8))
		},
		"deleted, and made after a look": func(c change) {
			remove(c)
			if got := c.looks(1); got != "" {
				c.Errorf("logged %s", got)
			}
			rewrite(c.T, c.path, attempts(8))
		},
		"deleted, and made later": func(c change) {
			remove(c)
			if got := c.looks(9); strings.Count(got, "\n") != 1 || !strings.Contains(got, "no such file") {
				c.Errorf("logged %s, want one warning", got)
			}
			rewrite(c.T, c.path, attempts(8))
		},
		"wrong, and right later": func(c change) {
			for _, text := range []string{"policies: [", attempts(0), "policies: {load: {}}"} {
				rewrite(c.T, c.path, text)
				if got := c.looks(9); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") {
					c.Errorf("logged %s, want one warning", got)
				}
			}
			rewrite(c.T, c.path, attempts(8))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, attempts(7))
			watched(t, path, func(set *policy.Set, looks func(int) string) {
				fetch := get(t, set, "fetch")
				fetch.Breaker.Trip()
				looks(3)
				changes(change{t, path, looks})
				if now := get(t, set, "fetch"); now != fetch {
					t.Errorf("%d attempts before the change", now.MaxAttempts)
				}
				if got := looks(9); strings.Count(got, "\n") != 1 || !strings.Contains(got, "policies reloaded") {
					t.Errorf("logged %q, want one line", got)
				}
				if now := get(t, set, "fetch"); now.MaxAttempts != 8 || now.Breaker != fetch.Breaker {
					t.Errorf("%d attempts, want 8, with the same breaker", now.MaxAttempts)
				}
			})
		})
	}
}

// What does not change the content is no change.
func TestWatchIgnores(t *testing.T) {
	path := write(t, attempts(7))
	watched(t, path, func(set *policy.Set, looks func(int) string) {
		replace(t, path, attempts(7))
		got := looks(3)
		if err := os.Chtimes(path, time.Time{}, time.Now()); err != nil {
			t.Fatal(err)
		}
		got += looks(3)
		rewrite(t, path, attempts(8))
		if err := set.Reload(); err != nil { // before Watch finds it
			t.Fatal(err)
		}
		if got += looks(3); got != "" {
			t.Errorf("logged %s", got)
		}
	})
}

// A volume of Kubernetes replaces the link ..data, by which the file is found.
func TestWatchFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	version := func(name, text string) {
		t.Helper()
		err := os.Mkdir(filepath.Join(dir, name), 0o700)
		if err == nil {
			rewrite(t, filepath.Join(dir, name, "policies.yaml"), text)
			err = errors.Join(os.Symlink(name, filepath.Join(dir, "..new")), os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	version("..1", attempts(7))
	path := filepath.Join(dir, "policies.yaml")
	if err := os.Symlink(filepath.Join("..data", "policies.yaml"), path); err != nil {
		t.Skip(err)
	}
	watched(t, path, func(set *policy.Set, looks func(int) string) {
		version("..2", attempts(8))
		if err := os.RemoveAll(filepath.Join(dir, "..1")); err != nil {
			t.Fatal(err)
		}
		if got := looks(3); strings.Count(got, "policies reloaded") != 1 || get(t, set, "fetch").MaxAttempts != 8 {
			t.Errorf("logged %s; %d attempts, want 8", got, get(t, set, "fetch").MaxAttempts)
		}
	})
}

// While two goroutines reload a file that a third one replaces, each call has a whole policy,
// and a name that For has returned once is there for good.
func TestReloadsDuringCalls(t *testing.T) {
	texts := []string{
		"policies: {fetch: {max_attempts: 2, exponential_base: 2, circuit_breaker: {}}, load: {}}\n",
		"policies: {fetch: {max_attempts: 3, exponential_base: 3, circuit_breaker: {}}}\n",
		"policies: {load: {}}\n", "policies: {fe",
	}
	set, path := load(t, texts[0])
	breaker := get(t, set, "fetch").Breaker
	var work sync.WaitGroup
	for range 2 {
		work.Go(func() {
			for range 200 {
				_ = set.Reload() // some versions are refused
			}
		})
	}
	work.Go(func() {
		for i := range 200 {
			replace(t, path, texts[i%len(texts)])
		}
	})
	for range 4 {
		work.Go(func() {
			had := false
			for range 200 {
				fetch, err := set.For("fetch")
				if err != nil || float64(fetch.MaxAttempts) != fetch.ExponentialBase || fetch.Breaker != breaker {
					t.Errorf("%+v: %v", fetch, err)
					return
				}
				err = retry.Do(t.Context(), fetch, func(context.Context) error {
					_, err := set.For("load")
					if had && err != nil {
						return retry.Permanent(err)
					}
					had = err == nil
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
}
