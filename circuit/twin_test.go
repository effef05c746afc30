package circuit

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A twin is a breaker as one would write it without a thought for speed: plain
// fields, slices of everything that ever happened, no packing, no laziness.
// The fuzzer drives it beside a real one; whatever they say must agree.
type twin struct {
	c         Config // filled
	state     State
	opened    time.Time // end of the open time
	failed    int       // probes in a row, for the growth
	probation time.Time
	run       int  // consecutive failures
	spared    bool // a success of a call from before the run has not ended it
	won       int  // successful probes
	period    int  // counts the changes after which results are late
	probes    []*twinPermit
	lease     time.Time
	calls     []twinCall
	rejects   int
}

type twinPermit struct {
	period int
	early  bool // it began in full health
	start  time.Time
	permit Permit
}

type twinCall struct {
	slice        int64
	failed, slow bool
}

func (w *twin) slice() int64 { return time.Now().UnixNano() / int64(w.c.Window/10) }

func (w *twin) enter(s State) {
	w.state, w.run, w.spared, w.won, w.probes = s, 0, false, 0, nil
	w.period++
	if s == Closed {
		w.calls = nil
	}
}

func (w *twin) open() {
	w.enter(Open)
	d := float64(w.c.RecoveryTimeout)
	for range min(w.failed, reopenMask) {
		d = min(d*w.c.OpenGrowth, float64(w.c.OpenMax))
	}
	w.opened = time.Now().Add(time.Duration(d))
}

func (w *twin) endProbation() {
	if w.state == Closed && !time.Now().Before(w.probation) {
		w.failed = 0
	}
}

// acquire returns a permit, or nil.
func (w *twin) acquire() *twinPermit {
	now := time.Now()
	early := w.state == Closed && w.run == 0 && w.failed == 0
	w.endProbation()
	switch w.state {
	case Open:
		if now.Before(w.opened) {
			return nil
		}
		failed := w.failed
		w.enter(HalfOpen)
		w.failed = failed
	case HalfOpen:
		if len(w.probes) >= w.c.HalfOpenMax {
			if now.Before(w.lease) {
				return nil
			}
			w.period++
			w.probes = nil
		}
	case Isolated:
		return nil
	case Closed:
	}
	p := &twinPermit{period: w.period, start: now, early: early}
	if w.state == HalfOpen {
		w.probes = append(w.probes, p)
		w.lease = now.Add(w.c.ProbeLease)
	}
	return p
}

// done takes the result of p.
func (w *twin) done(p *twinPermit, failed, cancelled bool) {
	if p.period != w.period || w.state == HalfOpen && !slices.Contains(w.probes, p) {
		return
	}
	w.probes = slices.DeleteFunc(w.probes, func(q *twinPermit) bool { return p == q })
	switch {
	case cancelled:
	case w.state == HalfOpen && failed:
		if w.c.OpenGrowth > 1 {
			w.failed++
		}
		w.open()
	case w.state == HalfOpen:
		if w.won++; w.won >= w.c.SuccessThreshold {
			w.enter(Closed)
			end := ceil(time.Now().UnixNano()) + instant(10*w.c.OpenMax/time.Millisecond)
			w.probation = time.UnixMilli(int64((end>>probationShift + 1) << probationShift))
		}
	case w.state == Closed:
		w.counted(p, failed)
	}
}

// counted takes the result of a call that a closed breaker admitted.
func (w *twin) counted(p *twinPermit, failed bool) {
	w.endProbation()
	slow := w.c.SlowCall > 0 && time.Since(p.start) >= w.c.SlowCall
	trips := false
	if w.c.Window > 0 {
		w.calls = append(w.calls, twinCall{w.slice(), failed, slow})
		n, bad, late := w.counts()
		enough := n >= w.c.MinCalls
		trips = enough && failed && w.c.FailureRatio > 0 && float64(bad)/float64(n) >= w.c.FailureRatio ||
			enough && slow && float64(late)/float64(n) >= w.c.SlowRatio
	}
	switch {
	case failed && w.c.FailureThreshold != Off:
		w.run++
	case failed:
	case p.early && w.run > 0 && !w.spared:
		w.spared = true
	default:
		w.run, w.spared = 0, false
	}
	if trips || w.c.FailureThreshold != Off && w.run >= w.c.FailureThreshold {
		w.open()
	}
}

func (w *twin) counts() (calls, bad, slow int) {
	for _, c := range w.calls {
		if w.c.Window == 0 || w.slice()-c.slice >= 10 {
			continue
		}
		calls++
		if c.failed {
			bad++
		}
		if c.slow {
			slow++
		}
	}
	return calls, bad, slow
}

// now is the state that a call would meet.
func (w *twin) now() State {
	if w.state == Open && !time.Now().Before(w.opened) {
		return HalfOpen
	}
	return w.state
}

func (w *twin) hand(s signal) {
	w.endProbation()
	switch {
	case s == trip && (w.state == Closed || w.state == HalfOpen):
		w.open()
	case s == isolate && w.state != Isolated:
		w.failed = 0
		w.enter(Isolated)
	case s == reset:
		if w.state != Closed || w.run > 0 || w.failed > 0 {
			w.enter(Closed)
		}
		w.run, w.spared, w.failed, w.calls = 0, false, 0, nil
	}
}

// twinConfigs are what the fuzzer chooses from.
func twinConfigs() []Config {
	return []Config{
		{},
		{FailureThreshold: 2, SuccessThreshold: 2, HalfOpenMax: 3, RecoveryTimeout: 3 * time.Second, ProbeLease: 5 * time.Second},
		{FailureThreshold: 1, RecoveryTimeout: time.Second, OpenGrowth: 2, OpenMax: 6 * time.Second, ProbeLease: 2 * time.Second},
		{FailureThreshold: Off, Window: 20 * time.Second, FailureRatio: .5, MinCalls: 4, RecoveryTimeout: 4 * time.Second},
		{FailureThreshold: 3, Window: 10 * time.Second, SlowCall: time.Second, SlowRatio: .5, MinCalls: 3, HalfOpenMax: 2},
		{
			FailureThreshold: 4, Window: 30 * time.Second, FailureRatio: .25, SlowCall: 2 * time.Second, MinCalls: 6,
			SuccessThreshold: 3, HalfOpenMax: 2, OpenGrowth: 3, RecoveryTimeout: 2 * time.Second, ProbeLease: time.Second,
		},
	}
}

// playTwins drives a breaker and its twin by script: the first byte chooses
// the Config, each further one an event.
func playTwins(t *testing.T, script []byte) {
	t.Helper()
	if len(script) == 0 {
		return
	}
	c := twinConfigs()[int(script[0])%len(twinConfigs())]
	b, w := New("x", quiet(c)), &twin{c: c.filled()}
	var out []*twinPermit
	for i, op := range script[1:min(len(script), 400)] {
		arg := int(op >> 3)
		switch op & 7 {
		case 0, 1: // a call begins
			permit, err := b.Acquire()
			p := w.acquire()
			if (err == nil) != (p != nil) {
				t.Fatalf("step %d, op %d: the breaker says %v, its twin %v; it is %v", i, op, err, p, w.state)
			}
			if p == nil {
				w.rejects++
				continue
			}
			if p.permit = permit; permit.Probe() != (w.state == HalfOpen) {
				t.Fatalf("step %d: a probe is %v while %v", i, permit.Probe(), w.state)
			}
			out = append(out, p)
		case 2, 3, 4: // one ends
			if len(out) > 0 {
				p := out[arg%len(out)]
				out = slices.DeleteFunc(out, func(q *twinPermit) bool { return p == q })
				[]func(){p.permit.Success, p.permit.Failure, p.permit.Cancel}[op&7-2]()
				w.done(p, op&7 == 3, op&7 == 4)
			}
		case 5: // time passes, by odd and even amounts
			after([]time.Duration{time.Millisecond, 300 * time.Millisecond, time.Second, 7 * time.Second}[arg%4] * time.Duration(1+arg/4))
		case 6:
			after(time.Second)
		case 7:
			switch arg % 8 {
			case 0:
				b.Trip()
				w.hand(trip)
			case 1:
				b.Isolate()
				w.hand(isolate)
			default:
				b.Reset()
				w.hand(reset)
			}
		}
		compareTwins(t, i, op, b, w)
	}
}

func compareTwins(t *testing.T, i int, op byte, b *Breaker, w *twin) {
	t.Helper()
	m := b.Metrics()
	calls, bad, slow := w.counts()
	if w.c.Window == 0 {
		calls, bad, slow = 0, 0, 0
	}
	if w.state == Open || w.state == HalfOpen || w.state == Isolated {
		m.Calls, m.Failed, m.Slow = calls, bad, slow // not compared
	}
	run := w.run
	if w.state != Closed {
		run = 0
	}
	if m.State != w.now() || m.Failures != run || m.Calls != calls || m.Failed != bad || m.Slow != slow ||
		m.Rejected != uint64(w.rejects) || w.now() == Open && !m.RetryAt.Equal(w.opened) {
		t.Fatalf("step %d, op %d of %+v: the breaker says %+v;\nits twin %v, open until %v, run %d, window %d %d %d, rejected %d",
			i, op, w.c, m, w.now(), w.opened, run, calls, bad, slow, w.rejects)
	}
}

func FuzzBreaker(f *testing.F) {
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, script []byte) {
		synctest.Test(t, func(t *testing.T) { playTwins(t, script) })
	})
}

// The same without the fuzzer: many scripts, always the same ones.
func TestBreakerAgainstTwin(t *testing.T) {
	r := rand.NewChaCha8([32]byte{1})
	script := make([]byte, 200)
	for range 1000 {
		_, _ = r.Read(script)
		synctest.Test(t, func(t *testing.T) { playTwins(t, script) })
	}
}
