package main

import (
	"context"
	"errors"
	"hash/crc32"
	"slices"

	"github.com/seed-0f2c7998/perdure/hoststore"
)

// A call is an operation, and also a library's way to run it.
type call func(context.Context) error

// A library is a column of the table.
type library string

const (
	bareCall  library = "bare call"
	bareAgain library = "bare again" // a second bare call of the same kind: what differs by chance
	perdure   library = "perdure"
	failsafes library = "failsafe-go"
	cenkalti  library = "cenkalti"
	avast     library = "avast"
	sethvargo library = "sethvargo"
	eapache   library = "eapache"
	sony      library = "sony"
	hashicorp library = "hashicorp"
	dropIn    library = "hashicorp RT" // as the RoundTripper of any client
	xtime     library = "x/time/rate"
	xsync     library = "x/sync/semaphore"
	ownGRPC   library = "grpc" // the retries of gRPC itself
)

// libraries returns the columns from left to right.
func libraries() []library {
	return []library{bareCall, perdure, failsafes, cenkalti, avast, sethvargo, eapache, sony, hashicorp, dropIn, xtime, xsync, ownGRPC, bareAgain}
}

// modules returns the modules of the peers, without their major version.
func modules() map[library]string {
	return map[library]string{
		failsafes: "github.com/failsafe-go/failsafe-go",
		cenkalti:  "github.com/cenkalti/backoff",
		avast:     "github.com/avast/retry-go",
		sethvargo: "github.com/sethvargo/go-retry",
		eapache:   "github.com/eapache/go-resiliency",
		sony:      "github.com/sony/gobreaker",
		hashicorp: "github.com/hashicorp/go-retryablehttp",
		xtime:     "golang.org/x/time",
		xsync:     "golang.org/x/sync",
		ownGRPC:   "google.golang.org/grpc",
	}
}

// A cell sets a library up for f, once, and returns a function that runs f with it. Each call has its own context, as in
// a service: the closure, option or executor that a library needs for the context is made for the call.
type cell func(f call) call

// A scenario is a row of the table.
type scenario struct {
	name     string
	make     func() call // makes the operation; nil: it succeeds at once
	attempts int         // how often one call runs it
	refused  bool        // the call ends with an error
	parallel bool        // as many goroutines as GOMAXPROCS call at once
	hangUp   func()      // ends all connections; nil: the operation does not go over loopback
	cells    map[library]cell
}

// operation returns the operation that the libraries run.
func (s scenario) operation() call {
	if s.make == nil {
		return func(context.Context) error { return nil }
	}
	return s.make()
}

// bare calls f as a library must: as a function value, from a function that is not inlined.
//
//go:noinline
func bare(ctx context.Context, f call) error { return f(ctx) }

func bareCell(f call) call {
	return func(ctx context.Context) error { return bare(ctx, f) }
}

// scenarios returns the rows without HTTP; one of them has its cells in store.
// A peer without a breaker has gobreaker's in the rows with a breaker, called
// for each attempt.
func scenarios(store *hoststore.Store) []scenario {
	return append([]scenario{
		{name: "retry", attempts: 1, cells: map[library]cell{
			bareCall: bareCell, perdure: perdureRetry, failsafes: failsafeRetry, cenkalti: backoffRetry,
			avast: avastRetry, sethvargo: sethvargoRetry, eapache: eapacheRetry,
		}},
		{name: "retry, waits deaf to ctx", attempts: 1, cells: map[library]cell{
			bareCall: bareCell, perdure: perdureRetry, // hears it all the same
			failsafes: failsafeRetryDeaf, avast: avastRetryDeaf, eapache: eapacheRetryDeaf,
		}},
		{name: "retry, time limit", attempts: 1, cells: map[library]cell{
			bareCall: bareCell, perdure: perdureLimited, failsafes: failsafeLimited,
			cenkalti:  backoffRetry, // has one of 15 minutes anyway
			sethvargo: sethvargoLimited,
		}},
		{name: "retry + breaker", attempts: 1, cells: withBreaker()},
		{name: "retry + breaker + budget", attempts: 1, cells: withBudget()},
		{name: "retry + breaker + budget, host file", attempts: 1, cells: map[library]cell{
			bareCall: bareCell, perdure: perdureHost(store),
		}},
		{name: "retry + windowed breaker", attempts: 1, cells: withWindow()},
		{name: "breaker", attempts: 1, cells: map[library]cell{
			bareCall: bareCell, perdure: perdureBreaker, failsafes: failsafeBreaker,
			eapache: eapacheBreaker, sony: sonyBreaker,
		}},
		{name: "breaker, two-step", attempts: 1, cells: map[library]cell{
			bareCall: bareCell, perdure: perdureTwoStep, failsafes: failsafeTwoStep, sony: sonyTwoStep,
		}},
		{name: "windowed breaker", attempts: 1, cells: map[library]cell{
			bareCall: bareCell, perdure: perdureWindow, failsafes: failsafeWindow, sony: sonyWindow,
		}},
		{name: "windowed breaker, two-step", attempts: 1, cells: map[library]cell{
			bareCall: bareCell, perdure: perdureWindowTwoStep, failsafes: failsafeWindowTwoStep,
			sony: sonyWindowTwoStep,
		}},
		{name: "two failures, then success", attempts: 3, make: failsTwice, cells: map[library]cell{
			bareCall: bareThrice, perdure: perdureRetry, failsafes: failsafeRetry, cenkalti: backoffRetry,
			avast: avastRetry, sethvargo: sethvargoRetry, eapache: eapacheRetry,
		}},
		{name: "open breaker", refused: true, cells: map[library]cell{
			bareCall: bareRefusal, perdure: perdureOpen, failsafes: failsafeOpen,
			eapache: eapacheOpen, sony: sonyOpen,
		}},
		{name: "open breaker, two-step", refused: true, cells: map[library]cell{
			bareCall: bareRefusal, perdure: perdureOpenTwoStep(nil), sony: sonyOpen,
		}},
		{name: "open breaker, two-step, host file", refused: true, cells: map[library]cell{
			bareCall: bareRefusal, perdure: perdureOpenTwoStep(store), sony: sonyOpen,
		}},
		{name: "retry + open breaker", refused: true, cells: withOpen(perdureRetryOpen)},
		{name: "retry + open breaker, observed", refused: true, cells: withOpen(perdureObservedOpen)},
		{name: "retry + breaker, parallel", attempts: 1, parallel: true, cells: withBreaker()},
		{name: "retry + breaker + budget, parallel", attempts: 1, parallel: true, cells: withBudget()},
		{name: "retry + windowed breaker, parallel", attempts: 1, parallel: true, cells: withWindow()},
	}, slices.Concat(limits(), pieces(), telemetry())...)
}

// pieces returns the rows of hedges and fallbacks.
func pieces() []scenario {
	return []scenario{
		{name: "hedge, fixed delay", attempts: 1, cells: map[library]cell{
			bareCall: bareCell, perdure: perdureHedge, failsafes: failsafeHedge,
		}},
		{name: "hedge, percentile", attempts: 1, cells: map[library]cell{
			bareCall: bareCell, perdure: perdureHedgeLate, // failsafe-go's has no floor: it would hedge these calls
		}},
		{name: "fallback", attempts: 1, cells: map[library]cell{
			bareCall: bareCell, perdure: perdureFallback, failsafes: failsafeFallback,
		}},
		{name: "fallback of a failure", attempts: 1, make: fails, cells: map[library]cell{
			bareCall: bareIgnored, perdure: perdureFallback, failsafes: failsafeFallback,
		}},
	}
}

// limits returns the rows of rates and of calls in flight.
func limits() []scenario {
	return []scenario{
		{name: "rate, calls of microseconds", attempts: 1, make: microseconds, cells: map[library]cell{
			bareCall: bareCell, perdure: perdureRate, failsafes: failsafeRate, xtime: xtimeRate,
		}},
		{name: "rate, refused, two-step", refused: true, cells: map[library]cell{
			bareCall: bareRefusal, perdure: perdureRefused, failsafes: failsafeRefused, xtime: xtimeRefused,
		}},
		{name: "concurrency", attempts: 1, cells: map[library]cell{
			bareCall: bareCell, perdure: perdurePlaces, failsafes: failsafeBulkhead, xsync: xsyncSemaphore,
		}},
		{name: "concurrency, two-step", attempts: 1, cells: map[library]cell{
			bareCall: bareCell, perdure: perdurePlacesTwoStep, failsafes: failsafeBulkheadTwoStep, xsync: xsyncTwoStep,
		}},
		{name: "concurrency, parallel", attempts: 1, parallel: true, cells: map[library]cell{
			bareCall: bareCell, perdure: perdurePlaces, failsafes: failsafeBulkhead, xsync: xsyncSemaphore,
		}},
	}
}

func withBreaker() map[library]cell {
	return map[library]cell{
		bareCall: bareCell, perdure: perdureRetryBreaker, failsafes: failsafeRetryBreaker, cenkalti: backoffBreaker,
		avast: avastBreaker, sethvargo: sethvargoBreaker, eapache: eapacheRetryBreaker,
	}
}

// withOpen has the same peers whether ours is observed or not: they have no events.
func withOpen(ours cell) map[library]cell {
	return map[library]cell{
		bareCall: bareRefusal, perdure: ours, failsafes: failsafeRetryOpen,
		cenkalti: backoffOpen, avast: avastOpen, sethvargo: sethvargoOpen,
	}
}

func withBudget() map[library]cell {
	return map[library]cell{
		bareCall: bareCell, perdure: perdureBudget, failsafes: failsafeBudget, avast: avastBudget,
	}
}

func withWindow() map[library]cell {
	return map[library]cell{
		bareCall: bareCell, perdure: perdureRetryWindow, failsafes: failsafeRetryWindow, cenkalti: backoffWindow,
		avast: avastWindow, sethvargo: sethvargoWindow,
	}
}

var (
	errFailure = errors.New("failure")
	errRefused = errors.New("refused")
)

// failsTwice makes an operation that succeeds every third time. It is for one goroutine.
func failsTwice() call {
	n := 0
	return func(context.Context) error {
		if n++; n%3 != 0 {
			return errFailure
		}
		return nil
	}
}

// fails makes an operation that never succeeds.
func fails() call { return func(context.Context) error { return errFailure } }

// bareIgnored is a caller that ignores the failure.
func bareIgnored(f call) call {
	return func(ctx context.Context) error {
		_ = bare(ctx, f)
		return nil
	}
}

// microseconds makes an operation that takes 2 µs, so that a million calls a second do not limit it.
func microseconds() call {
	data := make([]byte, 64<<10)
	return func(context.Context) error {
		if crc32.ChecksumIEEE(data) == 0 {
			return errFailure
		}
		return nil
	}
}

// bareThrice is the loop of a caller without a library, without a wait.
func bareThrice(f call) call {
	return func(ctx context.Context) (err error) {
		for range 3 {
			if err = bare(ctx, f); err == nil {
				return nil
			}
		}
		return err
	}
}

// bareRefusal is the cheapest refusal: a constant error.
func bareRefusal(call) call {
	refuse := func(context.Context) error { return errRefused }
	return func(ctx context.Context) error { return bare(ctx, refuse) }
}
