package tree

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
)

// A catalogue is a place with so many keys, of which none can be fetched.
type catalogue struct {
	endpoint.Endpoint

	keys   int
	before func() // called before the first key, if not nil
}

func (c catalogue) Connect(context.Context, *endpoint.Session, endpoint.Role) error { return nil }
func (c catalogue) String() string                                                  { return "catalogue" }

func (c catalogue) Where() string                          { return "catalogue" }
func (c catalogue) Key() string                            { return "" }
func (c catalogue) Join(string) (endpoint.Endpoint, error) { return c, nil }

func (c catalogue) List(context.Context) iter.Seq2[endpoint.Item, error] {
	return func(yield func(endpoint.Item, error) bool) {
		if c.before != nil {
			c.before()
		}
		for i := range c.keys {
			if !yield(endpoint.Item{Rel: fmt.Sprintf("%09d//x", i), Size: 1}, nil) {
				return
			}
		}
	}
}

// A listing that takes long is shown while it lasts, whether or not there is something to copy.
func TestListingIsShown(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "z"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, up := range []bool{true, false} {
		var mu sync.Mutex
		var shown, most int64 // guarded by mu
		ctx, enough := context.WithCancel(t.Context())
		place := endpoint.Tree{Dir: dir, From: catalogue{keys: 10_000}}
		if up {
			place.From, place.To = nil, place.From
		}
		job := &Job{
			Tree: place, Session: &endpoint.Session{},
			Progress: func(p Progress) {
				mu.Lock()
				defer mu.Unlock()
				if p.Listing && p.Keys > 0 {
					shown++
					most = max(most, p.Keys)
				}
				if p.Keys > 9000 && up { // it is no place to copy to
					enough()
				}
			},
		}
		_, _ = job.Run(ctx) // nothing can be copied
		enough()
		if shown < 9 || most < 9000 {
			t.Errorf("up %v: it is shown %d times, up to %d keys; want 9 times at least, up to 9000", up, shown, most)
		}
	}
}

// A listing is shown while it has found no key, too.
func TestListingWithoutKeysIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shown atomic.Int64
		job := &Job{
			Tree: endpoint.Tree{Dir: t.TempDir(), From: catalogue{keys: 1, before: func() { <-time.After(time.Minute) }}}, Session: &endpoint.Session{},
			Progress: func(p Progress) {
				if p.Listing && p.Keys == 0 {
					shown.Add(1)
				}
			},
		}
		_, _ = job.Run(t.Context()) // the key cannot be a file
		if n := shown.Load(); n < 59 {
			t.Errorf("it is shown %d times within a minute, want once a second", n)
		}
	})
}
