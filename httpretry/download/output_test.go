package download_test

import (
	"errors"
	"net/http"
	"sync"
	"testing"

	"github.com/seed-0f2c7998/perdure/httpretry/download"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

// A full disk ends all requests, and is the error.
func TestFetchToAFullDisk(t *testing.T) {
	server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Step { return entity(content(10*part, 1), `"1"`).Answer(r) })
	defer server.Close()
	c := client(server)
	defer c.CloseIdleConnections()
	full := errors.New("no space left on device")
	var state download.State
	err := download.Fetch(request(t, server), disk{left: 5 * part, full: full}.new(), &state, download.FetchOptions{Client: c, PartSize: part})
	if !errors.Is(err, full) || state.Bytes() > 5*part {
		t.Errorf("%v with %d bytes in the state; want %v", err, state.Bytes(), full)
	}
}

type disk struct {
	mu   *sync.Mutex
	left int
	full error
}

func (d disk) new() *disk { d.mu = new(sync.Mutex); return &d }

func (d *disk) WriteAt(p []byte, _ int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left -= len(p); d.left < 0 {
		return 0, d.full
	}
	return len(p), nil
}
