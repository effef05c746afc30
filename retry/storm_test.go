package retry_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A storm is many operations of any policies on one key, with a service that
// fails, asks to wait, hangs and recovers at random. It keeps what must hold at
// each attempt, whatever the others do.
type storm struct {
	t       *testing.T
	seed    uint64
	breaker *circuit.Breaker

	mu    sync.Mutex
	rnd   *rand.Rand
	waits int // that the service has asked for
	sick  bool
	total int
}

// policy returns one of any kind.
func (s *storm) policy() *retry.Policy {
	pick := func(ds ...time.Duration) time.Duration { return ds[s.rnd.IntN(len(ds))] }
	modes := jitterModes()
	return &retry.Policy{
		MaxAttempts: []int{0, 1, 3, retry.Unlimited}[s.rnd.IntN(4)],
		BaseDelay:   pick(0, time.Millisecond, 300*time.Millisecond), MaxDelay: pick(0, 5*time.Second),
		JitterMode: modes[s.rnd.IntN(len(modes))], Jitter: pick(0, retry.NoJitter, time.Second),
		AttemptTimeout: pick(0, 0, 2*time.Second), MaxElapsed: pick(time.Minute, 20*time.Second),
		MaxRetryAfter: pick(0, 5*time.Second), Observe: func(context.Context, retry.Event) {}, Breaker: s.breaker,
	}
}

// serve is one attempt of an operation that is not to come before until.
func (s *storm) serve(ctx context.Context, until *time.Time) error {
	s.mu.Lock()
	s.total++
	if early := time.Until(*until); early > 0 {
		s.t.Errorf("seed %d: an attempt %v before the instant that the service had asked for", s.seed, early)
	}
	roll, length := s.rnd.IntN(100), time.Duration(s.rnd.IntN(1000))*time.Millisecond
	if s.sick {
		roll /= 4
	}
	s.mu.Unlock()
	select {
	case <-time.After(length):
	case <-ctx.Done():
		return ctx.Err()
	}
	switch {
	case roll < 5:
		wait := 500*time.Millisecond + 5*length
		s.mu.Lock()
		s.waits++
		s.mu.Unlock()
		*until = time.Now().Add(wait)
		return retry.After(errDown, wait)
	case roll < 15:
		return retry.Transient(errDown)
	case roll < 18:
		return errDown // permanent
	case roll < 20:
		<-ctx.Done() // hangs
		return ctx.Err()
	}
	return nil
}

// operation makes one, and holds its result to what was seen.
func (s *storm) operation() {
	s.mu.Lock()
	p := s.policy()
	limit, gone := time.Duration(1+s.rnd.IntN(60))*time.Second, s.rnd.IntN(10) == 0
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	if gone {
		time.AfterFunc(limit/3, cancel)
	}
	begin, made := time.Now(), 0
	var last error
	var until time.Time
	err := retry.Do(ctx, p, func(ctx context.Context) error {
		made++
		last = s.serve(ctx, &until)
		return last
	})
	took := time.Since(begin)
	e, given := errors.AsType[*retry.Error](err)
	switch {
	case p.Attempts() > 0 && made > p.Attempts():
		s.t.Errorf("seed %d: %d attempts of %d", s.seed, made, p.Attempts())
	case took > limit:
		s.t.Errorf("seed %d: took %v of %v", s.seed, took, limit)
	case (err == nil) != (made > 0 && last == nil):
		s.t.Errorf("seed %d: %v, though the last attempt's was %v", s.seed, err, last)
	case given && (e.Attempts != made || e.Last != last || e.Stop == nil): //nolint:errorlint // as itself
		s.t.Errorf("seed %d: %+v, though %d attempts ended in %v", s.seed, e, made, last)
	case err != nil && !given && made > 1:
		s.t.Errorf("seed %d: %v as itself after %d attempts", s.seed, err, made)
	case errors.Is(err, retry.ErrRetryLater) && !e.RetryAt.After(time.Now().Add(-time.Millisecond)):
		s.t.Errorf("seed %d: to come back %v ago", s.seed, time.Since(e.RetryAt))
	}
	if t, _ := breakers.Balance(s.breaker); t < 0 || t > 10*circuit.Token {
		s.t.Errorf("seed %d: %d twentieths in the budget", s.seed, t)
	}
}

func TestStorm(t *testing.T) {
	t.Parallel()
	attempts, waits, trips := 0, 0, uint64(0)
	first := testseed.Of(t, 0)
	for seed := first; seed < first+6; seed++ {
		synctest.Test(t, func(t *testing.T) {
			s := &storm{t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 1)), breaker: breaker(circuit.Config{
				Budget: 10, RecoveryTimeout: 3 * time.Second, ProbeLease: 5 * time.Second, HalfOpenMax: 2, SuccessThreshold: 2,
				Window: time.Duration(seed%2) * 10 * time.Second, FailureRatio: float64(seed%2) / 2,
			})}
			var all sync.WaitGroup
			for i := range 600 {
				all.Go(s.operation)
				<-time.After(50 * time.Millisecond)
				s.mu.Lock()
				s.sick = i/100%2 == 1
				s.mu.Unlock()
			}
			all.Wait()
			s.breaker.Reset()
			f, _ := calls()
			if err := retry.Do(t.Context(), &retry.Policy{Breaker: s.breaker}, f); err != nil {
				t.Errorf("seed %d: after the storm: %v", seed, err)
			}
			attempts, waits, trips = attempts+s.total, waits+s.waits, trips+s.breaker.Metrics().Trips
		})
	}
	if attempts < 600 || waits < 6 || trips < 6 {
		t.Errorf("%d attempts, %d waits asked for and %d trips show little", attempts, waits, trips)
	}
}
