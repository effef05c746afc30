package awsretry_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/retry"
)

const (
	slowFrom, slowTo, slowEnd = 2 * time.Second, 6 * time.Second, 10 * time.Second
	slowLoad                  = 20 // uploads a second
)

// A slowingStore responds with SlowDown to the requests above a rate per second, from slowFrom to slowTo after begin.
type slowingStore struct {
	begin time.Time
	rate  float64

	mu       sync.Mutex
	due      time.Duration
	received [2]int // in the fault, and after it
}

// admits counts a request, and reports whether the store carries it out.
func (s *slowingStore) admits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Since(s.begin)
	switch {
	case now < slowFrom:
		return true
	case now >= slowTo:
		s.received[1]++
		return true
	}
	s.received[0]++
	if s.rate == 0 || s.due > now {
		return false
	}
	s.due = max(s.due, now-100*time.Millisecond) + time.Duration(float64(time.Second)/s.rate)
	return true
}

func (s *slowingStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-time.After(2 * time.Millisecond) // what an upload takes
	if s.admits() {
		w.Header().Set("ETag", `"v1"`)
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, "<Error><Code>SlowDown</Code></Error>")
}

// A slowed is the result of one client: uploads since the fault began, how many of them were lost, and requests for
// each upload: during the fault, and since it began.
type slowed struct {
	sent, lost    int
	during, inAll float64
}

// uploads sends uploads at random instants, whose callers wait for 3 s.
func uploads(ctx context.Context, client *s3.Client, store *slowingStore, seed uint64) (got slowed) {
	random := rand.New(rand.NewPCG(seed, 1))
	var lost atomic.Int32
	var arrived [2]int
	var running sync.WaitGroup
	for n, at := 0, time.Duration(0); at < slowEnd; n++ {
		<-time.After(time.Until(store.begin.Add(at)))
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
	}
	running.Wait()
	got.sent, got.lost = arrived[0]+arrived[1], int(lost.Load())
	got.during = float64(store.received[0]) / float64(arrived[0])
	got.inAll = float64(store.received[0]+store.received[1]) / float64(got.sent)
	return got
}

// An S3 store that asks its clients to slow down, with SlowDown for a part of their uploads or for all, gets from clients with
// a gate hardly more requests than uploads arrive, and they lose fewer of them than clients that do not retry.
func TestSlowDownStorm(t *testing.T) {
	seed := testseed.Of(t, 1)
	for _, rate := range []float64{0, 10} {
		policy := retry.Policy{
			BaseDelay: 50 * time.Millisecond, MaxDelay: time.Second, JitterMode: retry.FullJitter, AttemptTimeout: time.Second,
			Observe: func(context.Context, retry.Event) {},
		}
		storm := func(p retry.Policy) (got slowed) {
			synctest.Test(t, func(t *testing.T) {
				store := &slowingStore{begin: time.Now(), rate: rate}
				client := client("http://store", &p, &http.Client{Transport: servertest.InBubble(t, store)})
				got = uploads(t.Context(), client, store, seed)
			})
			return got
		}
		once, gated := policy, policy
		once.MaxAttempts = 1
		gated.Breaker = circuit.New("s3", circuit.Config{Gate: circuit.Wait, Budget: 10, Observe: func(context.Context, circuit.Transition) {}})
		none, gate := storm(once), storm(gated)
		t.Logf("%v a second pass: %+v without retries, %+v with a gate", rate, none, gate)
		if gate.lost >= none.lost || gate.during > 1.45 || gate.inAll > 1.25 {
			t.Errorf("%v a second pass: %+v with a gate; want fewer lost than %d, at most 1.45 requests for each upload in the fault, and 1.25 in all",
				rate, gate, none.lost)
		}
	}
}
