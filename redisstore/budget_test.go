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

// thrifty is a breaker that only its budget matters of.
func thrifty() circuit.Config { return circuit.Config{Budget: 10, FailureThreshold: 1000} }

// retries makes each breaker's operation fail so often, in turns, and returns
// how many retries that made.
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

// prosper has all members' calls go well until they and the server have so many
// tokens.
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

// spend has the members' operations fail until they have made so many retries, and
// a while longer. It returns how many they made.
func spend(t *testing.T, f []member, least int) (n int) {
	t.Helper()
	eventually(t, func() bool { n += retries(t, 1, breakers(f)...); return n >= least }, "%d retries", least)
	toldAll(t, f...) // who is short of tokens has asked for them
	return n + retries(t, 20, breakers(f)...)
}

func breakers(f []member) (all []*circuit.Breaker) {
	for _, m := range f {
		all = append(all, m.Breaker)
	}
	return all
}

// thorough is a store whose share of the budget is not forgotten on a machine that
// has much else to do.
func thorough(srv *server) redisstore.Options {
	return redisstore.Options{URL: srv.url(), Sync: 500 * time.Millisecond, Stale: 5 * time.Second}
}

// Against a service that is dead, a fleet makes as many retries as one of its
// hosts would alone.
func TestOneBudget(t *testing.T) {
	srv := startServer(t)
	fresh := fleet(t, 8, thorough(srv), thrifty())
	if n := spend(t, fresh, 1); n != 1 {
		t.Errorf("a fleet that has just begun: %d retries, want 1", n)
	}
	o := thorough(srv)
	o.Prefix = "warm:"
	warm := fleet(t, 8, o, thrifty())
	prosper(t, srv.client(), "warm:backend", warm, 9.5)
	if n := spend(t, warm, 8); n > 10 {
		t.Errorf("a fleet that was well: %d retries, want 10, or a little less", n)
	}
}

// With a reset by hand the budget begins anew, wherever it is made.
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
	toldAll(t, f...)
	if n := spend(t, f, 1); n != 1 {
		t.Errorf("after a reset: %d retries, want 1", n)
	}
}

// However many retries cannot be paid, the server is not asked for each.
func TestShortOfTokens(t *testing.T) {
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
