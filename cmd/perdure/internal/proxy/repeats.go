package proxy

import (
	"hash/maphash"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// repeats recognizes a request that a client sends again after the proxy's own attempts: attempts multiply.
type repeats struct {
	within time.Duration // how long a failure is remembered
	seed   maphash.Seed

	mu     sync.Mutex
	failed map[uint64]time.Time // by the hash of a request
	warned time.Time            // of the last warning
}

const (
	maxFailed = 4096        // failures remembered; beyond that all are forgotten
	warnEvery = time.Minute // the shortest time between two warnings
)

// hash returns the hash of a request without its body.
func (s *repeats) hash(r *http.Request) uint64 {
	var h maphash.Hash
	h.SetSeed(s.seed)
	for _, part := range []string{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, r.Header.Get("Idempotency-Key"), r.Header.Get("Range"), r.Header.Get("Amz-Sdk-Invocation-Id")} {
		_, _ = io.WriteString(&h, part+"\x00") // a hash never fails
	}
	return h.Sum64()
}

// fail remembers that r has failed.
func (s *repeats) fail(r *http.Request) {
	at := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.failed) >= maxFailed {
		clear(s.failed)
	}
	if s.failed == nil {
		s.failed = make(map[uint64]time.Time)
	}
	s.failed[s.hash(r)] = at
}

// is reports whether a client sends r again, and whether a warning is due. The AWS SDKs number their attempts; of other
// clients it is the same request shortly after its failure.
func (s *repeats) is(r *http.Request) (repeated, warn bool) {
	for field := range strings.SplitSeq(r.Header.Get("Amz-Sdk-Request"), ";") {
		if n, ok := strings.CutPrefix(strings.TrimSpace(field), "attempt="); ok && n != "1" {
			repeated = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.failed) > 0 && !repeated {
		at, known := s.failed[s.hash(r)]
		repeated = known && time.Since(at) < s.within
	}
	if repeated && time.Since(s.warned) >= warnEvery {
		s.warned, warn = time.Now(), true
	}
	return repeated, warn
}

// noteRepeat counts and logs a request that its client repeats.
func (p *Proxy) noteRepeat(r *http.Request) {
	repeated, warn := p.repeats.is(r)
	if !repeated {
		return
	}
	p.counts.repeats.Add(1)
	if warn {
		p.config.Log.Warn("A client repeats requests that the proxy has repeated already: set the client's own attempts to one",
			"event", "client_retry", "method", r.Method)
	}
}
