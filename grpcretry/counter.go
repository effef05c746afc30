package grpcretry

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/stats"
)

// A Counter is a [stats.Handler] that counts the attempts of an [Interceptor] and those
// that gRPC makes within them. Set it as [Options.Counter]; beside an interceptor alone,
// also pass it to [grpc.WithStatsHandler]. The zero Counter is ready for use. It is safe
// for concurrent use.
//
// At the first attempt that a retryPolicy makes within an attempt of the Interceptor,
// the Counter logs a warning to slog.Default(): the attempts multiply.
type Counter struct {
	attempts, inner, transparent atomic.Uint64
	warn                         sync.Once
}

// Counts are the attempts that a [Counter] has counted.
type Counts struct {
	Attempts    uint64 // by the Interceptor, hedges included
	Inner       uint64 // by the retryPolicy of a service config, within those attempts
	Transparent uint64 // by gRPC, after a call that no server processed; these are not in Attempts
}

// Counts returns the counts until now.
func (c *Counter) Counts() Counts {
	return Counts{c.attempts.Load(), c.inner.Load(), c.transparent.Load()}
}

type tagKey struct{}

// A tag follows the attempts that gRPC makes within one attempt of an Interceptor.
type tag struct {
	attempts atomic.Int64
	unsent   atomic.Bool // the last attempt is transparent, and has not been sent
}

// tag returns ctx for a new attempt.
func (c *Counter) tag(ctx context.Context) context.Context {
	if c == nil {
		return ctx
	}
	return context.WithValue(ctx, tagKey{}, new(tag))
}

// TagRPC returns ctx.
func (*Counter) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC counts an attempt that begins.
func (c *Counter) HandleRPC(ctx context.Context, s stats.RPCStats) {
	t, _ := ctx.Value(tagKey{}).(*tag) // nil if the call has no Interceptor
	switch s := s.(type) {
	case *stats.OutHeader:
		if t != nil {
			t.unsent.Store(false)
		}
	case *stats.Begin:
		c.begin(ctx, t, s.IsTransparentRetryAttempt)
	}
}

func (c *Counter) begin(ctx context.Context, t *tag, transparent bool) {
	switch {
	case transparent:
		c.transparent.Add(1)
		if t != nil {
			t.unsent.Store(true)
		}
	case t == nil:
		c.attempts.Add(1)
	case t.unsent.Swap(false): // gRPC replaces a transparent attempt by one that it does not call so
	case t.attempts.Add(1) == 1:
		c.attempts.Add(1)
	default:
		c.inner.Add(1)
		c.warn.Do(func() {
			slog.WarnContext(ctx, "grpcretry: attempts multiply: a service config also retries; use grpcretry.DialOptions or grpc.WithDisableRetry")
		})
	}
}

// TagConn returns ctx.
func (*Counter) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (*Counter) HandleConn(context.Context, stats.ConnStats) {}
