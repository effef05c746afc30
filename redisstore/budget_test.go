package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/redisstore"
	"github.com/seed-0f2c7998/perdure/retry"
)

// thrifty returns the settings of a breaker with a budget that does not open.
func thrifty() circuit.Config { return circuit.Config{Budget: 10, FailureThreshold: 1000} }

// retries makes an operation of each breaker fail, in turns, rounds times, and returns the
// number of retries.
func retries(t *testing.T, rounds int, breakers ...*circuit.Breaker) (n int) {
	t.Helper()
	servertest.Until(t, fmt.Sprint(rounds, " rounds"), func() bool {
		for _, b := range breakers {
			p := retry.Policy{
				MaxAttempts: 3, BaseDelay: time.Millisecond, Jitter: retry.NoJitter, Breaker: b,
				Classify: retry.Always, Observe: func(context.Context, retry.Event) {},
			}
			err := retry.Do(t.Context(), &p, func(context.Context) error { n++; return errors.New("down") })
			if err == nil {
				t.Fatal("an operation that fails has succeeded")
			}
			n--
		}
		rounds--
		return rounds == 0
	})
	return n
}

// prosper makes calls of all members succeed until the members and the server have so
// many tokens.
func prosper(t *testing.T, c rueidis.Client, key string, f []member, tokens float64) {
	t.Helper()
	var has float64
	eventually(t, func() bool {
		hash, _ := hashOf(t, c, key)
		has, _ = strconv.ParseFloat(hash["budget"], 64)
		has /= cell.Token
		for _, m := range f {
			for range 100 {
				m.RecordSuccess()
			}
			has += m.Metrics().Balance
		}
		return has >= tokens
	}, "%v tokens", tokens)
	t.Logf("%d members have %v tokens", len(f), has)
}

// spend makes operations of the members fail until there were at least so many retries,
// and 20 rounds more. It returns the number of retries.
func spend(t *testing.T, f []member, least int) (n int) {
	t.Helper()
	eventually(t, func() bool { n += retries(t, 1, breakers(f)...); return n >= least }, "%d retries", least)
	allReported(t, f...) // members with a low balance have requested tokens
	return n + retries(t, 20, breakers(f)...)
}

func breakers(f []member) (all []*circuit.Breaker) {
	for _, m := range f {
		all = append(all, m.Breaker)
	}
	return all
}

// thorough returns the Options of a store whose share of the budget does not expire on a
// machine under load.
func thorough(srv *server) redisstore.Options {
	return redisstore.Options{URL: srv.url(), Sync: 500 * time.Millisecond, Stale: 5 * time.Second}
}

// Against a dead service, a fleet makes as many retries as a single host.
func TestOneBudget(t *testing.T) {
	srv := startServer(t)
	fresh := fleet(t, 8, thorough(srv), thrifty())
	if n := spend(t, fresh, 1); n != 1 {
		t.Errorf("a new fleet: %d retries, want 1", n)
	}
	o := thorough(srv)
	o.Prefix = "warm:"
	warm := fleet(t, 8, o, thrifty())
	prosper(t, srv.client(), "warm:backend", warm, 9.5)
	if n := spend(t, warm, 8); n > 10 {
		t.Errorf("a fleet with a full budget: %d retries, want 10, or a little less", n)
	}
}

// A manual reset starts the budget from scratch, wherever it is made.
func TestBudgetReset(t *testing.T) {
	srv := startServer(t)
	c := srv.client()
	f := fleet(t, 2, thorough(srv), thrifty())
	spend(t, f, 1)
	f[0].Breaker.Reset()
	f[0].Store.Reset("backend")
	eventually(t, func() bool {
		hash, _ := hashOf(t, c, "circuit_breaker:backend")
		shares := 0
		for field := range hash {
			if strings.HasPrefix(field, "share.") {
				shares++
			}
		}
		return hash["hand.at"] != "" && shares == len(f)
	}, "both have their shares again")
	allReported(t, f...)
	if n := spend(t, f, 1); n != 1 {
		t.Errorf("after a reset: %d retries, want 1", n)
	}
}

// Retries that the budget does not pay for send no request each.
func TestLowBudget(t *testing.T) {
	srv := startServer(t)
	f := fleet(t, 1, redisstore.Options{URL: srv.url(), Sync: time.Hour}, thrifty())
	before, _ := scriptsRun(t, srv.client())
	retries(t, 500, f[0].Breaker)
	after, _ := scriptsRun(t, srv.client())
	t.Logf("500 operations without a token for a retry: %d scripts", after-before)
	if after-before > 2 {
		t.Errorf("500 operations without a token for a retry: %d scripts, want 2 at most", after-before)
	}
}
