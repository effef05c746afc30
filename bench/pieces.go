package main

import (
	"context"
	"time"

	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"

	ourfallback "github.com/seed-0f2c7998/perdure/fallback"
	"github.com/seed-0f2c7998/perdure/hedge"
)

// late is the delay of a hedge, which no call of the rows reaches.
const late = time.Minute

func perdureHedge(f call) call {
	h := &hedge.Hedge[struct{}]{After: late}
	return func(ctx context.Context) error { return hedge.Do(ctx, h, f) }
}

func perdureHedgeLate(f call) call {
	h := &hedge.Hedge[struct{}]{Percentile: 0.95, After: late, Min: late}
	return func(ctx context.Context) error { return hedge.Do(ctx, h, f) }
}

func failsafeHedge(f call) call { return failsafeDo(f, hedgepolicy.NewWithDelay[any](late)) }

func perdureFallback(f call) call {
	p := &ourfallback.Policy{On: func(error) bool { return true }, Observe: func(context.Context, ourfallback.Event) {}}
	instead := func(context.Context, error) error { return nil }
	return func(ctx context.Context) error { return ourfallback.Do(ctx, p, f, instead) }
}

func failsafeFallback(f call) call { return failsafeDo(f, fallback.NewWithResult[any](nil)) }
