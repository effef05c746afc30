// Package fallback replaces the result of a failed call by another value: from a cache, a default, a second service.
//
//	stations, err := fallback.Value(ctx, nil, fetch, func(ctx context.Context, err error) ([]Station, error) {
//		return cache.Last(), nil
//	})
//
// where fetch is usually a function that calls [retry.Value]. A [Policy] says which errors are replaced, and observes
// each replacement; [Replaced] also returns the error that a value replaces, so that its user can be told that it is old.
package fallback

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/meter"
	"github.com/seed-0f2c7998/perdure/internal/notify"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Policy configures which errors are replaced. A Policy is plain data, and the zero Policy is ready for use. One Policy
// serves any number of goroutines at once; do not change it after its first use.
type Policy struct {
	// Name is the name of the operation in events and errors; "" means "operation".
	Name string
	// On reports whether an error is replaced. If nil, [IsFailure] decides. It is called on the caller's goroutine.
	On func(error) bool
	// Observe receives each replacement, after the fallback has returned. It is called on the caller's goroutine, under no
	// lock, so by several goroutines at once if the Policy serves several. A panic in Observe is logged and changes
	// nothing else. If nil, slog.Default() logs a replacement at WARN, and at DEBUG if the replaced error is the refusal
	// of a breaker or limit, of which an outage has thousands.
	Observe func(context.Context, Event)
	// Metrics counts the replacements, as perdure_fallbacks_total of the operation Name: it is a *metrics.Registry of package
	// metrics. If Metrics is nil, or a nil Registry, nothing is counted.
	Metrics retry.Meter
}

// An Event reports that an error was replaced, or that the fallback failed too.
type Event struct {
	Operation string // name of the Policy, without secrets
	Replaced  error  // the error of the call, printed without secrets; unwraps to the error that the call returned
	Err       error  // the error of the fallback, printed without secrets; nil means that the fallback succeeded
}

// An Error reports that a call and its fallback have failed. [errors.Is] and [errors.As] search Err, then Replaced.
type Error struct {
	Operation string // name of the Policy
	Replaced  error  // the error of the call
	Err       error  // the error of the fallback
}

// Error returns both errors, without the secrets in URLs.
func (e *Error) Error() string {
	return redact.Line(redact.Message(fmt.Sprintf("%s: fallback failed: %v (after: %v)", e.Operation, e.Err, e.Replaced)))
}

// Unwrap returns Err and Replaced.
func (e *Error) Unwrap() []error { return []error{e.Err, e.Replaced} }

// Value calls f. If f fails with an error that p replaces, Value calls instead with that error, and returns its value. If
// p is nil, the zero Policy is used.
//
// If f fails with an error that p does not replace, Value returns the value and the error of f, unchanged. If instead
// fails, Value returns its value and an [*Error] that holds both errors, or the error of instead, unchanged, if it wraps
// the error of f: so instead can decline.
//
// Value calls f and instead on the caller's goroutine, with ctx, which may have reached its deadline when instead is
// called. A panic passes through.
func Value[T any](ctx context.Context, p *Policy, f func(context.Context) (T, error),
	instead func(context.Context, error) (T, error),
) (T, error) {
	v, err := f(ctx)
	if err == nil {
		return v, nil
	}
	v, _, err = replace(ctx, p, v, err, instead)
	return v, err
}

// Replaced is [Value] for callers that must know whether the value is that of f: it also returns the error of f that the
// value replaces, and nil if the value is that of f.
func Replaced[T any](ctx context.Context, p *Policy, f func(context.Context) (T, error),
	instead func(context.Context, error) (T, error),
) (v T, replaced, err error) {
	v, err = f(ctx)
	if err == nil {
		return v, nil, nil
	}
	return replace(ctx, p, v, err, instead)
}

// Do is [Value] for functions that return no value.
func Do(ctx context.Context, p *Policy, f func(context.Context) error, instead func(context.Context, error) error) error {
	err := f(ctx)
	if err == nil {
		return nil
	}
	_, _, err = replace(ctx, p, struct{}{}, err, func(ctx context.Context, err error) (struct{}, error) {
		return struct{}{}, instead(ctx, err)
	})
	return err
}

func replace[T any](ctx context.Context, p *Policy, v T, err error, instead func(context.Context, error) (T, error)) (T, error, error) {
	if p == nil {
		p = new(Policy)
	}
	on := p.On
	if on == nil {
		on = IsFailure
	}
	if !on(err) {
		return v, nil, err
	}
	v, failed := instead(ctx, err)
	name := cmp.Or(p.Name, "operation")
	p.count(name, failed)
	p.report(ctx, Event{Operation: redact.String(name), Replaced: redact.Error(err), Err: redact.Error(failed)})
	switch {
	case failed == nil:
		return v, err, nil
	case errors.Is(failed, err):
		return v, nil, failed
	default:
		return v, nil, &Error{Operation: name, Replaced: err, Err: failed}
	}
}

func (p *Policy) count(name string, failed error) {
	if series := meter.For(p.Metrics, p, name, nil); series == nil {
		return
	} else if failed == nil {
		series.FallbacksUsed.Add(1)
	} else {
		series.FallbacksFailed.Add(1)
	}
}

func (p *Policy) report(ctx context.Context, e Event) {
	if p.Observe != nil {
		notify.Call(ctx, "fallback: Policy.Observe", p.Observe, e)
		return
	}
	level, text := slog.LevelWarn, "Fallback of "+redact.Line(e.Operation)
	if isRefusal(e.Replaced) && e.Err == nil {
		level = slog.LevelDebug
	}
	if logger := slog.Default(); logger.Enabled(ctx, level) {
		attrs := []slog.Attr{slog.String("operation", e.Operation), slog.String("replaced", e.Replaced.Error())}
		if e.Err != nil {
			attrs, text = append(attrs, slog.String("error", e.Err.Error())), text+" failed"
		}
		logger.LogAttrs(ctx, level, text, attrs...)
	}
}

// IsFailure is the rule of a Policy without On. It reports whether err means that a service is not available:
//   - a [*retry.Error], unless it ended with a permanent error or because the caller cancelled it;
//   - the refusal of a circuit breaker, gate or limit;
//   - an error of a call that was not retried, and that a zero [retry.Policy] would have retried;
//   - the end of the caller's deadline, but not [context.Canceled].
//
// Errors that tell of the request (a status of 404, a failed validation) and errors that no rule knows are not replaced.
func IsFailure(err error) bool {
	if given, ok := errors.AsType[*retry.Error](err); ok {
		switch given.Reason {
		case retry.ReasonNested:
			return IsFailure(given.Last)
		case retry.ReasonPermanent, retry.ReasonCancelled:
			return false
		default:
			return true
		}
	}
	if isRefusal(err) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	class, _ := new(retry.Policy).ClassOf(err)
	return class == retry.ClassTransient || class == retry.ClassThrottled || class == retry.ClassConflict
}

// isRefusal reports whether no call was made, because of the state that calls share.
func isRefusal(err error) bool {
	if given, ok := errors.AsType[*retry.Error](err); ok && given.Attempts > 0 {
		return false
	}
	if _, ok := errors.AsType[*circuit.OpenError](err); ok {
		return true
	}
	_, ok := errors.AsType[*circuit.LimitError](err)
	return ok
}
