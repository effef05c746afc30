package retry

import (
	"time"

	"github.com/seed-0f2c7998/perdure/internal/meter"
	"github.com/seed-0f2c7998/perdure/internal/seam"
)

// series returns what counts the operations of p; nil if nothing does.
func (p *Policy) series() *meter.Series {
	return meter.For(p.Metrics, p, p.Name, p.Breaker)
}

// countFirstTry counts an operation whose first attempt succeeded. It is inlined: without
// Metrics it is one comparison, as long as addFirstTry is not inlined too.
func (p *Policy) countFirstTry() {
	if p.Metrics != nil {
		p.addFirstTry()
	}
}

//go:noinline
func (p *Policy) addFirstTry() { p.series().FirstTry(p.Breaker) }

// countSuccess counts an operation whose last attempt succeeded.
func (c *call) countSuccess() {
	switch {
	case c.series == nil:
	case c.attempt == 1:
		c.series.FirstTry(c.policy.Breaker)
	default:
		c.series.Attempt(c.policy.Breaker, c.attempt, meter.Success)
		c.series.Succeeded(c.attempt)
	}
}

// countFailure counts a failed attempt, and what becomes of the wait that the server asked for.
func (c *call) countFailure(o *Outcome, d *Decision) {
	if c.series == nil {
		return
	}
	c.failed = o.Now
	c.series.Attempt(c.policy.Breaker, c.attempt, int(o.Class))
	if o.Hint <= 0 {
		return
	}
	c.series.Hint(meter.HintAsked, o.Hint)
	switch {
	case d.Reason == ReasonRetryLater:
		c.series.Hint(meter.HintRefused, o.Hint)
	case d.Stop == nil && d.Delay >= o.Hint:
		c.series.Hint(meter.HintObeyed, o.Hint)
	}
}

// countBackoff counts the wait since the last attempt.
func (c *call) countBackoff() {
	if c.series != nil {
		c.series.Waited(seam.Backoff, time.Since(c.failed))
	}
}

// countEnd counts an operation that ends without a success.
func (c *call) countEnd(r Reason) {
	if c.series != nil {
		c.series.Stopped(c.attempt, uint8(r), c.attempt == 0 && (r == ReasonBreakerOpen || r == ReasonLimit))
	}
}

// GaveUp counts an operation that the adapter ends after a failed attempt.
func (c *call) GaveUp() { c.countEnd(ReasonPermanent) }

// countPanic counts an operation that a retry has ended by a panic. A panic in the first
// attempt is not counted.
func (c *call) countPanic() {
	if c.series != nil && c.attempt > 1 {
		c.series.Attempt(c.policy.Breaker, c.attempt, int(ClassUnknown))
		c.countEnd(0)
	}
}
