// Package hedge makes a second attempt when the first takes longer than most do, and returns the result of the one that
// succeeds first.
//
//	var lookups hedge.Hedge[Record] // one for each service and operation: it measures the latencies
//
//	record, err := hedge.Value(ctx, &lookups, func(ctx context.Context) (Record, error) {
//		return lookup(ctx, id)
//	})
//
// These are the hedged requests of Dean and Barroso (The Tail at Scale, 2013): cheap against a replica that is slow, and
// harmful against a service that is overloaded, so they have a budget of their own. Only operations that may run twice at
// once may be hedged.
//
// Put a hedge inside a retry, as the function of [retry.Value]: all attempts of one hedge are then one attempt of the
// retry, and one call for its breaker, and the wait of the hedge is within Policy.AttemptTimeout. For GET requests,
// package httpretry has a Hedge of its own.
package hedge

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/latency"
	"github.com/seed-0f2c7998/perdure/internal/meter"
	"github.com/seed-0f2c7998/perdure/internal/notify"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/retry"
)

// ErrLost is the cause of the context of an attempt that is cancelled because another attempt has won, and of every
// attempt once the call has ended. As the error of another call it is transient (see [retry.Policy.ClassOf]): net/http may
// reuse the connection of the attempt there, and then close it with this error.
var ErrLost error = lostError{}

type lostError struct{}

func (lostError) Error() string        { return "hedge: another attempt has won, or the call has ended" }
func (lostError) RetryableError() bool { return true }

// A Hedge configures when an operation is hedged, and holds its latencies and its budget. The zero Hedge is ready for use:
// a second attempt after the 95th percentile, for at most one call of twenty. A Hedge is safe for concurrent use; do not
// copy it, and do not change its fields, after its first use.
//
// The percentile is that of the last 256 latencies of calls that succeeded, by nearest rank, computed again each 16 calls.
// A call that a hedge has won counts with its whole duration, wait included.
type Hedge[T any] struct {
	// Name is the name of the operation in events; "" means "operation".
	Name string
	// After is a fixed delay before the next attempt. With a Percentile, it is the delay while fewer than 20 latencies are
	// known. 0 means the Percentile, and no hedges while fewer than 20 latencies are known.
	After time.Duration
	// Percentile of the latencies after which the next attempt is made, above 0 and below 1; 0 means 0.95, unless After is
	// set.
	Percentile float64
	// Min is the minimum of a delay that comes from the Percentile; 0 means 10 ms.
	Min time.Duration
	// Ratio is the maximum number of hedges per call, above 0, at most Max; 0 means 0.05. The budget begins with 10 hedges,
	// and holds at most 10.
	Ratio float64
	// Max is the maximum number of hedges of one call, each after another delay, from 1 to 10; 0 means 1.
	Max int

	// Discard receives the value of each attempt that succeeded and did not win, to close what it holds. It is called on
	// the caller's goroutine before [Value] returns. A panic in Discard is logged and changes nothing else. If nil, such
	// values are dropped.
	Discard func(T)
	// Observe receives each event: Sent on the goroutine of the hedge, Won on the caller's. It is called under no lock, so
	// by several goroutines at once. A panic in Observe is logged and changes nothing else. If nil, no event is made.
	Observe func(context.Context, Event)
	// Metrics counts the hedges that are sent and won, as perdure_hedges_total of the operation Name: it is a
	// *metrics.Registry of package metrics. If Metrics is nil, or a nil Registry, nothing is counted.
	Metrics retry.Meter

	once  sync.Once
	wrong error
	meter latency.Meter
}

// A Kind says what an [Event] reports.
type Kind uint8

// The kinds.
const (
	Sent Kind = iota + 1 // a hedge is made, as the attempts before it are slow
	Won                  // a hedge succeeded first: its value is that of the call
)

// String returns sent or won.
func (k Kind) String() string {
	switch k {
	case Sent:
		return "sent"
	case Won:
		return "won"
	default:
		return fmt.Sprintf("Kind(%d)", uint8(k))
	}
}

// An Event reports a hedge.
type Event struct {
	Kind      Kind
	Operation string        // name of the Hedge, without secrets
	Attempt   int           // number of the attempt, from 2; 1 is the first attempt, which is no hedge
	Delay     time.Duration // the delay before each hedge of the call
}

// Validate returns a [*retry.ConfigError] that names a field, its value and what is allowed, or nil.
func (h *Hedge[T]) Validate() error {
	switch {
	case h.After < 0:
		return setting.Bad("After", h.After.String(), "positive, or 0 for the percentile")
	case !(h.Percentile >= 0 && h.Percentile < 1):
		return setting.Bad("Percentile", fmt.Sprint(h.Percentile), "above 0 and below 1, or 0 for 0.95")
	case h.Min < 0:
		return setting.Bad("Min", h.Min.String(), "positive, or 0 for 10ms")
	case h.Max < 0 || h.Max > most:
		return setting.Bad("Max", fmt.Sprint(h.Max), "from 1 to 10, or 0 for 1")
	case !(h.Ratio >= 0 && h.Ratio <= float64(max(h.Max, 1))):
		return setting.Bad("Ratio", fmt.Sprint(h.Ratio), "above 0 and at most Max, or 0 for 0.05")
	}
	return nil
}

const most = 10

// prepare completes the configuration at the first use, and returns what is wrong with it.
func (h *Hedge[T]) prepare() error {
	h.once.Do(func() {
		if h.wrong = h.Validate(); h.wrong != nil {
			return
		}
		h.meter.Percentile = cmp.Or(h.Percentile, 0.95)
		h.meter.Min = cmp.Or(h.Min, 10*time.Millisecond)
		h.meter.Ratio = cmp.Or(h.Ratio, 0.05)
		h.meter.Fill()
	})
	return h.wrong
}

// measures reports whether the delay depends on latencies.
func (h *Hedge[T]) measures() bool { return h.After == 0 || h.Percentile != 0 }

// Do is [Value] for functions that return no value.
func Do(ctx context.Context, h *Hedge[struct{}], f func(context.Context) error) error {
	_, err := Value(ctx, h, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}

// Value calls f, and again while the first call of f is slow, and returns the value of the first call that succeeds. An
// error whose class is permanent (see [retry.Policy.ClassOf]) also ends the call: every attempt would fail so. If h is
// nil, Value calls f once.
//
// No hedge follows once an attempt has ended: a call that fails before its first hedge returns that failure, and is a
// matter of a retry around the hedge. If all attempts fail, Value returns the value and the error of the attempt that
// ended last, unchanged. If h is not valid, Value returns a [*retry.ConfigError].
//
// When an attempt has won, Value cancels the other attempts, with the cause [ErrLost], and waits until they have returned:
// no goroutine outlives the call. So f must return soon after its context ends. The context of f also ends when Value
// returns; a value that needs its context longer, such as the body of a response, must be read within f.
//
// The first call of f is on the caller's goroutine, each hedge on a goroutine of its own, with a child of ctx: if ctx
// ends, f finds its cause by [context.Cause], and no hedge is made. A panic in any of them cancels the others and reaches
// the caller.
func Value[T any](ctx context.Context, h *Hedge[T], f func(context.Context) (T, error)) (T, error) {
	if h == nil {
		return f(ctx)
	}
	if err := h.prepare(); err != nil {
		var zero T
		return zero, err
	}
	delay := h.meter.Begin()
	if !h.measures() {
		return race(ctx, h, h.After, f)
	}
	start := time.Now()
	delay = cmp.Or(delay, h.After)
	var v T
	var err error
	if delay == 0 {
		v, err = f(ctx)
	} else {
		v, err = race(ctx, h, delay, f)
	}
	if err == nil {
		h.meter.Learn(time.Since(start))
	}
	return v, err
}

// decides reports whether the result of an attempt with err ends the call.
func decides(err error) bool {
	if err == nil {
		return true
	}
	class, _ := new(retry.Policy).ClassOf(err)
	return class == retry.ClassPermanent
}

func (h *Hedge[T]) report(ctx context.Context, kind Kind, attempt int, delay time.Duration) {
	name := cmp.Or(h.Name, "operation")
	if series := meter.For(h.Metrics, h, name, nil); series != nil && kind == Sent {
		series.Hedges.Add(1)
	} else if series != nil {
		series.HedgesWon.Add(1)
	}
	if h.Observe == nil {
		return
	}
	notify.Call(ctx, "hedge: Hedge.Observe", h.Observe, Event{Kind: kind, Operation: redact.String(name), Attempt: attempt, Delay: delay})
}
