package redisstore_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// A backend is a real server that can be down, and counts the calls.
type backend struct {
	*httptest.Server

	down      atomic.Bool
	succeeded [4]atomic.Int64

	mu     sync.Mutex
	probes []time.Time // before each call that was admitted while it was down
}

func startBackend(t *testing.T) *backend {
	t.Helper()
	s := &backend{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, err := strconv.Atoi(r.URL.Path[1:])
		if err != nil || host >= len(s.succeeded) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if s.down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		s.succeeded[host].Add(1)
	}))
	t.Cleanup(s.Close)
	return s
}

// call sends one request of host through b.
func (s *backend) call(ctx context.Context, b *circuit.Breaker, host int) {
	before := time.Now()
	p, err := b.Acquire()
	if err != nil {
		return
	}
	if s.down.Load() {
		s.mu.Lock()
		s.probes = append(s.probes, before)
		s.mu.Unlock()
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/"+strconv.Itoa(host), nil)
	if err != nil {
		p.Cancel()
		return
	}
	res, err := s.Client().Do(r)
	switch {
	case ctx.Err() != nil:
		p.Cancel()
	case err != nil || res.StatusCode != http.StatusOK:
		p.Failure()
	default:
		p.Success()
	}
	if err == nil {
		_ = res.Body.Close()
	}
}

// Four hosts with a gate share an outage: one of them sends the probes, the others a
// quarter as many. The first success opens the gates of all.
func TestGatesShareAnOutage(t *testing.T) {
	srv, s := startServer(t), startBackend(t)
	f := fleet(t, 4, redisstore.Options{URL: srv.url(), Stale: patience}, circuit.Config{Gate: circuit.Wait})
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	for i, m := range f {
		work.Go(func() {
			n := 0
			servertest.Repeat(ctx, func() {
				if n++; n%10 == 0 { // the probes are a part of the demand
					s.call(ctx, m.Breaker, i)
				}
			})
		})
	}
	is := func(want circuit.State) func() bool {
		return func() bool {
			return !slices.ContainsFunc(f, func(m member) bool { st, _ := m.Status("backend"); return st.State != want })
		}
	}
	probesSince := func(instant time.Time) (n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, at := range s.probes {
			if !at.Before(instant) {
				n++
			}
		}
		return n
	}
	eventually(t, func() bool { return s.succeeded[3].Load() > 20 }, "calls succeed")
	for range 2 {
		s.down.Store(true)
		eventually(t, is(circuit.Open), "the votes of gates open the fleet")
		eventually(t, func() bool { st, _ := f[0].Status("backend"); return st.Holder != "" }, "one host sends the probes")
		began := time.Now()
		eventually(t, func() bool { return probesSince(began) >= 12 }, "probes are sent")
		// The host with the lease sends a probe each quarter of a second at most, the others
		// each second at most: at least 1.14 s for 12. Alone, each host would send as many as
		// the first, and they need half a second.
		took := time.Since(began)
		t.Logf("%d probes of four hosts in %v", probesSince(began), took)
		if took < 1100*time.Millisecond {
			t.Errorf("four hosts have sent 12 probes in %v, want those of one host and a quarter of the others'", took)
		}
		s.down.Store(false)
		succeeded := [4]int64{}
		for i := range succeeded {
			succeeded[i] = s.succeeded[i].Load()
		}
		eventually(t, is(circuit.Closed), "the first success closes the fleet")
		for i, m := range f {
			eventually(t, func() bool { return m.State() == circuit.Closed && s.succeeded[i].Load() > succeeded[i] }, "host %d has recovered", i)
		}
	}
}
