package httpretry_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// One transport for many goroutines, on a server that cuts and refuses, with everything switched on.
func TestManyAtOnce(t *testing.T) {
	defer checkLeaks(t)
	seed := testseed.Of(t, 1)
	random := rand.New(rand.NewPCG(seed, 4))
	resource := httptestfault.Resource{Body: randomBody(random, 5000), ETag: `"1"`}
	c := cutter{random: random, versions: []httptestfault.Resource{resource}, refuse: 0.1}
	server := httptestfault.New(c.script)
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	transport := httpretry.NewTransport(base, httpretry.Options{
		Policy: stubborn(), OnResume: func(httpretry.Resumption) {}, AttemptHeader: "X-Attempt",
		Breakers: &circuit.Config{FailureThreshold: 1000, Observe: func(context.Context, circuit.Transition) {}},
		Hedge:    &httpretry.Hedge{Percentile: 0.5, Min: time.Microsecond, Ratio: 1},
	})
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() {
			for range 10 {
				if got, _, err := download(t, transport, server.URL); err != nil || !bytes.Equal(got, resource.Body) {
					t.Errorf("seed %d: %d of %d bytes, %v", seed, len(got), len(resource.Body), err)
				}
			}
		})
	}
	clients.Wait()
}

// The body that the server finally accepts is complete, after every fault and with every kind of reader.
func TestRandomUploads(t *testing.T) {
	uploads := 300
	if testing.Short() {
		uploads = 60
	}
	defer checkLeaks(t)
	seed := testseed.Of(t, 1)
	random := rand.New(rand.NewPCG(seed, 5))
	dir := t.TempDir()
	for n := range uploads {
		body := randomBody(random, random.IntN(300_000))
		var mu sync.Mutex
		server := httptestfault.New(func(int, *http.Request) httptestfault.Response {
			mu.Lock()
			defer mu.Unlock()
			step := []httptestfault.Response{
				ok, status(503),
				{Status: 503, Unread: true},
				{Fault: httptestfault.Reset()},
				httptestfault.Response{Unread: true}.With(httptestfault.Hangup()),
			}[random.IntN(5)]
			return step
		})
		base := server.Transport()
		base.ExpectContinueTimeout = time.Minute
		options := httpretry.Options{Policy: stubborn(), BufferLimit: 50_000}
		r := row{method: "PUT", upload: func() io.Reader { return reader(t, dir, n, body) }}
		if n%5 == 4 {
			r.header = http.Header{"Expect": {"100-continue"}}
		}
		res, got, err := r.do(t, server.URL, httpretry.NewTransport(base, options))
		requests := server.Requests()
		if err != nil || got != "fine" {
			t.Errorf("seed %d, upload %d: %v, %q, %v", seed, n, res, got, err)
		} else if last := requests[len(requests)-1]; !bytes.Equal(last.Body, body) {
			t.Errorf("seed %d, upload %d: the server took %d of %d bytes", seed, n, len(last.Body), len(body))
		}
		base.CloseIdleConnections()
		server.Close()
	}
}

// reader returns the body as one of the kinds of reader that a request may have.
func reader(t *testing.T, dir string, n int, body []byte) io.Reader {
	t.Helper()
	switch n % 4 {
	case 0:
		return bytes.NewReader(body) // with GetBody
	case 1: // with Seek
		name := filepath.Join(dir, fmt.Sprint(n))
		if err := os.WriteFile(name, body, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		return file
	case 2:
		return io.MultiReader(bytes.NewReader(body)) // neither
	default: // neither, and it comes as it is made
		read, write := io.Pipe()
		go func() {
			_, err := io.Copy(write, struct{ io.Reader }{bytes.NewReader(body)})
			write.CloseWithError(err)
		}()
		return read
	}
}
