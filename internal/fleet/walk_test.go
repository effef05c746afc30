package fleet

import (
	"hash/maphash"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/fleet/twin"
)

// forget clears what no step will read.
func (n *node) forget(w *world) {
	m := &n.m
	m.updatedAt = time.Time{}
	if m.token == 0 {
		m.leaseEnds, m.leaseUsed = time.Time{}, false
	}
	if m.appliedGen != m.view.gen {
		m.appliedGen = -1
	}
	if m.settledToken != w.s.Gen && m.settledToken != m.view.gen && (!n.sent || m.settledToken != n.response.gen) {
		m.settledToken = 0
	}
	if !m.known {
		m.view = view{}
	}
	if m.view.state != circuit.Open {
		m.view.until = past
	}
	if m.view.lease != future {
		m.view.lease, m.view.process, m.view.node = past, "", ""
	}
	n.fresh = n.fresh && n.sent
}

// A walk is the states that have been found, by number.
type walk struct {
	start  world
	steps  []step
	from   []int32 // the state from which each was first reached
	by     []int8  // and the step
	back   [][]int32
	closed []int32 // states in which all is well
}

// explore walks through all that can happen from w. It returns the first thing
// that is wrong with the steps that lead to it, and else the number of states.
func explore(w world, bug string) (wrong string, trail []string, states int) {
	all := func(i int) []step { return append(steps(i, bug), overrideSteps(i, bug)...) }
	x := &walk{start: w, steps: append(append(all(0), all(1)...), serverSteps()...)}
	seed := maphash.MakeSeed()
	found := map[uint64]int32{}
	add := func(w *world, from int32, by int8) (int32, bool) {
		h := maphash.Comparable(seed, *w)
		if i, ok := found[h]; ok {
			return i, false
		}
		i := int32(len(x.from))
		found[h] = i
		x.from, x.by, x.back = append(x.from, from), append(x.by, by), append(x.back, nil)
		if w.healed() {
			x.closed = append(x.closed, i)
		}
		return i, true
	}
	add(&w, -1, -1)
	frontier, first := []world{w}, int32(0)
	var following []world
	var next world // one for all steps: few of them can be made, and to make room costs more than they do
	for len(frontier) > 0 {
		following = following[:0]
		for n := range frontier {
			for k, s := range x.steps {
				next = frontier[n]
				if !s.do(&next) {
					continue
				}
				next.tidy(bug)
				j, isNew := add(&next, first+int32(n), int8(k))
				x.back[j] = append(x.back[j], first+int32(n))
				if !isNew {
					continue
				}
				if why := next.wrong(); why != "" {
					return why, x.trail(j), len(x.from)
				}
				following = append(following, next)
			}
		}
		first += int32(len(frontier))
		if len(x.from) > 2_000_000 {
			return "too many states", nil, len(x.from)
		}
		frontier, following = following, frontier
	}
	if i := x.stuck(); i >= 0 {
		return "no way to close", x.trail(i), len(x.from)
	}
	return "", nil, len(x.from)
}

// trail returns the steps that lead to state i.
func (x *walk) trail(i int32) (names []string) {
	own := (len(x.steps) - len(serverSteps())) / 2
	for ; x.from[i] >= 0; i = x.from[i] {
		k := int(x.by[i])
		names = append([]string{[]string{"a: ", "b: ", "server: "}[min(k/own, 2)] + x.steps[k].name}, names...)
	}
	return names
}

// stuck returns a state from which none is reached where all is well, or -1.
func (x *walk) stuck() int32 {
	well := make([]bool, len(x.from))
	for todo := x.closed; len(todo) > 0; {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !well[i] {
			well[i] = true
			todo = append(todo, x.back[i]...)
		}
	}
	for i, ok := range well {
		if !ok {
			return int32(i)
		}
	}
	return -1
}

// tidy has the breakers apply the remote state, and makes states equal that do not
// differ in effect. Generations are only compared, so tidy renumbers those in use:
// leases can end any number of times, and the number of states is still finite.
func (w *world) tidy(bug string) {
	used := append(make([]*int64, 0, 21), &w.s.Gen)
	for i := range w.n {
		n := &w.n[i]
		if !w.overrides.lazy {
			n.applyPending(w.s.Now, bug)
		}
		n.forget(w)
		used = append(used, &n.m.view.gen, &n.m.token, &n.m.settledToken, &n.m.appliedGen, &n.next.was.view.gen,
			&n.next.report.token, &n.flight.was.view.gen, &n.flight.report.token, &n.response.gen, &n.message.gen)
	}
	for rank := int64(1); ; rank++ {
		least := int64(math.MaxInt64)
		for _, g := range used {
			if *g >= rank {
				least = min(least, *g)
			}
		}
		if least == math.MaxInt64 {
			return
		}
		for _, g := range used {
			if *g == least {
				*g = rank
			}
		}
	}
}

func newWorld() world {
	w := world{s: server{twin.Record{Epoch: "1"}}}
	for i, name := range []string{"a", "b"} {
		w.n[i].m = remote{process: name, node: name, margin: time.Second, appliedGen: -1}
	}
	return w
}

// holds explores worlds, each with its own things that can go wrong.
func holds(t *testing.T, worlds map[string]func(w *world)) {
	t.Helper()
	for name, set := range worlds {
		began, w := time.Now(), newWorld()
		set(&w)
		wrong, trail, states := explore(w, "")
		t.Logf("%s: %d states in %v", name, states, time.Since(began).Round(time.Millisecond))
		if wrong != "" {
			t.Errorf("%s: %s, after", name, wrong)
			for _, s := range trail {
				t.Logf("  %s", s)
			}
		}
	}
}

// Whatever happens in whatever order, with leases that end at any time: the fleet has
// one probe, only the holder of the lease reports results, and each state leads back to
// closed.
func TestModel(t *testing.T) {
	holds(t, map[string]func(w *world){
		"leases end":         func(w *world) { w.trips = 1 },
		"a probe is dropped": func(w *world) { w.trips, w.cancels = 1, 1 },
		"throttled":          func(w *world) { w.asks = 1 },
	})
}

// The model finds faults in members and servers.
func TestModelFindsBugs(t *testing.T) {
	for bug, want := range map[string]string{
		"no lease":                 "two probes are out",
		"two leases":               "two probes are out",
		"no fence":                 "a result without the lease decided",
		"a lease outlives its use": "two probes are out", // as it once did

		"any opening is as good as the fleet's": "a call passes before the end of a Retry-After",
		"a hint is lost with the server":        "a Retry-After is lost",
		"a hint is cut to a breaker's own time": "a call passes before the end of a Retry-After", // as it once was
	} {
		w := newWorld()
		w.trips, w.failures = 1, 1
		if strings.Contains(want, "Retry-After") {
			w.asks, w.failures = 1, 0
		}
		if strings.Contains(bug, "server") && strings.Contains(bug, "lost") {
			w.losses = 1
		}
		if wrong, trail, _ := explore(w, bug); wrong != want {
			t.Errorf("with the bug %q: found %q after %q, want %q", bug, wrong, trail, want)
		}
	}
}
