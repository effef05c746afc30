package gate

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// The model goes through every state that two callers can bring about, with a
// clock that moves in steps, and checks in each what must hold.

const (
	second  = int64(time.Second)
	milli   = int64(time.Millisecond)
	modelAt = 1_800_000_000 * second // when the model begins
	modelOf = 10 * time.Millisecond  // its base
)

// A planner is [task.plan], or that with a planted bug.
type planner func(*task)

// A model is a search through the states.
type model struct {
	plan planner
	rare bool
	most int // states
	seen map[key]bool
	todo []place
}

// A place is a state that was reached.
type place struct {
	words [3]uint64
	now   int64
	out   [2]Permit // of attempts that have not ended
	made  [2]bool   // whether there is one
}

func (p *place) state() state { return unpack(p.words[0], p.words[1], p.words[2], p.now) }

// A key is what tells a place from others: its state but for the generation, with
// instants relative to now, and no further away than matters.
type key struct {
	state                 state
	last, refused, since  int64 // ms
	made, current, before [2]bool
	how                   [2]How
	age                   [2]int64
}

func (p *place) key() key {
	s := p.state()
	age := func(t, most int64) int64 { return min((p.now-t)/milli, most) }
	k := key{state: s, last: age(s.last, 2500), refused: age(s.refused, 160), since: age(s.since, 1000), made: p.made}
	k.state.generation, k.state.last, k.state.refused, k.state.since = 0, 0, 0, 0
	for i, permit := range p.out {
		if p.made[i] {
			k.current[i], k.how[i] = s.generation == permit.Generation, permit.How
			k.age[i], k.before[i] = age(permit.Start, 30), permit.Start < s.since
		}
	}
	return k
}

// do makes t at p, and returns the place that it leads to.
func (m *model) do(p place, t task) (place, task) {
	t.now, t.old, t.Rare = p.now, p.words, m.rare
	m.plan(&t)
	p.words = t.new
	return p, t
}

var (
	outcomes = []Outcome{Cancelled, Success, Failure, Throttled, TimedOut, Cut, Late}
	waits    = []time.Duration{5 * time.Millisecond, 25 * time.Millisecond, quiet, sparseMax}
)

// explore searches from a gate that knows nothing, from one that is warm, from one
// that the next failure limits, and from one that is limited.
func (m *model) explore() error {
	m.seen = map[key]bool{}
	healthy := state{warm: fewest, base: modelOf, last: modelAt, refused: modelAt}
	trouble := healthy
	trouble.limit(false, modelAt)
	almost := healthy
	almost.over, almost.run = inARow-1, 2*inARow-1
	for _, s := range []state{{last: modelAt}, trouble, almost, healthy} {
		a, b, c := s.pack()
		m.add(place{words: [3]uint64{a, b, c}, now: modelAt})
	}
	for i := 0; i < len(m.todo) && i < m.most; i++ {
		if err := m.expand(m.todo[i]); err != nil {
			return fmt.Errorf("%w, in %+v", err, m.todo[i].state())
		}
	}
	return nil
}

func (m *model) add(p place) {
	if s := p.state(); s.credits > 3 || s.operations > 3 {
		return
	}
	if k := p.key(); !m.seen[k] {
		m.seen[k] = true
		m.todo = append(m.todo, p)
	}
}

// expand adds what follows p.
func (m *model) expand(p place) error {
	if err := m.wayOut(p); err != nil {
		return err
	}
	for _, d := range waits {
		next := p
		next.now += int64(d)
		m.add(next)
	}
	for _, t := range []task{{kind: arrive}, {kind: warn}, {kind: hasten, u: 0.5}} {
		next, _ := m.do(p, t)
		if err := fields(next.state()); err != nil {
			return fmt.Errorf("task %d: %w", t.kind, err)
		}
		m.add(next)
	}
	for i := range p.out {
		if err := m.move(p, i); err != nil {
			return err
		}
		if p.made[0] == p.made[1] && p.out[0] == p.out[1] {
			break // the other is the same
		}
	}
	return nil
}

// move begins or ends the attempt i.
func (m *model) move(p place, i int) error {
	if !p.made[i] {
		for _, follows := range []bool{false, true} {
			next, t := m.do(p, task{kind: admit, follows: follows})
			if t.admitted {
				next.made[i] = true
				next.out[i] = Permit{Start: p.now, Generation: t.next.generation, How: t.how}
			}
			m.add(next)
			if err := checkAdmit(p, next, t); err != nil {
				return err
			}
		}
		return nil
	}
	for _, o := range outcomes {
		next, _ := m.do(p, task{kind: done, permit: p.out[i], outcome: o})
		if err := checkDone(p, next, p.out[i], o); err != nil {
			return fmt.Errorf("outcome %d of %+v: %w", o, p.out[i], err)
		}
		next.made[i], next.out[i] = false, Permit{}
		m.add(next)
	}
	return nil
}

func checkAdmit(p, next place, t task) error {
	before, after := p.state(), next.state()
	paid := before.credits - after.credits
	switch {
	case !before.limited && !t.admitted:
		return errors.New("refused in health")
	case !before.limited && next != (place{words: p.words, now: p.now, made: next.made, out: next.out}):
		return errors.New("a call in health writes")
	case t.admitted && t.how.paid() && paid != 1, !t.how.paid() && paid != 0:
		return fmt.Errorf("admitted %v (%d), paid %d", t.admitted, t.how, paid)
	case before.limited && t.admitted && t.how == Freely:
		return errors.New("freely admitted while limited")
	case !t.admitted && before.limited && after.refused/milli != p.now/milli:
		return errors.New("a refusal is not noted")
	}
	return fields(after)
}

func checkDone(p, next place, permit Permit, o Outcome) error {
	before, after := p.state(), next.state()
	stale := permit.Generation != before.generation
	gift, most := after.credits-before.credits, 0
	switch {
	case before.limited != after.limited:
		gift = 0
	case o == Success:
		most = 2
	case permit.How.paid() && !stale:
		most = 1
	}
	switch {
	case stale && before.limited != after.limited:
		return errors.New("a stale result changes the state")
	case before.limited && !after.limited && o != Success:
		return errors.New("lifted by what is no success")
	case !before.limited && after.limited && (o == Success || o == Cancelled):
		return errors.New("limited by what is no failure")
	case before.limited && !after.limited && p.now-before.refused < int64(quiet):
		return errors.New("lifted while callers are in line")
	case gift < 0, gift > most:
		return fmt.Errorf("gives %d credits, want at most %d", gift, most)
	case before.limited != after.limited && after.generation == before.generation:
		return errors.New("a change without a new generation")
	case after.limited && !before.limited && after.credits != 0:
		return errors.New("limited with credits")
	}
	return fields(after)
}

// fields checks that no field has more than fits.
func fields(s state) error {
	if s.run > maxRow || s.over > maxRow || s.warm > fewest || s.credits < 0 || s.credits > maxCredits || s.base < 0 || s.base > maxBase {
		return errors.New("a field has more than fits")
	}
	if !s.limited && (s.slow || s.credits != 0) {
		return errors.New("health has credits, or is slow")
	}
	return nil
}

// wayOut checks that a caller that keeps asking is admitted soon, and that from
// then on successes alone lift the limit.
func (m *model) wayOut(p place) error {
	from := p.now
	for i := 0; p.state().limited; i++ {
		if i == 2 {
			return errors.New("two successes without a refusal do not lift the limit")
		}
		if p.now-p.state().refused < int64(quiet) {
			p.now += int64(quiet) // without any attempt
		}
		next, t := m.ask(p)
		if !t.admitted || next.now-from > int64(sparseMax)*5/4 {
			return fmt.Errorf("no attempt is admitted for %v", time.Duration(next.now-from))
		}
		permit := Permit{Start: next.now, Generation: t.next.generation, How: t.how}
		next.now += int64(modelOf)
		next, _ = m.do(next, task{kind: done, permit: permit, outcome: Success})
		p, from = next, next.now
	}
	return nil
}

// ask asks for an attempt whenever it may be due, until it is admitted. The
// demand falls meanwhile, so it may turn out not to be due yet.
func (m *model) ask(p place) (next place, t task) {
	for range 100 {
		words := new(Words)
		for i, w := range p.words {
			words[i].Store(w)
		}
		p.now = max(p.now, Gate{Words: words, Rare: m.rare}.Next(p.now))
		if next, t = m.do(p, task{kind: admit}); t.admitted {
			break
		}
		p.now += milli
	}
	return next, t
}

func TestModel(t *testing.T) {
	for _, rare := range []bool{false, true} {
		m := model{plan: (*task).plan, rare: rare, most: 60_000}
		if rare {
			m.most = 20_000
		}
		if err := m.explore(); err != nil {
			t.Fatal(err)
		}
		t.Logf("rare %v: %d states, %d seen", rare, min(len(m.todo), m.most), len(m.todo))
		if len(m.todo) < 10_000 {
			t.Errorf("only %d states were reached", len(m.todo))
		}
	}
}

// The model finds bugs that are planted in the step.
func TestModelFindsBugs(t *testing.T) {
	altered := func(change func(t *task, before state, s *state)) planner {
		return func(t *task) {
			t.plan()
			before := unpack(t.old[0], t.old[1], t.old[2], t.now)
			s := t.next
			change(t, before, &s)
			t.next = s
			t.pack(&before)
		}
	}
	for name, bug := range map[string]struct {
		plan planner
		want string
	}{
		"refuses in health": {func(t *task) {
			t.plan()
			t.admitted = t.admitted && (t.next.limited || t.next.over < 4)
		}, "refused in health"},
		"ignores generations": {func(t *task) {
			t.permit.Generation = uint8(t.old[0] >> generationShift)
			t.plan()
		}, "stale result"},
		"never probes": {func(t *task) {
			if t.plan(); t.kind == admit && t.how == AsProbe {
				t.admitted = false
			}
		}, "no attempt is admitted"},
		"gives a probe a credit": {altered(func(t *task, _ state, s *state) {
			if t.how == AsProbe {
				s.credits++
			}
		}), "paid"},
		"gives three": {altered(func(t *task, before state, s *state) {
			if t.kind == done && t.outcome == Success && s.limited && before.limited {
				s.credits++
			}
		}), "want at most"},
		"gives a credit back twice": {altered(func(t *task, before state, s *state) {
			if t.kind == done && t.outcome == Cancelled && s.credits > before.credits {
				s.credits++
			}
		}), "want at most"},
		"does not note refusals": {altered(func(t *task, before state, s *state) {
			if t.kind == admit {
				s.refused = before.refused
			}
		}), "not noted"},
		"lifts with a line": {func(t *task) {
			if t.kind == done && t.outcome == Success {
				t.old[1] = (t.old[1]&^refusedMask | uint64(t.now/milli-1000)&refusedMask)
			}
			t.plan()
		}, "in line"},
		"lifts at a failure": {altered(func(t *task, _ state, s *state) {
			if t.kind == done && t.outcome == Failure && s.limited && s.credits > 1 {
				s.lift(t.now)
			}
		}), "no success"},
		"does not lift": {altered(func(_ *task, before state, s *state) {
			if before.limited && !s.limited {
				*s = before
			}
		}), "do not lift"},
		"keeps the generation": {altered(func(_ *task, before state, s *state) {
			s.generation = before.generation
		}), "new generation"},
		"counts past the field": {altered(func(t *task, _ state, s *state) {
			if t.kind == done && t.outcome == Failure {
				s.warm++
			}
		}), "more than fits"},
	} {
		t.Run(name, func(t *testing.T) {
			m := model{plan: bug.plan, most: 20_000}
			err := m.explore()
			if err == nil {
				t.Fatalf("not found in %d states", len(m.todo))
			}
			if !strings.Contains(err.Error(), bug.want) {
				t.Errorf("found %q, want %q", err, bug.want)
			}
		})
	}
}
