package hedge_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/hedge"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A plan is what one attempt does.
type plan struct {
	takes   time.Duration
	err     error
	deaf    bool          // it does not hear that its context ends
	cleanup time.Duration // how long it takes to return when its context ends
}

var (
	errBusy    = errors.New("busy")
	errMissing = retry.Permanent(errors.New("missing"))
)

// A result is what a call did.
type result struct {
	value     int // the number of the attempt
	err       error
	took      time.Duration
	attempts  int
	discarded []int
	won       int // the attempt of the event Won
}

func (r result) String() string {
	return fmt.Sprintf("value %d, error %v, %v, %d attempts, discarded %v, won %d", r.value, r.err, r.took, r.attempts, r.discarded, r.won)
}

// twin says what a call must do, one after another and without goroutines.
func twin(plans []plan, delay time.Duration, cancelAt time.Duration, tokens, most int) result {
	var r result
	first := time.Duration(1 << 62) // when the first attempt ends
	decided := first
	starts := []time.Duration{}
	for i := 0; i <= most && i <= tokens; i++ {
		start := time.Duration(i) * delay
		if i > 0 && (start > first || start > cancelAt) {
			break
		}
		starts = append(starts, start)
		end := start + plans[i].takes
		if !plans[i].deaf && end > cancelAt {
			end = cancelAt + plans[i].cleanup
		}
		first = min(first, end)
	}
	r.attempts = len(starts)
	last := time.Duration(-1)
	for i, start := range starts { // the failures and successes that a call sees if nothing is decided
		end, err := start+plans[i].takes, plans[i].err
		if !plans[i].deaf && end > cancelAt {
			end, err = cancelAt+plans[i].cleanup, context.Canceled
		}
		decides := err == nil || errors.Is(err, errMissing)
		if decides && end < decided {
			decided, r.value, r.err = end, i+1, err
		} else if decided == 1<<62 && end > last {
			last, r.value, r.err = end, i+1, err
		}
	}
	for i, start := range starts {
		end, cut := start+plans[i].takes, min(decided, cancelAt)
		if plans[i].deaf || end <= cut {
			if plans[i].err == nil && i+1 != r.value {
				r.discarded = append(r.discarded, i+1)
			}
		} else {
			end = cut + plans[i].cleanup
		}
		r.took = max(r.took, end)
	}
	if r.value > 1 && r.err == nil {
		r.won = r.value
	}
	return r
}

// play makes the call.
func play(t *testing.T, h *hedge.Hedge[int], plans []plan, cancelAt time.Duration) result {
	t.Helper()
	var r result
	var running, attempts, sent atomic.Int32
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	defer time.AfterFunc(cancelAt, cancel).Stop()
	h.Discard = func(v int) { r.discarded = append(r.discarded, v) }
	h.Observe = func(_ context.Context, e hedge.Event) {
		if e.Kind == hedge.Won {
			r.won = e.Attempt
		} else if n := int(sent.Add(1)); e.Attempt != n+1 || e.Delay != h.After {
			t.Errorf("%+v, as event %d", e, n)
		}
	}
	start := time.Now()
	r.value, r.err = hedge.Value(ctx, h, func(ctx context.Context) (int, error) {
		running.Add(1)
		defer running.Add(-1)
		n := int(attempts.Add(1)) // attempts begin a delay apart
		p, timer := plans[n-1], time.NewTimer(plans[n-1].takes)
		if p.deaf {
			<-timer.C
			return n, p.err
		}
		select {
		case <-timer.C:
			return n, p.err
		case <-ctx.Done():
			timer.Reset(p.cleanup)
			<-timer.C
			return n, ctx.Err()
		}
	})
	if r.took = time.Since(start); running.Load() != 0 {
		t.Errorf("%d attempts outlive the call", running.Load())
	}
	r.attempts = int(attempts.Load())
	slices.Sort(r.discarded)
	return r
}

// TestTwin compares calls with random durations and errors with a naive twin: which attempt wins, how many are made, when
// the call ends, what is discarded. None may outlive its call.
func TestTwin(t *testing.T) {
	random := rand.New(rand.NewPCG(testseed.Of(t, 1), 0))
	seen := map[string]int{}
	for range 3000 {
		delay, most := time.Duration(1+random.IntN(50))*time.Millisecond, 1+random.IntN(3)
		h := &hedge.Hedge[int]{After: delay, Max: most, Ratio: 1}
		plans := make([]plan, most+1)
		for i := range plans { // no two instants are the same
			p := plan{takes: time.Duration(random.IntN(120))*time.Millisecond + time.Duration(10*i+1)*time.Microsecond, deaf: random.IntN(4) == 0}
			p.cleanup = time.Duration(random.IntN(5))*time.Millisecond + time.Duration(100*i+100)*time.Nanosecond
			switch random.IntN(5) {
			case 0, 1:
				p.err = errBusy
			case 2:
				p.err = errMissing
			}
			plans[i] = p
		}
		cancelAt := time.Hour
		if random.IntN(4) == 0 {
			cancelAt = time.Duration(random.IntN(100))*time.Millisecond + 501*time.Microsecond
		}
		synctest.Test(t, func(t *testing.T) {
			want, got := twin(plans, delay, cancelAt, 10, most), play(t, h, plans, cancelAt)
			if got.String() != want.String() {
				t.Errorf("delay %v, at most %d hedges, cancelled at %v, attempts %+v:\n got %v\nwant %v", delay, most, cancelAt, plans, got, want)
			}
			seen[fmt.Sprintf("won by %d", got.won)]++
			seen[fmt.Sprintf("%d attempts", got.attempts)]++
			seen[fmt.Sprintf("discarded %d", len(got.discarded))]++
		})
		if t.Failed() {
			break
		}
	}
	for _, kind := range []string{"won by 0", "won by 2", "won by 3", "4 attempts", "discarded 1", "discarded 2"} {
		if seen[kind] == 0 {
			t.Errorf("no call with %s: %v", kind, seen)
		}
	}
}
