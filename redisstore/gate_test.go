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

// A backend is a real server that can be down, and counts what each host sends.
type backend struct {
	*httptest.Server

	down     atomic.Bool
	failed   [4]atomic.Int64
	answered [4]atomic.Int64
}

func startBackend(t *testing.T) *backend {
	t.Helper()
	s := &backend{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, err := strconv.Atoi(r.URL.Path[1:])
		if err != nil || host >= len(s.failed) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if s.down.Load() {
			s.failed[host].Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		s.answered[host].Add(1)
	}))
	t.Cleanup(s.Close)
	return s
}

// call makes one request of host by b.
func (s *backend) call(ctx context.Context, b *circuit.Breaker, host int) {
	p, err := b.Acquire()
	if err != nil {
		return
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

// Four hosts with a gate each share one fact of an outage: one of them sends the
// probes, the others a quarter as many. All are back by the first success.
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
	failed := func() (n int64) {
		for i := range s.failed {
			n += s.failed[i].Load()
		}
		return n
	}
	eventually(t, func() bool { return s.answered[3].Load() > 20 }, "all is well")
	for range 2 {
		s.down.Store(true)
		eventually(t, is(circuit.Open), "the fleet finds that nothing gets through")
		eventually(t, func() bool { st, _ := f[0].Status("backend"); return st.Holder != "" }, "one host sends the probes")
		before, began := failed(), time.Now()
		eventually(t, func() bool { return failed() >= before+12 }, "probes are sent")
		// The host with the lease sends one each quarter of a second or more, the others
		// each second or more. By itself, each would send them as the first does.
		took := time.Since(began)
		t.Logf("%d probes of four hosts in %v", failed()-before, took)
		if took < 2*time.Second {
			t.Errorf("four hosts have sent 12 probes in %v, want those of one and a quarter of the others'", took)
		}
		s.down.Store(false)
		answered := [4]int64{}
		for i := range answered {
			answered[i] = s.answered[i].Load()
		}
		eventually(t, is(circuit.Closed), "the first success closes the fleet")
		for i, m := range f {
			eventually(t, func() bool { return m.State() == circuit.Closed && s.answered[i].Load() > answered[i] }, "host %d is back", i)
		}
	}
}
