// Package hedge sends a second request when the first takes longer than most requests do.
//
// It is the backup request of Dean and Barroso (The Tail at Scale, 2013): cheap against stragglers, and harmful
// against overload, so it has a budget of its own.
package hedge

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/latency"
	"github.com/seed-0f2c7998/perdure/internal/meter"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Hedger measures the latencies of one server, of which it knows its Percentile, Min and Ratio. It is safe for concurrent use.
type Hedger struct{ latency.Meter }

// Do calls send, and a second time if the first call is slow and the budget allows. It returns the first good response, or
// the last response if no response is good, and discards the other. Each call of send gets a context of its own. If counts is not nil, Do counts hedges there.
func (h *Hedger) Do(ctx context.Context, send func(context.Context) (*http.Response, error), discard func(io.ReadCloser), counts *meter.Series) (*http.Response, error) {
	start := time.Now()
	delay := h.Begin()
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
		if h.Withdraw() {
			r.launch(ctx, 1)
			if counts != nil {
				counts.Hedges.Add(1)
			}
		}
		won = r.best()
	}
	h.learn(time.Since(start), won.err)
	r.cancelLoser(won)
	if won.err != nil {
		r.cancel[won.index]()
		return nil, won.err
	}
	if won.index == 1 && counts != nil {
		counts.HedgesWon.Add(1)
	}
	if won.res.Body == nil || won.res.Body == http.NoBody { // callers compare Body with NoBody, so it must not be wrapped
		r.cancel[won.index]()
		return won.res, nil
	}
	won.res.Body = &owned{ReadCloser: won.res.Body, cancel: r.cancel[won.index]}
	return won.res, nil
}

// learn records a latency; the latency of a failure does not count.
func (h *Hedger) learn(took time.Duration, err error) {
	if err == nil {
		h.Learn(took)
	}
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
	index int
	res   *http.Response
	err   error
}

// good reports whether r wins, without a wait for the other response.
func (r result) good() bool {
	return r.err == nil && r.res.StatusCode < 500 && retry.StatusClass(r.res.StatusCode) != retry.ClassThrottled
}

// launch starts a request.
func (r *race) launch(ctx context.Context, index int) {
	ctx, r.cancel[index] = context.WithCancel(ctx)
	r.running++
	go func() {
		res, err := r.send(ctx) //nolint:bodyclose // discardResult closes it, or the caller of Do
		r.results <- result{index, res, err}
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

// discardResult discards a result and ends its context.
func (r *race) discardResult(lost result) {
	if lost.err == nil && lost.res.Body != nil {
		r.discard(lost.res.Body)
	}
	r.cancel[lost.index]()
}

// cancelLoser cancels the request that is still running, and discards its result.
func (r *race) cancelLoser(won result) {
	if r.running == 0 {
		return
	}
	r.cancel[1-won.index]()
	go func() { r.discardResult(<-r.results) }()
}

// An owned body ends the context of its response when it is closed.
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
