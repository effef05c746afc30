// Package hedge sends a second request when the first takes longer than most do.
//
// It is the backup request of Dean and Barroso (The Tail at Scale, 2013): cheap against stragglers, and harmful
// against overload, so it has a budget of its own.
package hedge

import (
	"context"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// A Hedger knows how long the answers of one server take. It is safe for concurrent use.
type Hedger struct {
	Percentile float64       // of the latencies, beyond which a request is slow; 0..1
	Min        time.Duration // the least time to wait for a response before a second request
	Ratio      float64       // of second requests to first ones

	mu     sync.Mutex
	recent [window]time.Duration // a ring
	seen   int
	delay  time.Duration // that recent gives; 0: too little is known
	tokens float64       // second requests that may be sent
}

const (
	window         = 256 // latencies that are remembered
	minSamples     = 20  // latencies that a percentile needs
	recomputeEvery = 16  // latencies after which the percentile is recomputed
	maxTokens      = 10  // tokens that can be saved up
)

// Do calls send, and once more if it is slow and the budget allows. It returns the response that came first and is good,
// or if none is, the last; what the other brings is discarded. Each call of send gets a context of its own.
func (h *Hedger) Do(ctx context.Context, send func(context.Context) (*http.Response, error), discard func(io.ReadCloser)) (*http.Response, error) {
	start := time.Now()
	delay := h.begin()
	if delay == 0 {
		res, err := send(ctx)
		h.learn(time.Since(start), err)
		return res, err
	}
	r := race{send: send, discard: discard, results: make(chan result, 2)}
	r.launch(ctx, 0)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	var won result
	select {
	case won = <-r.results:
		r.running--
	case <-timer.C:
		if h.withdraw() {
			r.launch(ctx, 1)
		}
		won = r.best()
	}
	h.learn(time.Since(start), won.err)
	r.cancelLoser(won)
	if won.err != nil {
		r.cancel[won.lane]()
		return nil, won.err
	}
	if won.res.Body == nil || won.res.Body == http.NoBody { // callers compare it
		r.cancel[won.lane]()
		return won.res, nil
	}
	won.res.Body = &owned{ReadCloser: won.res.Body, cancel: r.cancel[won.lane]}
	return won.res, nil
}

// begin pays a request's share into the budget, and returns how long to wait for its response; 0 is for ever.
func (h *Hedger) begin() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tokens = min(h.tokens+h.Ratio, maxTokens)
	if h.delay == 0 {
		return 0
	}
	return max(h.delay, h.Min)
}

func (h *Hedger) withdraw() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tokens < 1 {
		return false
	}
	h.tokens--
	return true
}

// learn remembers a latency. That of a failure says nothing.
func (h *Hedger) learn(took time.Duration, err error) {
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.recent[h.seen%window] = max(took, 1)
	h.seen++
	if h.seen < minSamples || h.seen%recomputeEvery != 0 && h.delay != 0 {
		return
	}
	known := slices.Sorted(slices.Values(h.recent[:min(h.seen, window)]))
	h.delay = known[min(int(h.Percentile*float64(len(known))), len(known)-1)]
}

// A race is two requests for one response.
type race struct {
	send    func(context.Context) (*http.Response, error)
	discard func(io.ReadCloser)
	results chan result
	running int
	cancel  [2]context.CancelFunc
}

type result struct {
	lane int
	res  *http.Response
	err  error
}

func (r result) good() bool {
	return r.err == nil && r.res.StatusCode < 500 && r.res.StatusCode != http.StatusTooManyRequests
}

// launch starts a request.
func (r *race) launch(ctx context.Context, lane int) {
	ctx, r.cancel[lane] = context.WithCancel(ctx)
	r.running++
	go func() {
		res, err := r.send(ctx) //nolint:bodyclose // drop does, or the caller of Do
		r.results <- result{lane, res, err}
	}()
}

// best returns the first good result, or the last one.
func (r *race) best() result {
	for {
		won := <-r.results
		r.running--
		if won.good() || r.running == 0 {
			return won
		}
		r.discardResult(won)
	}
}

// discardResult gives up what a lane has brought.
func (r *race) discardResult(lost result) {
	if lost.err == nil && lost.res.Body != nil {
		r.discard(lost.res.Body)
	}
	r.cancel[lost.lane]()
}

// cancelLoser cancels the request that is still under way, and discards what it brings all the same.
func (r *race) cancelLoser(won result) {
	if r.running == 0 {
		return
	}
	r.cancel[1-won.lane]()
	go func() { r.discardResult(<-r.results) }()
}

// An owned body ends the context that its response was had with.
type owned struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close closes the body, then ends its context.
func (b *owned) Close() error {
	err := b.ReadCloser.Close()
	b.cancel()
	return err
}
