package gate_test

import (
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/gate"
)

const (
	start = int64(1_800_000_000_000_000_000)
	ms    = int64(time.Millisecond)
	base  = 20 * ms
)

// A key is a gate, and the hands of its one clock.
type key struct {
	gate.Gate
	now int64
}

// warm returns a gate in health that has learned the base.
func warm(t *testing.T) *key {
	t.Helper()
	k := &key{Gate: gate.Gate{Words: new(gate.Words)}, now: start}
	for range 16 {
		k.call(t, gate.Success, base)
	}
	if !gate.Healthy(k.Words[0].Load()) {
		t.Fatal("after 16 timed successes the gate is not in health")
	}
	return k
}

// call makes one attempt that must be admitted and takes so long.
func (k *key) call(t *testing.T, o gate.Outcome, took int64) gate.Change {
	t.Helper()
	k.Arrive(k.now)
	p, ok := k.Admit(k.now)
	if !ok {
		t.Fatalf("refused in %+v", k.Status(k.now))
	}
	k.now += took
	return k.Done(p, o, k.now)
}

// limited returns a gate that timeouts have limited.
func limited(t *testing.T) *key {
	t.Helper()
	k := warm(t)
	for i := range 5 {
		change := k.call(t, gate.TimedOut, 200*ms)
		if want := i == 4; (change == gate.Limited) != want {
			t.Fatalf("after %d timeouts in a row: change %v", i+1, change)
		}
	}
	return k
}

func TestFiveOverloadsInARowLimit(t *testing.T) {
	for name, tc := range map[string]struct {
		outcome gate.Outcome
		took    int64
		calls   int // until it is limited; 0: never
	}{
		"timeouts":                    {gate.TimedOut, 200 * ms, 5},
		"throttled at once":           {gate.Throttled, ms, 5},
		"late":                        {gate.Late, 750 * ms, 3}, // each counts twice
		"cut after long":              {gate.Cut, 200 * ms, 5},  // the first is not timed, and has the others timed
		"cut at once":                 {gate.Cut, ms, 0},
		"failures":                    {gate.Failure, ms, 10},
		"cancelled":                   {gate.Cancelled, 200 * ms, 0},
		"successes that take so long": {gate.Success, 2000 * ms, 0},
	} {
		t.Run(name, func(t *testing.T) {
			k := warm(t)
			for n := 1; n <= 40; n++ {
				if k.call(t, tc.outcome, tc.took) != gate.Limited {
					continue
				}
				if n != tc.calls {
					t.Errorf("limited by %d calls, want %d", n, tc.calls)
				}
				return
			}
			if tc.calls != 0 {
				t.Errorf("not limited by 40 calls, want %d", tc.calls)
			}
		})
	}
}

func TestALimitedGateProbesAndLifts(t *testing.T) {
	k := limited(t)
	if _, ok := k.Admit(k.now); ok {
		t.Fatal("admitted at once")
	}
	from := k.now
	k.now = k.Next(k.now)
	if wait := time.Duration(k.now - from); wait < 1500*time.Millisecond || wait > 2500*time.Millisecond {
		t.Errorf("the first probe after a timeout is due after %v, want 2s and up to a quarter more or less", wait)
	}
	if change := k.call(t, gate.Success, base); change != gate.Lifted {
		t.Errorf("after a probe that succeeded while no caller waits: change %v, %+v", change, k.Status(k.now))
	}
}

func TestEnterAdmitsRefusesOrQueues(t *testing.T) {
	var line gate.Line
	var w gate.Waiter
	k := warm(t)
	if got := line.Enter(k.Gate, &w, k.now, k.now+3000*ms, true, 0.5); got != gate.Admitted {
		t.Errorf("in health: %v", got)
	}
	k = limited(t)
	if got := line.Enter(k.Gate, &w, k.now, k.now, true, 0.5); got != gate.Refused {
		t.Errorf("limited, of no patience: %v", got)
	}
	if got := line.Enter(k.Gate, &w, k.now, k.now+3000*ms, true, 0.5); got != gate.Waiting {
		t.Fatalf("limited: %v", got)
	}
	for {
		if done := line.Step(k.Gate, k.now); done != nil {
			break
		}
		at, ok := line.Next(k.Gate, k.now)
		if !ok || at <= k.now {
			t.Fatalf("Next = %d, %v; now %d", at, ok, k.now)
		}
		k.now = at
	}
	if !w.Admitted || w.Permit.How != gate.AsProbe {
		t.Errorf("the waiter ended with %+v, want a probe", w)
	}
}

// A growing queue makes successes slower before the first attempt in it is late. A base
// that learned from them took them for fast, and the gate stayed in health: a brownout
// without attempt timeouts lasted another second.
func TestTheBaseIsNotLearnedBetweenOverloads(t *testing.T) {
	k := warm(t)
	k.Done(gate.Untimed(k.Words[0].Load()), gate.Cut, k.now) // from now on attempts are timed
	for took := 2*base + ms; took < 700*ms; took += 5 * ms {
		if k.call(t, gate.Success, took) != gate.Unchanged {
			t.Fatal("limited by slow successes")
		}
	}
	if b := k.Status(k.now).Base; b != time.Duration(base) {
		t.Errorf("the base is %v, want %v", b, time.Duration(base))
	}
	for n := range 2 {
		if n > 0 && k.call(t, gate.Success, 700*ms) != gate.Unchanged {
			t.Fatal("limited by a slow success")
		}
		if change := k.call(t, gate.Late, 750*ms); (change == gate.Limited) != (n == 1) {
			t.Fatalf("after %d attempts that were late: %v", n+1, change)
		}
	}
	// A success in time says that there is no queue: the base follows again.
	k = warm(t)
	k.Done(gate.Untimed(k.Words[0].Load()), gate.Failure, k.now) // from now on attempts are timed
	k.call(t, gate.Success, 2*base)
	k.Done(gate.Untimed(k.Words[0].Load()), gate.Failure, k.now)
	if b := k.Status(k.now).Base; b <= time.Duration(base) {
		t.Errorf("the base stays %v after a success that took twice as long", b)
	}
}

// A gate that has seen few successes is of a process that is new or makes few calls: two
// overloads in a row limit it, or the first throttled response if no attempt has succeeded. Five
// would take such a process seconds, and many of them would send as many retries meanwhile.
func TestAColdGateIsLimitedSoon(t *testing.T) {
	for outcome, limits := range map[gate.Outcome]map[int]int{
		gate.Throttled: {0: 1, 1: 2, 14: 2, 15: 5, 100: 5},
		gate.TimedOut:  {0: 2, 1: 2, 14: 2, 15: 5, 100: 5},
		gate.Failure:   {0: 2, 1: 3, 14: 3, 15: 10, 100: 10},
	} {
		for successes, want := range limits {
			k := &key{Gate: gate.Gate{Words: new(gate.Words)}, now: start}
			for range successes {
				k.call(t, gate.Success, base)
			}
			n := 1
			for k.call(t, outcome, ms) != gate.Limited {
				n++
			}
			if n != want {
				t.Errorf("after %d successes %d results %v limit it, want %d", successes, n, outcome, want)
			}
		}
	}
}

// A process of one call a second probes less often than it calls, whatever its demand was taken
// for at first, and a caller is still admitted within two and a half seconds.
func TestAColdGateProbesAsOftenAsItIsCalled(t *testing.T) {
	k := &key{Gate: gate.Gate{Words: new(gate.Words)}, now: start}
	k.call(t, gate.Throttled, ms)
	probes, last := 0, k.now
	for range 60 {
		k.Arrive(k.now)
		for range 1000 {
			if p, ok := k.Admit(k.now); ok {
				if wait := k.now - last; wait > 2500*ms {
					t.Errorf("%d ms between two probes", wait/ms)
				}
				probes, last = probes+1, k.now
				k.Done(p, gate.Throttled, k.now)
			}
			k.now += ms
		}
	}
	if probes < 25 || probes > 50 {
		t.Errorf("%d probes for 60 operations, want about two for three", probes)
	}
}

// A cold gate counts its successes as operations, so that it knows its demand as soon as it is
// limited, and does not send more probes at first than it would be called.
func TestAColdGateKnowsItsDemandWhenItIsLimited(t *testing.T) {
	for name, idle := range map[string]int64{"a call a second": second, "a call a minute": 60 * second} {
		k := &key{Gate: gate.Gate{Words: new(gate.Words)}, now: start}
		for range 4 {
			k.call(t, gate.Success, base)
			k.now += idle - base
		}
		for k.call(t, gate.Failure, ms) != gate.Limited {
		}
		begin := k.now
		k.Arrive(k.now)
		for range 3 { // the caller keeps trying
			at, p := k.admission(t)
			k.now = at
			k.Done(p, gate.Failure, at)
		}
		if took := k.now - begin; took < 3*second || took > 8*second {
			t.Errorf("%s: three probes within %d ms, want at most two for three operations", name, took/ms)
		}
	}
}

// A caller keeps no more time for its attempt than the attempt's timeout, even if the usual time
// is not known. It used to give up with a quarter of its time left.
func TestTheReserveIsAtMostTheTimeout(t *testing.T) {
	cold := gate.Gate{Words: new(gate.Words)}
	for _, c := range []struct {
		gate                gate.Gate
		left, timeout, want time.Duration
	}{
		{cold, 4 * time.Second, 0, time.Second},
		{cold, 4 * time.Second, 200 * time.Millisecond, 200 * time.Millisecond},
		{cold, 400 * time.Millisecond, 200 * time.Millisecond, 100 * time.Millisecond},
		{cold, 10 * time.Minute, 0, gate.Patience / 4},
		{warm(t).Gate, 4 * time.Second, 0, time.Duration(4 * base)},
		{warm(t).Gate, 4 * time.Second, time.Duration(base), time.Duration(base)},
		{warm(t).Gate, time.Duration(base), time.Second, time.Duration(base / 2)},
	} {
		if got := c.gate.Reserve(c.left, c.timeout); got != c.want {
			t.Errorf("of %v with a timeout of %v and a base of %v: %v, want %v", c.left, c.timeout, c.gate.Base(), got, c.want)
		}
	}
}

// Callers that do not wait leave no backlog: a gate that fails fast spends its credits without
// the pace, and its first success doubles them.
func TestAGateThatFailsFastHasNoPace(t *testing.T) {
	for failFast, want := range map[bool]int{true: 8, false: 4} {
		k := limited(t)
		k.FailFast = failFast
		for range 200 { // the demand is 200 a second
			k.Arrive(k.now)
			k.now += 5 * ms
		}
		k.now = k.Next(k.now)
		flying, done := []gate.Permit{}, 0
		for range 4 { // rounds of calls that take as long as usual
			for p, ok := k.Admit(k.now); ok; p, ok = k.Admit(k.now) {
				flying = append(flying, p)
			}
			k.now += base
			for _, p := range flying {
				k.Done(p, gate.Success, k.now)
				done++
			}
			flying = flying[:0]
		}
		if done < want || !failFast && done > 2*want {
			t.Errorf("fail fast %v: %d calls in four rounds", failFast, done)
		}
	}
}
