package gate_test

import (
	"container/heap"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/gate"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

const second = int64(time.Second)

func chance(t *testing.T) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(testseed.Of(t, 1), 0))
}

// copied returns a gate in the state of g.
func copied(g gate.Gate) gate.Gate {
	w := new(gate.Words)
	for i := range w {
		w[i].Store(g.Words[i].Load())
	}
	return gate.Gate{Words: w}
}

// anywhere returns a gate that a random history has limited.
func anywhere(t *testing.T, r *rand.Rand) *key {
	t.Helper()
	k := limited(t)
	for range r.IntN(100) {
		k.now += r.Int64N(50 * ms)
		k.Arrive(k.now)
		p, ok := k.Admit(k.now)
		if !ok {
			continue
		}
		k.now += r.Int64N(100 * ms)
		if k.Done(p, gate.Outcome(r.IntN(int(gate.Late)+1)), k.now) == gate.Lifted {
			k.Limit(k.now)
		}
	}
	return k
}

// admission asks whenever the gate may admit an attempt, and returns when it does.
func (k *key) admission(t *testing.T) (int64, gate.Permit) {
	t.Helper()
	now := k.now
	for range 10_000 {
		now = k.Next(now)
		if p, ok := k.Admit(now); ok {
			return now, p
		}
		now += ms
	}
	t.Fatalf("never admitted: %+v", k.Status(now))
	return 0, gate.Permit{}
}

func TestMoreSuccessNeverMakesAnAdmissionLater(t *testing.T) {
	r := chance(t)
	for range 2000 {
		k := anywhere(t, r)
		more := &key{Gate: copied(k.Gate), now: k.now}
		more.Done(gate.Permit{Start: k.now - base, Generation: 200}, gate.Success, k.now)
		with, _ := more.admission(t)
		if without, _ := k.admission(t); with > without {
			t.Fatalf("after a success more the next is admitted %v later", time.Duration(with-without))
		}
	}
}

func TestAnOutageCostsProbesOnly(t *testing.T) {
	for _, perSecond := range []int64{1, 10, 100, 1000} {
		k := limited(t)
		k.Done(gate.Permit{}, gate.Failure, k.now) // as fast as an outage
		from, admitted := k.now, 0
		for k.now < from+60*second {
			k.Arrive(k.now)
			if p, ok := k.Admit(k.now); ok {
				admitted++
				k.Done(p, gate.Failure, k.now+ms)
			}
			k.now += second / perSecond
		}
		between := min(16/float64(perSecond), 0.5)
		if most := 1 + 60/(0.75*between); float64(admitted) > most {
			t.Errorf("%d of %d calls were admitted in an outage, want at most %.0f", admitted, 60*perSecond, most)
		}
	}
}

// A gate is not limited without five overloads in a row, with no fast success between
// them, or ten failures in a row.
func TestFewerThanARowNeverLimit(t *testing.T) {
	r := chance(t)
	k := warm(t)
	run, over := 0, 0
	for range 100_000 {
		o := gate.Success
		switch r.IntN(3) {
		case 0:
			if over < 4 && run < 9 {
				o, over, run = gate.Throttled, over+1, run+1
			}
		case 1:
			if run < 9 {
				o, run = gate.Failure, run+1
			}
		}
		timed := !gate.Healthy(k.Words[0].Load())
		if o == gate.Success {
			if run = 0; timed {
				over = 0
			}
		}
		if k.call(t, o, ms) == gate.Limited {
			t.Fatalf("limited after %d overloads and %d failures in a row", over, run)
		}
	}
}

// A finish is an attempt that ends later.
type finish struct {
	at      int64
	permit  gate.Permit
	outcome gate.Outcome
}

type finishes []finish

func (h finishes) Len() int           { return len(h) }
func (h finishes) Less(i, j int) bool { return h[i].at < h[j].at }
func (h finishes) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *finishes) Push(x any)        { *h = append(*h, x.(finish)) }
func (h *finishes) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// One of several shards that never responds does not limit the others, once a
// fast success was timed.
func TestAShardThatIsBlackDoesNotLimitTheOthers(t *testing.T) {
	r := chance(t)
	for _, shards := range []int{2, 3, 10} {
		k := warm(t)
		k.call(t, gate.Failure, ms)
		k.call(t, gate.TimedOut, 200*ms)
		k.call(t, gate.Success, base) // the fast success
		k.call(t, gate.TimedOut, 200*ms)
		k.call(t, gate.Success, base)
		var running finishes
		for range 50_000 {
			k.now += r.Int64N(2 * ms)
			for len(running) > 0 && running[0].at <= k.now {
				f := heap.Pop(&running).(finish)
				if k.Done(f.permit, f.outcome, f.at) == gate.Limited {
					t.Fatalf("one black shard of %d limits all", shards)
				}
			}
			p, _ := k.Admit(k.now)
			f := finish{at: k.now + base/2 + r.Int64N(base), permit: p, outcome: gate.Success}
			if r.IntN(shards) == 0 {
				f.at, f.outcome, f.permit.Start = k.now+200*ms, gate.TimedOut, k.now
			}
			heap.Push(&running, f)
		}
	}
}

func TestAClockStepDelaysNoCaller(t *testing.T) {
	r := chance(t)
	for i := range 4000 {
		k := anywhere(t, r)
		d := r.Int64N(1 << (20 + r.IntN(40)))
		if i%2 == 0 {
			d = -d
		}
		k.now += d
		if at, _ := k.admission(t); at-k.now > 3*second {
			t.Fatalf("after a clock was set by %v, the next is admitted after %v", time.Duration(d), time.Duration(at-k.now))
		}
	}
}

// Credits are conserved: the balance is what results paid in, less what attempts cost, and
// no more is refunded than was paid.
func TestCreditsAreConserved(t *testing.T) {
	r := chance(t)
	for range 300 {
		k := limited(t)
		var out []gate.Permit
		for range 300 {
			k.now += r.Int64N(40 * ms)
			before := k.Status(k.now).Credits
			if p, ok := k.Admit(k.now); ok {
				out = append(out, p)
				if paid := before - k.Status(k.now).Credits; (paid == 1) != (p.How == gate.ByCredit) {
					t.Fatalf("permit %+v paid %d", p, paid)
				}
				continue
			}
			if len(out) == 0 {
				continue
			}
			i := r.IntN(len(out))
			p, o := out[i], gate.Outcome(r.IntN(int(gate.Late)+1))
			out = append(out[:i], out[i+1:]...)
			if k.Done(p, o, k.now) == gate.Lifted {
				break
			}
			gift := k.Status(k.now).Credits - before
			switch {
			case o == gate.Success && gift >= 1 && gift <= 2:
			case (o == gate.Cancelled || o == gate.Failure || o == gate.Cut) && p.How == gate.ByCredit && gift <= 1 && gift >= 0:
			case o != gate.Success && gift == 0:
			default:
				t.Fatalf("outcome %d of %+v gives %d credits", o, p, gift)
			}
		}
	}
}

// A process that is killed with all the credits delays the others only until the next
// probe.
func TestCreditsThatAreLostDelayUntilTheNextProbe(t *testing.T) {
	r := chance(t)
	for range 500 {
		k := anywhere(t, r)
		for k.Status(k.now).Credits > 0 {
			k.now, _ = k.admission(t) // and never ends
		}
		most := second / 2
		if k.Status(k.now).Slow {
			most = 2 * second
		}
		if at, p := k.admission(t); at-k.now > most*5/4+ms || p.How != gate.AsProbe {
			t.Fatalf("the next is admitted after %v, as %v", time.Duration(at-k.now), p.How)
		}
	}
}

// A line admits callers in the order of their deadlines, refuses no caller before
// its reserve and admits no caller after it, whatever the results.
func TestALineKeepsItsOrderAndItsReserve(t *testing.T) {
	r := chance(t)
	for _, shared := range []bool{false, true} {
		for range 200 {
			k := anywhere(t, r)
			line := gate.Line{Shared: shared}
			ends := map[*gate.Waiter]int64{}
			leaves := map[*gate.Waiter]int64{}
			for len(ends) < 50 || line.Len() > 0 {
				if len(ends) < 50 {
					w, end := &gate.Waiter{Timeout: time.Duration(r.IntN(2)) * 30 * time.Millisecond}, k.now+20*ms+r.Int64N(3*second)
					if line.Enter(k.Gate, w, k.now, end, true, r.Float64()) == gate.Waiting {
						ends[w], leaves[w] = end, end-int64(k.Reserve(time.Duration(end-k.now), w.Timeout))
					} else {
						ends[new(gate.Waiter)] = 0
					}
				}
				for {
					w := line.Step(k.Gate, k.now)
					if w == nil {
						break
					}
					leave := leaves[w]
					if !w.Admitted && k.now < leave {
						t.Fatalf("left %v before the reserve", time.Duration(leave-k.now))
					}
					if w.Admitted && k.now > leave {
						t.Fatalf("admitted %v after the reserve", time.Duration(k.now-leave))
					}
					if w.Admitted && r.IntN(2) == 0 {
						k.Done(w.Permit, gate.Success, k.now+base)
					}
				}
				at := k.now + r.Int64N(100*ms)
				if next, ok := line.Next(k.Gate, k.now); ok {
					if next <= k.now {
						t.Fatalf("Next = now, at a line of %d", line.Len())
					}
					at = min(at, next)
				}
				k.now = at
			}
		}
	}
}

func TestALineThatMayGoIsNeverIdle(t *testing.T) {
	r := chance(t)
	for range 500 {
		k := anywhere(t, r)
		var line gate.Line
		var w gate.Waiter
		k.Done(gate.Permit{}, gate.Success, k.now) // brings a credit
		if line.Enter(k.Gate, &w, k.now, k.now+30*second, true, r.Float64()) != gate.Waiting {
			continue
		}
		from := k.now
		for line.Step(k.Gate, k.now) == nil {
			k.now, _ = line.Next(k.Gate, k.now)
		}
		if wait := time.Duration(k.now - from); wait > 1100*time.Millisecond {
			t.Fatalf("a caller for whom there is a credit waits %v", wait)
		}
	}
}

func TestALineIsBounded(t *testing.T) {
	k := limited(t)
	var line gate.Line
	for range 10_000 {
		if got := line.Enter(k.Gate, new(gate.Waiter), k.now, k.now+second, true, 0); got != gate.Waiting {
			t.Fatalf("entry %d of a line of %d", got, line.Len())
		}
	}
	var w gate.Waiter
	if got := line.Enter(k.Gate, &w, k.now, k.now+second, true, 0); got != gate.Refused {
		t.Errorf("entry %d of a full line, want a refusal", got)
	}
}

func TestAHealthyGateAllocatesNothingAndWritesNothing(t *testing.T) {
	k := warm(t)
	before := [3]uint64{k.Words[0].Load(), k.Words[1].Load(), k.Words[2].Load()}
	if n := testing.AllocsPerRun(100, func() {
		p, _ := k.Admit(k.now)
		k.Done(p, gate.Success, k.now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if after := [3]uint64{k.Words[0].Load(), k.Words[1].Load(), k.Words[2].Load()}; after != before {
		t.Errorf("words %x, before %x", after, before)
	}
	k = limited(t)
	if n := testing.AllocsPerRun(100, func() {
		k.now += 20 * ms
		if p, ok := k.Admit(k.now); ok {
			k.Done(p, gate.Failure, k.now)
		}
	}); n != 0 {
		t.Errorf("%v allocations while limited", n)
	}
}
