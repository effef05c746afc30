package circuit

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// smallRules are the configurations that the model goes through.
func smallRules() (all []rules) {
	c := Config{RecoveryTimeout: time.Minute, ProbeLease: time.Minute}
	for _, c.FailureThreshold = range []int{1, 2, Off} {
		for _, c.SuccessThreshold = range []int{1, 2} {
			for _, c.HalfOpenMax = range []int{1, 2} {
				for _, c.ProbeLease = range []time.Duration{time.Minute, 2 * time.Minute} {
					for _, c.OpenGrowth = range []float64{1, 2} {
						c.OpenMax = time.Duration(c.OpenGrowth) * time.Minute
						c.OpenJitter = c.OpenGrowth - 1
						r := c.filled().rules()
						r.throttled = 2
						if c.OpenGrowth == 1 || c.ProbeLease == time.Minute {
							all = append(all, r)
						}
					}
				}
			}
		}
	}
	return all
}

func TestModel(t *testing.T) {
	states, steps := 0, 0
	for _, r := range smallRules() {
		m := model{rules: r, step: (*rules).step}
		if err := m.explore(); err != nil {
			t.Fatal(err)
		}
		states, steps = states+len(m.todo), steps+m.steps
	}
	t.Logf("%d configurations, %d states, %d steps", len(smallRules()), states, steps)
	if states < 10_000 {
		t.Errorf("only %d states were reached", states)
	}
}

// The model finds bugs that are planted in the step.
func TestModelFindsBugs(t *testing.T) {
	for _, bug := range []struct {
		name string
		step stepping
		want string
	}{
		{"ignores generations", func(r *rules, w packedState, e event) (packedState, bool) {
			e.generation = w.generation()
			return r.step(w, e)
		}, "stale result"},
		{"forgets the lease", func(r *rules, w packedState, e event) (packedState, bool) {
			if e.signal == acquire && w.state() == HalfOpen && w.inFlight() == r.probes {
				return w, false
			}
			return r.step(w, e)
		}, "the lease is over"},
		{"takes over a lease that lasts", func(r *rules, w packedState, e event) (packedState, bool) {
			if w.state() == HalfOpen && e.signal == acquire {
				w = w.until(e.now)
			}
			return r.step(w, e)
		}, "leases are not over"},
		{"admits one probe too many", func(r *rules, w packedState, e event) (packedState, bool) {
			more := *r
			more.probes++
			return more.step(w, e)
		}, "too many"},
		{"opens while open", func(r *rules, w packedState, e event) (packedState, bool) {
			if w.state() == Open && e.signal == failure && e.generation == w.generation() {
				return r.opened(w, 0, e), false
			}
			return r.step(w, e)
		}, "opens while open"},
		{"trips while open", func(r *rules, w packedState, e event) (packedState, bool) {
			if w.state() == Open && e.signal == trip {
				return r.opened(w, 0, e), false
			}
			return r.step(w, e)
		}, "opens while open"},
		{"keeps the generation", func(r *rules, w packedState, e event) (packedState, bool) {
			n, ok := r.step(w, e)
			return bare(n) | w - bare(w), ok
		}, "generation does not"},
		{"keeps the place of a cancelled probe", func(r *rules, w packedState, e event) (packedState, bool) {
			if e.signal == cancel {
				return w, false
			}
			return r.step(w, e)
		}, "it counts"},
		{"keeps the place of a probe that was cut short", func(r *rules, w packedState, e event) (packedState, bool) {
			if e.signal == cut && w.state() == HalfOpen {
				return w, false
			}
			return r.step(w, e)
		}, "it counts"},
		{"takes a throttled response for a failure", func(r *rules, w packedState, e event) (packedState, bool) {
			if e.signal == throttled {
				e.signal = failure
			}
			return r.step(w, e)
		}, "opens for the wrong time"},
		{"counts a throttled response as a failure as well", func(r *rules, w packedState, e event) (packedState, bool) {
			n, ok := r.step(w, e)
			if e.signal == throttled && n.state() == Closed && n != w && n.failures()+1 < r.failures {
				n = n.run(n.failures() + 1)
			}
			return n, ok
		}, "changes the counts"},
		{"does not time the calls after one that was cut short", func(r *rules, w packedState, e event) (packedState, bool) {
			if e.signal == cut && w.state() == Closed {
				return w, false
			}
			return r.step(w, e)
		}, "cut short"},
		{"lets a call from before a throttled run end it", func(r *rules, w packedState, e event) (packedState, bool) {
			e.early = false
			return r.step(w, e)
		}, "from before the"},
		{"opens at the first hint", func(r *rules, w packedState, e event) (packedState, bool) {
			if e.signal == throttled && e.hint > 0 && w.state() == Closed && e.generation == w.generation() {
				return r.opened(w, 0, event{signal: throttled, hint: 2 * e.hint, begin: e.begin}), false
			}
			return r.step(w, e)
		}, "wrong time"},
		{"does not believe how long servers asked for", func(r *rules, w packedState, e event) (packedState, bool) {
			n, ok := r.step(w, e)
			if n.state() == Open && w.state() != Open && e.signal != remote {
				n = n.run(0)
			}
			return n, ok
		}, "wrong time"},
		{"does not hear how long a service that fails asked for", func(r *rules, w packedState, e event) (packedState, bool) {
			if e.signal == failure || e.signal == verdict {
				e.hint = 0
			}
			return r.step(w, e)
		}, "wrong time"},
		{"opens for a shorter time than its own, because a service that fails asked for that", func(r *rules, w packedState, e event) (packedState, bool) {
			n, ok := r.step(w, e)
			if e.signal == failure && e.hint > 0 && n.state() == Open && w.state() != Open {
				n = n.openFor(e.hint, e.begin)
			}
			return n, ok
		}, "wrong time"},
		{"cuts what it is told to its own open time", func(r *rules, w packedState, e event) (packedState, bool) {
			if e.signal == remote {
				e.until = min(e.until, e.begin+r.openLimit)
			}
			return r.step(w, e)
		}, "opens for another time"},
		{"ends an opening by its own rules", func(r *rules, w packedState, e event) (packedState, bool) {
			if e.signal == acquire && w.state() == Open && w.ahead(e.now, r.openLimit) == 0 && r.open < modelTick {
				w = w.until(e.now)
			}
			return r.step(w, e)
		}, "another process has admitted true"},
		{"lets an opening last by its own rules", func(r *rules, w packedState, e event) (packedState, bool) {
			if e.signal == acquire && w.state() == Open && w.ahead(e.now, r.openLimit) > 0 && r.open == maxProbation {
				return w, false
			}
			return r.step(w, e)
		}, "another process has admitted false"},
		{"ends a lease by its own rules", func(r *rules, w packedState, e event) (packedState, bool) {
			if w.state() == HalfOpen {
				e.longest = 0
			}
			return r.step(w, e)
		}, "takes over a lease"},
		{"ends a probation by its own rules", func(r *rules, w packedState, e event) (packedState, bool) {
			if e.signal == acquire && w.state() == Closed && w.reopened() > 0 && r.openMax < modelTick {
				w = w.next(Closed)
			}
			return r.step(w, e)
		}, "ends a probation"},
		{"never ends the runs", func(r *rules, w packedState, e event) (packedState, bool) {
			if e.signal == success && w.state() == Closed {
				e.early = true
			}
			return r.step(w, e)
		}, "does not end the runs"},
		{"counts a deadline as a failure", func(r *rules, w packedState, e event) (packedState, bool) {
			if e.signal == cut {
				e.signal = failure
			}
			return r.step(w, e)
		}, "without cause"},
		{"believes a clock that was put back", func(r *rules, w packedState, e event) (packedState, bool) {
			if w.state() == Open && e.signal == acquire && w.ahead(e.now, 2*farAhead) > 0 {
				return w, false
			}
			return r.step(w, e)
		}, "with 0 ms left"},
		{"never closes", func(r *rules, w packedState, e event) (packedState, bool) {
			n, ok := r.step(w, e)
			if w.state() == HalfOpen && e.signal == success && n.state() == Closed {
				return w.low(max(w.inFlight()-1, 0)), ok
			}
			return n, ok
		}, "no way out"},
		{"closes at the first success", func(r *rules, w packedState, e event) (packedState, bool) {
			if w.state() == HalfOpen && e.signal == success && e.generation == w.generation() && w.inFlight() > 0 {
				return r.closed(w, e.begin), false
			}
			return r.step(w, e)
		}, "too few successes"},
		{"opens for twice the time", func(r *rules, w packedState, e event) (packedState, bool) {
			n, ok := r.step(w, e)
			if n.state() == Open && w.state() != Open {
				n = n.until(e.begin + 2*r.left(n, e.now, e.longest))
			}
			return n, ok
		}, "wrong time"},
		{"opens for ever", func(r *rules, w packedState, e event) (packedState, bool) {
			if w.state() == Open && e.signal == acquire {
				return w, false
			}
			return r.step(w, e)
		}, "admitted is false"},
		{"leaves the lease in a closed breaker", func(r *rules, w packedState, e event) (packedState, bool) {
			n, ok := r.step(w, e)
			if w.state() == HalfOpen && n.state() == Closed {
				n = n.probation(e.begin)
			}
			return n, ok
		}, "an instant is left"},
		{"opens for as long as it is told", func(r *rules, w packedState, e event) (packedState, bool) {
			n, ok := r.step(w, e)
			if e.signal == remote && e.state == Open && n.state() == Open {
				n = n.until(e.until)
			}
			return n, ok
		}, "too long"},
		{"forgets to trip", func(r *rules, w packedState, e event) (packedState, bool) {
			if w.state() == Closed && e.signal == failure && e.generation == w.generation() {
				return w.run(w.failures() + 1), false
			}
			return r.step(w, e)
		}, "stays closed"},
	} {
		if err := exploreAll(bug.step); err == nil || !strings.Contains(err.Error(), bug.want) {
			t.Errorf("a step that %s: the model says %v; want %q", bug.name, err, bug.want)
		}
	}
}

// exploreAll returns the first fault of a step in any of the configurations.
func exploreAll(step stepping) error {
	for _, r := range smallRules() {
		m := model{rules: r, step: step}
		if err := m.explore(); err != nil {
			return err
		}
	}
	return nil
}

func (s modelState) String() string {
	w := s.word
	return fmt.Sprintf("{%v, generation %d, reopened %d, high %d, low %d, %d ms ahead, leases %v}", w.state(),
		w.generation(), w.reopened(), w.successes(), w.inFlight(), w.ahead(base, 2*farAhead), s.leases)
}

// bare is w without its generation.
func bare(w packedState) packedState { return w << (64 - generationShift) >> (64 - generationShift) }

// results: a call that was admitted comes back, by whatever end.
func (m *model) results(s modelState) error {
	g := s.word.generation()
	for _, e := range []event{
		{signal: success},
		{signal: success, early: true},
		{signal: failure},
		{signal: failure, u: 1}, // the ends of the jitter
		{signal: throttled},
		{signal: throttled, u: 1},
		{signal: throttled, hint: 3 * modelTick},
		{signal: throttled, hint: 1},
		{signal: failure, hint: 3 * modelTick},
		{signal: failure, hint: 1},
		{signal: verdict, hint: 3 * modelTick},
		{signal: cut},
		{signal: cancel},
		{signal: verdict},
		{signal: verdict, u: 1},
	} {
		e.generation = g
		switch s.word.state() {
		case Closed:
			n, _, err := m.next(s, e)
			if err != nil {
				return err
			}
			m.visit(n)
		case HalfOpen:
			if err := m.probeReturns(s, e); err != nil {
				return err
			}
		case Open, Isolated: // a result without a permit
			if n, _, err := m.next(s, e); err != nil || n != s {
				return fmt.Errorf("signal %d changes a breaker that admits nothing: %w", e.signal, err)
			}
		}
	}
	return nil
}

// setLeft is w with its instant that far ahead of base.
func setLeft(w packedState, d instant) packedState {
	if w.state() != Closed {
		return w.until(base + d)
	}
	units := packedState(base)>>probationShift + packedState(d+1<<probationShift-1)>>probationShift
	return w&^(instantMask>>probationShift<<probationShift) | units<<probationShift&instantMask
}

// probeReturns takes the result e for each of the probes that are out.
func (m *model) probeReturns(s modelState, e event) error {
	for i, l := range s.leases {
		if l < 0 || e.signal == verdict {
			continue
		}
		n, _, err := m.next(s, e)
		switch {
		case err != nil:
			return err
		case (e.signal == failure || e.signal == throttled) && n.word.state() != Open:
			return fmt.Errorf("a probe fails and leads to %v", n)
		case n.word.state() == HalfOpen:
			n = returned(n, i)
			if got := m.out(n); got != n.word.inFlight() && !n.careless {
				return fmt.Errorf("%d probes are out, and it counts %d", got, n.word.inFlight())
			}
		}
		m.visit(n)
	}
	return nil
}

// twice: a permit of this generation is used once more. That miscounts the
// probes, but must never shut the breaker for good.
func (m *model) twice(s modelState) error {
	if s.word.state() != HalfOpen || m.rules.probes == 1 && m.rules.successes == 1 {
		return nil
	}
	for _, signal := range []signal{success, failure, throttled, cut, cancel} {
		n, _, err := m.next(s, event{signal: signal, generation: s.word.generation()})
		if err != nil {
			return err
		}
		if n != s && n.word.state() == HalfOpen {
			n.careless = true
			n.leases = [3]int8{-1, -1, -1} // only the count is left
		}
		m.visit(n)
	}
	return nil
}

// wayOut checks that from every state that is not isolated, time and probes
// that succeed lead to a closed breaker, though no call that is out ever
// comes back.
func (m *model) wayOut() error {
	into := make([][]int32, len(m.todo))
	var next []int32
	good := make([]bool, len(m.todo))
	for i, s := range m.todo {
		for _, to := range m.on[i] {
			into[to] = append(into[to], int32(i))
		}
		if s.word.state() == Closed {
			good[i], next = true, append(next, int32(i))
		}
	}
	for len(next) > 0 {
		i := next[0]
		next = next[1:]
		for _, from := range into[i] {
			if !good[from] {
				good[from], next = true, append(next, from)
			}
		}
	}
	for i, s := range m.todo {
		if !good[i] && s.word.state() != Isolated {
			return fmt.Errorf("there is no way out of state %v of %+v", s, m.rules)
		}
	}
	return nil
}

// out is the number of probes of s whose results count.
func (m *model) out(s modelState) (n int) {
	for _, l := range s.leases {
		if l >= 0 {
			n++
		}
	}
	return n
}

// returned is s without probe i, if there is one.
func returned(s modelState, i int) modelState {
	if i >= 0 {
		s.leases[i] = -1
	}
	return ordered(s)
}

// ordered is s in the one order that stands for all: live probes first.
func ordered(s modelState) modelState {
	slices.SortFunc(s.leases[:], func(a, b int8) int { return int(b) - int(a) })
	return s
}
