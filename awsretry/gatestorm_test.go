//go:build integration

package awsretry_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/internal/versitygwtest"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// A slowing store responds with SlowDown to the requests above a rate per second, from slowFrom to slowTo after begin.
const (
	slowFrom, slowTo, slowEnd = 2 * time.Second, 6 * time.Second, 10 * time.Second
	slowLoad                  = 20 // uploads a second
)

// slowing returns the script of a store that admits so many requests a second in the fault.
func slowing(begin time.Time, rate float64) func(s3test.Request) s3test.Fault {
	var mu sync.Mutex
	var due time.Duration
	return func(s3test.Request) s3test.Fault {
		mu.Lock()
		defer mu.Unlock()
		now := time.Since(begin)
		switch {
		case now < slowFrom, now >= slowTo:
			return s3test.Fault{}
		case rate == 0, due > now:
			return s3test.SlowDown()
		}
		due = max(due, now-100*time.Millisecond) + time.Duration(float64(time.Second)/rate)
		return s3test.Fault{}
	}
}

// A slowed holds the uploads from the fault's start on, those of them that were lost, and the requests for each upload: in
// the fault, and from its start on.
type slowed struct {
	sent, lost    int
	during, inAll float64
}

// uploads sends uploads at random instants, whose callers wait for 3 s.
func uploads(ctx context.Context, client *s3.Client, server *s3test.Server, begin time.Time, seed uint64) (got slowed) {
	random := rand.New(rand.NewPCG(seed, 1))
	var lost atomic.Int32
	var arrived [2]int
	var running sync.WaitGroup
	timer := time.NewTimer(time.Until(begin))
	defer timer.Stop()
	for n, at := 0, time.Duration(0); at < slowEnd; n++ {
		<-timer.C
		inFault := at >= slowFrom
		switch {
		case at >= slowTo:
			arrived[1]++
		case inFault:
			arrived[0]++
		}
		running.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			if err := put(ctx, client, fmt.Sprint("upload-", n), []byte("a bike")); err != nil && inFault {
				lost.Add(1)
			}
		})
		at += time.Duration(random.ExpFloat64() / slowLoad * float64(time.Second))
		timer.Reset(time.Until(begin.Add(at)))
	}
	running.Wait()
	received := [2]int{}
	for _, r := range server.Requests() {
		switch at := r.At.Sub(begin); {
		case at >= slowTo:
			received[1]++
		case at >= slowFrom:
			received[0]++
		}
	}
	got.sent, got.lost = arrived[0]+arrived[1], int(lost.Load())
	got.during, got.inAll = float64(received[0])/float64(arrived[0]), float64(received[0]+received[1])/float64(got.sent)
	return got
}

// An S3 store that asks its clients to slow down, with SlowDown for a part of their uploads or for all, gets from clients with
// a gate hardly more requests than uploads arrive, and they lose fewer of them than clients that do not retry.
func TestSlowDownStorm(t *testing.T) {
	seed := testseed.Of(t, 1)
	t.Run("in the process", func(t *testing.T) { slowDownStorm(t, s3test.Options{Buckets: []string{bucket}}, seed) })
	t.Run("versitygw", func(t *testing.T) {
		g := versitygwtest.Start(t, "eu-central-1", bucket)
		slowDownStorm(t, s3test.Options{Upstream: g.URL, AccessKey: g.Access, SecretKey: g.Secret}, seed)
	})
}

func slowDownStorm(t *testing.T, options s3test.Options, seed uint64) {
	t.Helper()
	begin := time.Now().Add(time.Second)
	var storms sync.WaitGroup
	for _, rate := range []float64{0, 10} {
		policy := retry.Policy{
			BaseDelay: 50 * time.Millisecond, MaxDelay: time.Second, JitterMode: retry.FullJitter, AttemptTimeout: time.Second,
			Observe: func(context.Context, retry.Event) {},
			Breaker: circuit.New("s3", circuit.Config{Gate: circuit.Wait, Budget: 10, Observe: func(context.Context, circuit.Transition) {}}),
		}
		options.Script = slowing(begin, rate)
		plain := s3test.Start(t, options)
		options.Script = slowing(begin, rate)
		gated := s3test.Start(t, options)
		once := connect(t, plain, &retry.Policy{MaxAttempts: 1, Observe: policy.Observe})
		patient := connect(t, gated, &policy)
		storms.Go(func() {
			var none, gate slowed
			var both sync.WaitGroup
			both.Go(func() { none = uploads(t.Context(), once, plain, begin, seed) })
			both.Go(func() { gate = uploads(t.Context(), patient, gated, begin, seed) })
			both.Wait()
			t.Logf("%v a second pass: %+v without retries, %+v with a gate", rate, none, gate)
			if gate.lost >= none.lost || gate.during > 1.45 || gate.inAll > 1.25 {
				t.Errorf("%v a second pass: %+v with a gate; want fewer lost than %d, at most 1.45 requests for each upload in the fault, and 1.25 in all",
					rate, gate, none.lost)
			}
		})
	}
	storms.Wait()
}
