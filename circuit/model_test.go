package circuit

import (
	"fmt"
	"slices"
	"time"
)

// This file walks through everything that a breaker can do: from the word of a
// new breaker, breadth first, along every event that may come next, for each
// of many small configurations, and holds each step against what a breaker
// promises.
//
// Time goes in ticks of a minute. A state's word is kept as if it were now the
// instant base and its generation 0: what has passed has passed, so the states
// are finite. Permits of earlier generations need no place in the state, since
// their results must change nothing in any state.

// tick of the model, and a distance beyond which an instant lies too far ahead.
const (
	modelTick = instant(time.Minute / time.Millisecond)
	farAhead  = 24 * 60 * modelTick
)

// A modelState is one node of the graph.
type modelState struct {
	word packedState
	// The leases of probes that are out and whose results count, in ticks,
	// ascending; 0: over. The rest of the array is -1.
	leases [3]int8
	// What the cell has beside the word, for processes with other rules.
	longest instant
	// A permit has been used twice, so the places of probes are miscounted.
	careless bool
}

// A stepping is the function under test, or one with a planted bug.
type stepping func(r *rules, w packedState, e event) (packedState, bool)

// A model explores one configuration.
type model struct {
	rules rules
	step  stepping
	seen  map[modelState]int // the number of each state
	todo  []modelState
	on    [][]int32 // edges that time and fresh, successful probes make, by number
	steps int
}

// explore visits all states and returns the first fault, or nil.
func (m *model) explore() error {
	m.seen = map[modelState]int{}
	m.visit(modelState{leases: [3]int8{-1, -1, -1}})
	for i := 0; i < len(m.todo); i++ {
		if err := m.expand(m.todo[i]); err != nil {
			return fmt.Errorf("%w\nin state %v of %+v", err, m.todo[i], m.rules)
		}
	}
	return m.wayOut()
}

// visit notes s as a state to expand, and returns its number.
func (m *model) visit(s modelState) int {
	s.word = bare(s.word)
	if n, ok := m.seen[s]; ok {
		return n
	}
	m.seen[s] = len(m.todo)
	m.todo = append(m.todo, s)
	m.on = append(m.on, nil)
	return len(m.todo) - 1
}

// expand takes every event that may come in state s.
func (m *model) expand(s modelState) error {
	for _, take := range []func(modelState) error{m.stale, m.manual, m.fleet, m.clock, m.call, m.results, m.twice} {
		if err := take(s); err != nil {
			return err
		}
	}
	return nil
}

// next makes the step for e and checks what holds for every step.
func (m *model) next(s modelState, e event) (modelState, bool, error) {
	m.steps++
	e.now, e.begin, e.longest = base, base, s.longest
	w, admitted := m.step(&m.rules, s.word, e)
	if err := m.sound(s.word, w, e); err != nil {
		return s, false, fmt.Errorf("signal %d leads to %v: %w", e.signal, modelState{word: w}, err)
	}
	if w.generation() != s.word.generation() {
		s.leases = [3]int8{-1, -1, -1} // their results no longer count
		s.careless = false
	}
	s.word, s.longest = w, max(s.longest, m.rules.unsaid(w, e))
	if s.longest <= m.rules.lease && w.state() != HalfOpen {
		s.longest = 0 // it has no effect until the next lease
	}
	return s, admitted, nil
}

// sound checks one step by itself.
func (m *model) sound(before, after packedState, e event) error {
	r := &m.rules
	from, to := before.state(), after.state()
	switch {
	case from == Open && to == Open && before != after:
		if e.signal != remote || after.run(0).until(0) != before.run(0).until(0) {
			return fmt.Errorf("it opens while open")
		}
	case after.generation() != before.generation() && after.generation() != before.next(Closed).generation():
		return fmt.Errorf("the generation jumps")
	case from != to && after.generation() == before.generation():
		return fmt.Errorf("the state changes and the generation does not")
	case from == Isolated && to != Isolated && e.signal != reset && e.signal != remote:
		return fmt.Errorf("an isolated breaker lets itself out")
	case from != Isolated && to == Isolated && e.signal != isolate && e.signal != remote:
		return fmt.Errorf("it isolates itself")
	case to == Open && from != Open && e.signal != failure && e.signal != throttled && e.signal != verdict && e.signal != trip && e.signal != remote:
		return fmt.Errorf("it opens without cause")
	case to == Closed && from != Closed && e.signal != success && e.signal != reset && e.signal != remote:
		return fmt.Errorf("it closes without cause")
	case to == HalfOpen && from != HalfOpen && e.signal != acquire:
		return fmt.Errorf("it is half-open without a call")
	case from == HalfOpen && to == Closed && e.signal == success && before.successes()+1 < r.successes:
		return fmt.Errorf("it closes after too few successes")
	case e.signal == remote && e.state == Open && to == Open && (after.ahead(base, 2*maxOpening) < 0 || after.ahead(base, 2*maxOpening) > maxOpening):
		return fmt.Errorf("it is told to open, and opens for too long")
	case e.signal == remote && e.state == Open && to == Open && max(0, r.left(after, base, r.unsaid(after, e))) != max(0, min(e.until-base, maxOpening)):
		return fmt.Errorf("it is told to open, and opens for another time")
	case to == Open && from != Open && e.signal != remote && r.left(after, base, 0) != m.openTime(after, e):
		return fmt.Errorf("it opens for the wrong time")
	}
	if err := m.counts(before, after, e); err != nil {
		return err
	}
	return m.tidy(after)
}

// openTime is for how long e opens a breaker that becomes after.
func (m *model) openTime(after packedState, e event) instant {
	own := m.rules.openTime(after.reopened(), e.u)
	if e.signal == throttled && e.hint > 0 {
		return e.hint
	}
	return max(own, e.hint)
}

// counts checks what a result does to the counts of a breaker that stays closed.
func (m *model) counts(before, after packedState, e event) error {
	if before.state() != Closed || after.state() != Closed || e.generation != before.generation() {
		return nil
	}
	run, row := after.failures()-before.failures(), after.throttled()-before.throttled()
	switch {
	case e.signal == throttled && (run != 0 || row != 1):
		return fmt.Errorf("a throttled response changes the counts by %d and %d", run, row)
	case e.signal == failure && (row != 0 || m.rules.failures > 0 && run != 1):
		return fmt.Errorf("a failure changes the counts by %d and %d", run, row)
	case e.signal == cut && (run != 0 || row != 0 || !after.timed()):
		return fmt.Errorf("after a call that was cut short the next are not timed, or the counts change")
	case e.signal == success && !e.early && (after.failures() != 0 || after.throttled() != 0):
		return fmt.Errorf("a success does not end the runs")
	case e.signal == success && e.early && row != 0:
		return fmt.Errorf("a success of a call from before the first throttled response ends their run")
	case e.signal == success && e.early && before.failures() > 0 && (run != 0) != before.spared():
		return fmt.Errorf("a success of a call from before the run, spared %v, changes it by %d", before.spared(), run)
	}
	return nil
}

// tidy checks that a word holds nothing that its state does not need.
func (m *model) tidy(w packedState) error {
	r := &m.rules
	counts := w >> lowShift & runMask
	switch w.state() {
	case Closed:
		if w.reopened() == 0 && w&instantMask>>probationShift != 0 {
			return fmt.Errorf("an instant is left in a closed breaker")
		}
		if w.throttled() >= r.throttled {
			return fmt.Errorf("it counts %d throttled responses and stays closed", w.throttled())
		}
		if w.spared() && w.failures() == 0 {
			return fmt.Errorf("a run is spared that has ended")
		}
		if w.failures() >= max(r.failures, 1) {
			return fmt.Errorf("it counts %d failures and stays closed", w.failures())
		}
	case Open:
		if instant(counts)*lengthUnit >= maxHint+lengthUnit {
			return fmt.Errorf("counts are left in an open breaker")
		}
	case HalfOpen:
		if w.successes() >= r.successes || w.inFlight() > r.probes {
			return fmt.Errorf("%d successes and %d probes are too many", w.successes(), w.inFlight())
		}
	case Isolated:
		if bare(w) != packedState(Isolated)<<stateShift {
			return fmt.Errorf("something is left in an isolated breaker")
		}
	}
	if r.growth <= 1 && w.state() == Closed && w.reopened() != 0 {
		return fmt.Errorf("without growth it is on probation")
	}
	return nil
}

// stale: results of earlier generations change nothing.
func (m *model) stale(s modelState) error {
	for _, signal := range []signal{success, failure, throttled, cut, cancel, verdict} {
		for _, g := range []uint16{s.word.generation() - 1, s.word.generation() + 1} {
			w, _ := m.step(&m.rules, s.word, event{signal: signal, generation: g & 4095, now: base, begin: base})
			if m.steps++; w != s.word {
				return fmt.Errorf("a stale result, signal %d, leads to %v", signal, modelState{word: w})
			}
		}
	}
	return nil
}

// manual checks that Trip, Isolate and Reset lead to the state that they name.
func (m *model) manual(s modelState) error {
	for signal, want := range map[signal]State{trip: Open, isolate: Isolated, reset: Closed} {
		n, _, err := m.next(s, event{signal: signal})
		if signal == trip && s.word.state() == Isolated {
			want = Isolated
		}
		switch {
		case err != nil:
			return err
		case n.word.state() != want:
			return fmt.Errorf("manual signal %d leads to %v", signal, n)
		case signal == reset && !n.word.healthy():
			return fmt.Errorf("a reset leaves %v", n)
		}
		m.visit(n)
	}
	return nil
}

// fleet: the state that others have agreed on is what there is, but that
// no breaker is set to half-open by others, and that an isolated breaker is not opened.
func (m *model) fleet(s modelState) error {
	for want := Closed; want <= Isolated; want++ {
		for _, until := range []instant{-1 << 40, base, base + m.rules.open, base + 2*maxOpening, base + 3*modelTick} {
			if want != Open && until != base || until > base+maxOpening && m.rules.growth > 1 {
				continue // it has no meaning, or doubles the states of large configurations
			}
			n, _, err := m.next(s, event{signal: remote, state: want, until: until})
			switch {
			case err != nil:
				return err
			case want == HalfOpen || want == Open && s.word.state() == Isolated:
				if n != s {
					return fmt.Errorf("told to be %v, it is %v", want, n)
				}
			case n.word.state() != want:
				return fmt.Errorf("told to be %v, it is %v", want, n)
			case want == Closed && s.word.state() != Closed && !n.word.healthy():
				return fmt.Errorf("told to be closed, it is %v", n)
			}
			m.visit(n)
		}
	}
	return nil
}

// clock: a tick passes, or the clock is put to somewhere else altogether.
func (m *model) clock(s modelState) error {
	if s.word.state() == Isolated || s.word.state() == Closed && s.word.reopened() == 0 {
		return nil // no time runs
	}
	left := m.rules.left(s.word, base, s.longest)
	over := left <= 0 && s.word.state() != Closed && s.word.ahead(base, maxOpening) > 0
	if over {
		left = farAhead
	}
	from := m.visit(s)
	passed, put := s, s
	for i, l := range s.leases {
		passed.leases[i] = max(l-1, min(l, 0))
		put.leases[i] = min(l, 0) // their age is not known
	}
	far := max(m.rules.probation(), m.rules.openLimit, m.rules.lease, 3*modelTick) + 2*modelTick
	switch {
	case over: // it stays too far ahead, or comes back in reach as by the clock below
	case left <= far:
		passed.word = setLeft(s.word, max(left-modelTick, 0))
	default: // what servers and others asked for passes, in one step for many ticks
		passed = put
		passed.word = setLeft(s.word, 0)
	}
	m.on[from] = append(m.on[from], int32(m.visit(passed)))

	for _, d := range []instant{0, min(left+modelTick, far), farAhead} {
		put.word = setLeft(s.word, d)
		m.visit(put)
	}
	return nil
}

// call: someone asks to make a call.
func (m *model) call(s modelState) error {
	n, admitted, err := m.next(s, event{signal: acquire})
	if err != nil {
		return err
	}
	if err := m.others(s, n, admitted); err != nil {
		return err
	}
	left := m.rules.left(s.word, base, s.longest)
	switch state := s.word.state(); {
	case state == Closed && !admitted:
		return fmt.Errorf("a closed breaker refuses a call")
	case state == Isolated && admitted:
		return fmt.Errorf("an isolated breaker admits a call")
	case state == Open && admitted != (left <= 0):
		return fmt.Errorf("admitted is %v with %d ms left", admitted, left)
	case state == HalfOpen && !admitted && s.word.inFlight() < m.rules.probes:
		return fmt.Errorf("a place is free, and a probe is refused")
	case state == HalfOpen && !admitted && left <= 0:
		return fmt.Errorf("the lease is over, and its place is not free")
	case !admitted && n != s:
		return fmt.Errorf("a refused call changes the state")
	}
	if admitted && n.word.state() == HalfOpen {
		if n, err = m.probe(s, n); err != nil {
			return err
		}
	}
	m.visit(n)
	return nil
}

// others: processes with other rules keep to what the one that set the state has decided.
// n is the state after a call of a process with the rules of m, which is admitted or not.
func (m *model) others(s, n modelState, admitted bool) error {
	for _, d := range []time.Duration{time.Millisecond, maxOpen} {
		other := Config{RecoveryTimeout: d, ProbeLease: d}.filled().rules()
		w, passes := m.step(&other, s.word, event{signal: acquire, now: base, begin: base, longest: s.longest})
		switch state := s.word.state(); {
		case state == Closed && w != n.word:
			return fmt.Errorf("another process ends a probation or lets it last")
		case state == Open && passes != admitted:
			return fmt.Errorf("another process has admitted %v in an opening, and this one %v", passes, admitted)
		case state == HalfOpen && passes && !admitted:
			return fmt.Errorf("another process takes over a lease that lasts")
		}
	}
	return nil
}

// probe notes that a probe goes out between s and n, and that it comes back
// well at once: that is the way out that there must be.
func (m *model) probe(s, n modelState) (modelState, error) {
	live := 1
	for _, l := range s.leases {
		if l > 0 {
			live++
		}
	}
	if live > m.rules.probes && !s.careless {
		return n, fmt.Errorf("%d probes are out, and their leases are not over", live)
	}
	n.leases[0], n.leases[1], n.leases[2] = int8(m.rules.lease/modelTick), n.leases[0], n.leases[1]
	n = ordered(n)
	if got := m.out(n); got != n.word.inFlight() && !n.careless {
		return n, fmt.Errorf("%d probes are out, and it counts %d", got, n.word.inFlight())
	}
	back, _, err := m.next(n, event{signal: success, generation: n.word.generation()})
	if err != nil {
		return n, err
	}
	if back.word.state() == HalfOpen {
		back = returned(back, slices.Index(back.leases[:], int8(m.rules.lease/modelTick)))
	}
	from := m.visit(s)
	m.on[from] = append(m.on[from], int32(m.visit(back)))
	return n, nil
}
