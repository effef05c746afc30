package gate

import (
	"errors"
	"fmt"
	"testing"
)

// A race is a set of tasks of several processes, which are interleaved at each
// access to the words in every way. Each way must end as one in which they come
// one after the other.
type race struct {
	from    [3]uint64
	tasks   []task
	advance func(*task)
	ends    map[end]bool // of one after the other
	ways    int
}

// An end is what a race ends with, without the instants of the last refusal and
// of a fast success, which are those of any of them, and without the pace of
// a gate in health, which is not read.
type end struct {
	first    uint64
	pace     uint64
	demand   uint64
	admitted string
}

func ending(words *Words, tasks []task) end {
	e := end{first: words[0].Load(), demand: words[2].Load() >> sinceBits}
	if e.first&limitedBit != 0 {
		e.pace = words[1].Load() >> refusedBits
	}
	for _, t := range tasks {
		e.admitted += fmt.Sprint(t.admitted, t.how, t.change, ";")
	}
	return e
}

func words(from [3]uint64) *Words {
	w := new(Words)
	for i := range w {
		w[i].Store(from[i])
	}
	return w
}

// serial runs the tasks one after the other, in each order.
func (r *race) serial(w *Words, tasks []task) {
	all := true
	for i := range tasks {
		if tasks[i].at == finished {
			continue
		}
		all = false
		next, rest := words([3]uint64{w[0].Load(), w[1].Load(), w[2].Load()}), append([]task(nil), tasks...)
		for rest[i].Words = next; rest[i].at != finished; {
			rest[i].advance()
		}
		r.serial(next, rest)
	}
	if all {
		r.ends[ending(w, tasks)] = true
	}
}

// interleave goes through all orders of the next accesses.
func (r *race) interleave(w *Words, tasks []task) error {
	all := true
	for i := range tasks {
		if tasks[i].at == finished {
			continue
		}
		all = false
		next, rest := words([3]uint64{w[0].Load(), w[1].Load(), w[2].Load()}), append([]task(nil), tasks...)
		rest[i].Words = next
		r.advance(&rest[i])
		if err := r.interleave(next, rest); err != nil {
			return err
		}
	}
	if !all {
		return nil
	}
	r.ways++
	if e := ending(w, tasks); !r.ends[e] {
		return fmt.Errorf("ends with %+v, which no order does: %+v", e, r.ends)
	}
	return nil
}

// run reports the first way that ends as no order does.
func (r *race) run() error {
	r.ends = map[end]bool{}
	r.serial(words(r.from), r.tasks)
	return r.interleave(words(r.from), r.tasks)
}

// races are pairs and triples of tasks, from states in which they meet.
func races(advance func(*task)) (all []race) {
	healthy := state{warm: fewest, base: modelOf, last: modelAt, refused: modelAt, over: inARow - 1}
	poor := state{warm: fewest, base: modelOf, limited: true, credits: 1, last: modelAt, refused: modelAt, operations: 100, since: modelAt - second, generation: 1}
	rich := poor
	rich.credits = 2
	broke := poor
	broke.credits = 0
	due := broke
	due.last -= 3 * second
	shut := due
	shut.run = inARow
	now := modelAt + milli
	paid := Permit{Start: now - milli, Generation: 1, How: ByCredit}
	ask := task{kind: admit, now: now}
	later := task{kind: admit, now: now + 2*milli}
	tasks := []task{
		ask, later,
		{kind: admit, now: now, follows: true},
		{kind: done, now: now + second, permit: paid, outcome: Success},
		{kind: done, now: now, permit: paid, outcome: TimedOut},
		{kind: done, now: now, permit: Permit{Start: now - milli}, outcome: Throttled},
		{kind: arrive, now: now},
		{kind: reset, now: now},
		{kind: warn, now: now},
		{kind: hasten, now: now, u: 0.5},
	}
	for _, s := range []state{healthy, poor, rich, broke, due, shut} {
		a, b, c := s.pack()
		for i := range tasks {
			for j := range i + 1 {
				all = append(all, race{from: [3]uint64{a, b, c}, advance: advance, tasks: []task{tasks[i], tasks[j]}})
			}
		}
		all = append(all, race{from: [3]uint64{a, b, c}, advance: advance, tasks: []task{ask, ask, ask}})
	}
	return all
}

func TestTasksThatMeetAreLikeOneAfterTheOther(t *testing.T) {
	ways := 0
	for _, r := range races((*task).advance) {
		if err := r.run(); err != nil {
			t.Errorf("%+v and %+v from %+v: %v", r.tasks[0], r.tasks[1], unpack(r.from[0], r.from[1], r.from[2], modelAt+milli), err)
		}
		ways += r.ways
	}
	t.Logf("%d interleavings", ways)
}

// The race test finds bugs that are planted in how tasks write.
func TestRacesFindBugs(t *testing.T) {
	for name, advance := range map[string]func(*task){
		"writes the first word without looking": func(t *task) {
			if t.at == deciding {
				t.old[0] = t.Words[0].Load()
			}
			t.advance()
		},
		"writes the pace without looking": func(t *task) {
			if t.at == pacing {
				t.old[1] = t.Words[1].Load()
			}
			t.advance()
		},
		"keeps a credit for which others were faster": func(t *task) {
			if t.advance(); t.at == returning {
				t.at = reading
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var found error
			for _, r := range races(advance) {
				found = errors.Join(found, r.run())
			}
			if found == nil {
				t.Error("not found")
			}
		})
	}
}
