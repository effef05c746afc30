package circuit

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// crowd asks for n breakers of names that are not requested again, and has memory
// collected that is not referenced.
func crowd(t *testing.T, r *Registry, c Config, from, n int) {
	t.Helper()
	for i := range n {
		if _, err := r.Get(fmt.Sprintf("customer-%d", from+i), c); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
}

func registered(r *Registry, name string) *Breaker {
	for _, b := range r.All() {
		if b.Name() == name {
			return b
		}
	}
	return nil
}

// A breaker is kept while its rate has turns reserved: a registry of many keys used to
// evict it, and so admitted more calls.
func TestRegistryKeepsARateThatIsInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Registry
		c := quiet(Config{Rate: 1.0 / 3600, Burst: 2})
		admitted := 0
		for i := range 6 {
			b, err := r.Get("partner", c)
			if err != nil {
				t.Fatal(err)
			}
			if b.Allow() {
				admitted++
			}
			crowd(t, &r, quiet(Config{}), i*5*keepAll, 5*keepAll)
		}
		if admitted != 2 {
			t.Errorf("%d calls were admitted at once, want the burst of 2", admitted)
		}
		if <-time.After(3 * time.Hour); registered(&r, "partner") == nil {
			t.Error("the rate is forgotten before anybody needs its room")
		}
		crowd(t, &r, quiet(Config{}), 100*keepAll, 5*keepAll)
		if crowd(t, &r, quiet(Config{}), 200*keepAll, 5*keepAll); registered(&r, "partner") != nil {
			t.Error("a rate that is as new is kept for ever")
		}
	})
}

// A registry used to keep every breaker forever.
func TestRegistryEvictsWhatIsNotNeeded(t *testing.T) {
	for name, c := range map[string]Config{
		"plain": {}, "window": {Window: time.Minute, FailureRatio: 0.5}, "budget": {Budget: 10},
	} {
		var r Registry
		c = quiet(c)
		const all = 20_000
		for i := 0; i < all; i += 2_000 {
			crowd(t, &r, c, i, 2_000)
		}
		if n := len(r.All()); n > 8*keepAll {
			t.Errorf("%s: of %d breakers that are not referenced %d are kept", name, all, n)
		}
		crowd(t, &r, c, all, 2*keepAll)
		if n := len(r.All()); n > 5*keepAll {
			t.Errorf("%s: of %d breakers that are not referenced %d are kept", name, all, n)
		}
	}
}

// A registry of usual size evicts nothing.
func TestSmallRegistryForgetsNothing(t *testing.T) {
	var r Registry
	crowd(t, &r, quiet(Config{}), 0, keepAll)
	crowd(t, &r, quiet(Config{}), 0, keepAll)
	if n := len(r.All()); n != keepAll {
		t.Errorf("of %d breakers %d are left", keepAll, n)
	}
}

// There are never two breakers of one name.
func TestRegistryKnowsWhatSomebodyHolds(t *testing.T) {
	var r Registry
	c := quiet(Config{})
	held, err := r.Get("payments", c)
	if err != nil {
		t.Fatal(err)
	}
	crowd(t, &r, c, 0, 10*keepAll)
	if got := registered(&r, "payments"); got != held {
		t.Errorf("All has %p, somebody holds %p", got, held)
	}
	if got, err := r.Get("payments", c); got != held {
		t.Errorf("a second breaker of one name: %p, %v, want %p", got, err, held)
	}
	if _, err := r.Get("payments", quiet(Config{FailureThreshold: 3})); err == nil {
		t.Error("other settings are no error")
	}
}

// A breaker with evidence is kept for an hour, and while it refuses calls.
func TestRegistryKeepsWhatIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Registry
		c := quiet(Config{Budget: 10, RecoveryTimeout: time.Minute})
		put := func(name string, do func(*Breaker)) {
			b, err := r.Get(name, c)
			if err != nil {
				t.Fatal(err)
			}
			do(b)
		}
		fails := func(n int) func(*Breaker) {
			return func(b *Breaker) {
				for range n {
					_ = b.Do(t.Context(), func(context.Context) error { return errors.New("no") })
				}
			}
		}
		put("failing", fails(4))
		put("open", fails(5))
		put("isolated", (*Breaker).Isolate)
		put("held off", func(b *Breaker) {
			for range 5 {
				b.current().Throttled(3 * time.Hour)
			}
		})
		put("spent", func(b *Breaker) { b.withdraw(Token) })
		put("used", func(*Breaker) {})
		lives := func(when string, want map[string]bool) {
			t.Helper()
			for name, want := range want {
				if got := registered(&r, name) != nil; got != want {
					t.Errorf("%s, %s is known: %v, want %v", when, name, got, want)
				}
			}
		}
		lives("at first", map[string]bool{"used": true})
		crowd(t, &r, c, 0, 5*keepAll)
		lives("at once", map[string]bool{"failing": true, "open": true, "isolated": true, "held off": true, "spent": true, "used": false})
		put("failing", fails(1))
		if b := registered(&r, "failing"); b.State() != Open {
			t.Errorf("after 4 failures and 1 it is %v, want open", b.State())
		}
		<-time.After(keepIdle + time.Minute)
		crowd(t, &r, c, 10*keepAll, 10*keepAll)
		<-time.After(keepIdle + time.Minute)
		crowd(t, &r, c, 30*keepAll, 10*keepAll)
		lives("after hours", map[string]bool{"failing": false, "open": false, "isolated": true, "held off": true, "spent": false})
		<-time.After(keepIdle)
		crowd(t, &r, c, 50*keepAll, 10*keepAll)
		lives("in the end", map[string]bool{"isolated": true, "held off": false})
	})
}

// Breakers are evicted and made while others are requested.
func TestRegistryForgetsBesideItsUse(t *testing.T) {
	var r Registry
	c := quiet(Config{})
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 5 * keepAll {
				if _, err := r.Get(fmt.Sprintf("customer-%d-%d", g%4, i), c); err != nil {
					t.Error(err)
				}
				b, err := r.Get("payments", c)
				if err != nil {
					t.Error(err)
				}
				b.RecordFailure()
			}
		})
	}
	all.Wait()
	b, _ := r.Get("payments", c)
	if b.State() == Closed {
		t.Error("failures of one name have gone to several breakers")
	}
}
