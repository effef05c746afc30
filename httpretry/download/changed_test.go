package download_test

import (
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry/download"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

func TestFetchOfAnotherEntity(t *testing.T) {
	first, second := content(10*part, 1), content(8*part, 2)
	now := entity(first, `"1"`)
	var mu sync.Mutex
	change := 0 // answers until the entity changes
	server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Step {
		mu.Lock()
		defer mu.Unlock()
		if change--; change == 0 {
			now = entity(second, `"2"`)
		}
		step := now.Answer(r)
		if change > 0 {
			step.Slice, step.Gap = part/4, time.Millisecond // so that others get a turn
		}
		return step
	})
	defer server.Close()
	c := client(server)
	defer c.CloseIdleConnections()
	file := newFile(t)
	var state download.State
	change = 3 // within the first run
	err := download.Fetch(request(t, server), file, &state, download.FetchOptions{Client: c, PartSize: part})
	if !errors.Is(err, download.ErrChanged) || state.ETag != `"1"` {
		t.Fatalf("%v, state of %s; want ErrChanged, and the old state", err, state.ETag)
	}
	state = later(t, state)
	if err := download.Fetch(request(t, server), file, &state, download.FetchOptions{Client: c, PartSize: part}); err != nil || state.ETag != `"2"` {
		t.Fatalf("second run: %v, state of %s", err, state.ETag)
	}
	if err := file.Truncate(state.Size); err != nil || !holds(t, file, second) {
		t.Errorf("not the second entity (%v)", err)
	}
	before := len(server.Requests())
	if err := download.Fetch(request(t, server), file, &state, download.FetchOptions{Client: c}); err != nil || len(server.Requests()) != before {
		t.Errorf("a complete state: %v and %d requests; want none", err, len(server.Requests())-before)
	}
}

// A server that does not know If-Range, and has a shorter entity now, can't send the rest of the old one: used to be a
// 416 in every run.
func TestFetchOfAShorterEntity(t *testing.T) {
	now := content(3*part, 2)
	server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Step {
		r.Header.Del("If-Range")
		return entity(now, `"2"`).Answer(r)
	})
	defer server.Close()
	c := client(server)
	defer c.CloseIdleConnections()
	file := newFile(t)
	state := download.State{ETag: `"1"`, Size: 10 * part, Done: []download.Range{{From: 0, To: 5 * part}}}
	err := download.Fetch(request(t, server), file, &state, download.FetchOptions{Client: c, PartSize: part})
	if err != nil || state.ETag != `"2"` || !state.Complete() || !holds(t, file, now) {
		t.Errorf("%v, state %+v; want the present entity", err, state)
	}
}
