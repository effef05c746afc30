package download_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed-0f2c7998/perdure/httpretry/download"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

func TestStatesThatCannotBe(t *testing.T) {
	for _, tt := range []struct{ text, says string }{
		{`{"size":10,"done":[{"from":5,"to":3}]}`, "ranges in order"},
		{`{"size":10,"done":[{"from":0,"to":3},{"from":3,"to":5}]}`, "ranges in order"},
		{`{"size":10,"done":[{"from":0,"to":30}]}`, "size 10"},
		{`{"size":10,"done":[{"from":-1,"to":3}]}`, "ranges in order"},
		{`{"size":10,"etag":"W/\"1\""}`, "strong"},
		{`{"size":"ten"}`, "cannot unmarshal"},
	} {
		var s download.State
		if err := json.Unmarshal([]byte(tt.text), &s); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v; want an error about %q", tt.text, err, tt.says)
		}
	}
}

// The ranges of a state against a naive twin: a set of bytes.
func FuzzState(f *testing.F) {
	f.Add([]byte{0, 3, 3, 6, 10, 12, 5, 11})
	f.Fuzz(func(t *testing.T, data []byte) {
		var have [256]bool
		body := content(256, 1)
		server := httptestfault.NewInMemory(func(_ int, r *http.Request) httptestfault.Step { return entity(body, `"1"`).Answer(r) })
		defer server.Close()
		state := download.State{ETag: `"1"`, Size: 256}
		for ; len(data) >= 2 && len(state.Done) < 20; data = data[2:] {
			from, to := int(min(data[0], data[1])), int(max(data[0], data[1]))
			if from == to || overlaps(state.Done, from, to) {
				continue
			}
			state.Done = append(state.Done, download.Range{From: int64(from), To: int64(to)})
			slices.SortFunc(state.Done, func(a, b download.Range) int { return int(a.From - b.From) })
			for n := from; n < to; n++ {
				have[n] = true
			}
		}
		c := client(server)
		defer c.CloseIdleConnections()
		dst := new(record)
		if err := download.Fetch(request(t, server), dst, &state, download.FetchOptions{Client: c, Parallel: 3}); err != nil {
			t.Fatal(err)
		}
		for n := range have {
			if dst.written[n] == have[n] {
				t.Errorf("byte %d: written %t, had it %t", n, dst.written[n], have[n])
			}
			if dst.written[n] && dst.body[n] != body[n] {
				t.Errorf("byte %d is wrong", n)
			}
		}
		if !state.Complete() {
			t.Errorf("state %+v is not complete", state)
		}
	})
}

// overlaps reports whether a range touches one of the others.
func overlaps(done []download.Range, from, to int) bool {
	return slices.ContainsFunc(done, func(r download.Range) bool { return int64(from) <= r.To && r.From <= int64(to) })
}

type record struct {
	mu      sync.Mutex
	body    [256]byte
	written [256]bool
}

func (r *record) WriteAt(p []byte, at int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := range p {
		r.written[at+int64(n)] = true
	}
	return copy(r.body[at:], p), nil
}
