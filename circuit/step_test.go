package circuit

import (
	"math"
	"testing"
	"time"
)

// base is the instant at which the tests of the pure step begin.
const base instant = 1_780_000_000_123

// stepRules returns the rules of c as New would make them.
func stepRules(t *testing.T, c Config) *rules {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatalf("the test's own Config: %v", err)
	}
	r := c.filled().rules()
	return &r
}

// A walker takes a word through steps at instants that the test chooses.
type walker struct {
	rules *rules
	word  packedState
	now   instant
	u     float64
}

// do makes the step for s with the word's own generation.
func (v *walker) do(s signal) bool { return v.late(s, v.word.generation()) }

// late makes the step for s with a permit of generation g.
func (v *walker) late(s signal, g uint16) (admitted bool) {
	v.word, admitted = v.rules.step(v.word, event{signal: s, generation: g, now: v.now, begin: v.now, u: v.u})
	return admitted
}

func TestStepAtInstants(t *testing.T) {
	r := stepRules(t, Config{FailureThreshold: 2, RecoveryTimeout: 10 * time.Second, SuccessThreshold: 2, ProbeLease: 5 * time.Second})
	v := walker{rules: r, now: base}
	for i, row := range []struct {
		after    instant // milliseconds since the row before
		signal   signal
		admitted bool
		state    State
	}{
		{0, acquire, true, Closed},
		{0, failure, false, Closed},
		{5, success, false, Closed}, // the run of failures is broken
		{5, failure, false, Closed},
		{9, failure, false, Open},
		{0, acquire, false, Open},
		{0, failure, false, Open}, // no second opening
		{9999, acquire, false, Open},
		{1, acquire, true, HalfOpen}, // after 10 s to the millisecond
		{1, acquire, false, HalfOpen},
		{0, cancel, false, HalfOpen},
		{0, acquire, true, HalfOpen}, // the place is free again
		{0, success, false, HalfOpen},
		{0, acquire, true, HalfOpen},
		{4999, acquire, false, HalfOpen},
		{1, acquire, true, HalfOpen}, // the lease of a probe that hangs is over
		{0, failure, false, Open},
		{10_000, acquire, true, HalfOpen},
		{0, success, false, HalfOpen}, // it counts from scratch
		{0, acquire, true, HalfOpen},
		{0, success, false, Closed},
		{0, isolate, false, Isolated},
		{1e9, acquire, false, Isolated},
		{0, trip, false, Isolated},
		{0, reset, false, Closed},
		{0, trip, false, Open},
		{0, trip, false, Open},
		{0, reset, false, Closed},
	} {
		v.now += row.after
		if got := v.do(row.signal); got != row.admitted || v.word.state() != row.state {
			t.Fatalf("row %d: admitted %v in state %v; want %v in %v", i, got, v.word.state(), row.admitted, row.state)
		}
	}
	if !v.word.healthy() {
		t.Errorf("a breaker that was reset has the word %x", v.word)
	}
}

func TestHealthyWordIsOnlyItsGeneration(t *testing.T) {
	r := stepRules(t, Config{FailureThreshold: 2})
	v := walker{rules: r, now: base}
	for range 3 {
		for _, s := range []signal{acquire, failure, acquire, success} {
			v.do(s)
		}
		if v.word != packedState(v.word.generation())<<generationShift {
			t.Fatalf("after a success the word is %x", v.word)
		}
		v.do(trip)
		v.now += r.open
		v.do(acquire)
		v.do(success)
	}
	if v.word != 9<<generationShift {
		t.Errorf("after three recoveries the word is %x, want generation 9 and nothing else", v.word)
	}
}

func TestGenerationWraps(t *testing.T) {
	r := stepRules(t, Config{FailureThreshold: 1})
	v := walker{rules: r, now: base, word: packedState(4095) << generationShift}
	v.do(failure)
	if v.word.generation() != 0 || v.word.state() != Open {
		t.Fatalf("generation 4095 is followed by %d, %v", v.word.generation(), v.word.state())
	}
	v.now += r.open
	v.do(acquire)
	before := v.word
	for _, s := range []signal{success, failure, cancel, verdict} {
		if v.late(s, 4095); v.word != before {
			t.Errorf("signal %d of generation 4095 changed %x to %x", s, before, v.word)
		}
	}
}

func TestOpenTimeGrows(t *testing.T) {
	grow := Config{RecoveryTimeout: 10 * time.Second, OpenGrowth: 2, OpenMax: 45 * time.Second, OpenJitter: .5}
	r := stepRules(t, grow)
	for i, want := range []struct{ none, most instant }{
		{10_000, 15_000}, {20_000, 30_000}, {40_000, 60_000}, {45_000, 67_500}, {45_000, 67_500},
	} {
		if got := r.openTime(i, 0); got != want.none {
			t.Errorf("after %d failed probes, u 0: %d ms, want %d", i, got, want.none)
		}
		if got := r.openTime(i, 1-1e-12); got < want.most-1 || got > want.most {
			t.Errorf("after %d failed probes, u 1: %d ms, want %d", i, got, want.most)
		}
	}
	for _, i := range []int{reopenMask, 1000, math.MaxInt} {
		if got := r.openTime(i, 0); got != 45_000 {
			t.Errorf("after %d failed probes: %d ms, want OpenMax", i, got)
		}
	}
	flat := stepRules(t, Config{RecoveryTimeout: 10 * time.Second})
	v := walker{rules: flat, now: base}
	v.do(trip)
	for i := range 20 {
		if d := flat.left(v.word, v.now, 0); d != 10_000 {
			t.Fatalf("without growth, opening %d lasts %d ms", i, d)
		}
		v.now += 10_000
		v.do(acquire)
		v.do(failure)
	}
}

func TestProbation(t *testing.T) {
	r := stepRules(t, Config{FailureThreshold: 1, RecoveryTimeout: time.Second, OpenGrowth: 2, OpenMax: 4 * time.Second})
	closedAfterTwoFailedProbes := func() walker {
		v := walker{rules: r, now: base}
		v.do(trip)
		for _, s := range []signal{failure, failure, success} {
			v.now += 10_000
			v.do(acquire)
			v.do(s)
		}
		return v
	}
	v := closedAfterTwoFailedProbes()
	if v.word.state() != Closed || v.word.reopened() != 2 || v.word.healthy() {
		t.Fatalf("on probation the word is %x", v.word)
	}
	v.now += 40_000 - 1 // ten times OpenMax, less a millisecond
	v.do(failure)
	if d := r.left(v.word, v.now, 0); d != 4000 {
		t.Errorf("a trip on probation opens for %d ms, want 4000", d)
	}
	for _, s := range []signal{acquire, success} {
		v = closedAfterTwoFailedProbes()
		v.now += 40_000 + 4096
		if v.do(s); !v.word.healthy() {
			t.Errorf("after the probation and signal %d the word is %x", s, v.word)
		}
	}
	v = closedAfterTwoFailedProbes()
	v.now += 40_000 + 4096 // the unit in which a word has it
	v.do(failure)
	if d := r.left(v.word, v.now, 0); d != 1000 {
		t.Errorf("a trip after the probation opens for %d ms, want 1000", d)
	}
}

// A clock that was read before the state used to be behind an instant that another
// goroutine set in between, which then seemed to be too far ahead: a lease that had just
// begun was taken over.
func TestClockALittleBehindTheWord(t *testing.T) {
	r := stepRules(t, Config{FailureThreshold: 1})
	v := walker{rules: r, now: base}
	v.do(failure)
	for _, behind := range []instant{1, 5, 1000, skew} {
		v.now = base - behind
		if v.do(acquire) {
			t.Errorf("%d ms behind, a breaker that has just opened admits", behind)
		}
	}
	v.now = base + r.open
	v.do(acquire)
	for _, behind := range []instant{1, 5, 1000, skew} {
		v.now = base + r.open - behind
		if v.do(acquire) {
			t.Errorf("%d ms behind, a lease that has just begun is taken over", behind)
		}
	}
}

// Neither the open time nor a lease ends early, whatever the fraction of a millisecond.
// Both used to end up to a millisecond early.
func TestNothingEndsEarly(t *testing.T) {
	r := stepRules(t, Config{FailureThreshold: 1, RecoveryTimeout: time.Second, ProbeLease: time.Second})
	start := time.UnixMilli(int64(base))
	for _, set := range []time.Duration{0, 1, 499_999, 500_000, 999_999} {
		for _, s := range []signal{failure, acquire} { // what begins the time
			from := start.Add(set)
			w := packedState(0)
			if s == acquire {
				w = w.next(Open)
			}
			w, _ = r.step(w, event{signal: s, generation: w.generation(), now: floor(from.UnixNano()), begin: ceil(from.UnixNano())})
			for _, asked := range []time.Duration{0, 1, time.Second - 1, time.Second, time.Second + time.Millisecond - 1} {
				now := from.Add(asked)
				_, admitted := r.step(w, event{signal: acquire, now: floor(now.UnixNano()), begin: ceil(now.UnixNano())})
				switch {
				case admitted && asked < time.Second:
					t.Errorf("set %v past the millisecond, %v ends after %v", set, w.state(), asked)
				case !admitted && (asked > time.Second || set == 0 && asked == time.Second):
					t.Errorf("set %v past the millisecond, %v has not ended after %v", set, w.state(), asked)
				}
			}
		}
	}
}

// A clock step keeps a breaker from admitting calls for at most its open time, rounded up
// to a multiple of 85 s, and a minute.
func TestClockSteps(t *testing.T) {
	for _, c := range []Config{
		{RecoveryTimeout: time.Second},
		{RecoveryTimeout: 30 * time.Second},
		{RecoveryTimeout: 20 * time.Minute}, // ten times that used to be the limit
		{RecoveryTimeout: 30 * time.Second, OpenGrowth: 2, OpenJitter: .3},
		{RecoveryTimeout: 5 * time.Second, OpenJitter: 1},
	} {
		r := stepRules(t, c)
		for _, hours := range []instant{-1000, -24, -1, 1, 24, 1000} {
			v := walker{rules: r, now: base, u: .9}
			v.do(trip)
			v.now += hours * 3_600_000
			if !v.do(acquire) {
				t.Errorf("%+v: %d h later by the clock, it is still open", c, hours)
			}
			v.now += hours * 3_600_000
			if !v.do(acquire) {
				t.Errorf("%+v: %d h later by the clock, the lease of its probe lasts", c, hours)
			}
		}
		for back := range instant(200) { // whatever the step, it ends
			v := walker{rules: r, now: base}
			v.do(trip)
			v.now -= back * 30_000
			begin := v.now
			for !v.do(acquire) {
				v.now += 1000
			}
			if waited := v.now - begin; waited > (r.openLimit/lengthUnit+1)*lengthUnit+skew {
				t.Errorf("%+v: put back by %d s, it stays open for %d ms", c, back*30, waited)
			}
		}
	}
}
