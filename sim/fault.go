package sim

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"time"
)

// A Fault is what goes wrong, from an instant to another.
type Fault struct {
	Kind     Kind
	From, To time.Duration // since the beginning; From <= To
	// Shard is the only one concerned, from 1; 0 means all. It is for the faults of
	// a backend.
	Shard int
	// Level is what is left of the capacity in a Brownout, at the end of a Fade,
	// and what a Throttle admits of it, 0 to 1; the ratio of Errors and of
	// processes in a Stall, 0 to 1; and the factor of the load in a Surge, 0 to 100.
	Level float64
	// Ramp is how long the capacity takes, from To on, to climb back.
	Ramp time.Duration
	// RetryAfter is the wait that a Throttle asks for; 0 means that it does not.
	RetryAfter time.Duration
	// Delay is by how much a SlowNetwork lengthens the way there and back together,
	// and by how much a ClockStep puts the clock forward; back if negative.
	Delay time.Duration
}

// A Kind is what a [Fault] is.
type Kind uint8

// The kinds of faults.
const (
	Outage      Kind = iota // each request is answered with a 503 at once
	Crash                   // connections are refused, what is queued and in service is lost
	BlackHole               // no request is answered
	Brownout                // fewer workers
	Fade                    // fewer and fewer workers
	Throttle                // only a part of the capacity is admitted, the rest is answered with a 429
	Errors                  // a part of the requests is answered with a 500 at once, independently of each other
	Surge                   // more operations arrive
	SlowNetwork             // requests and responses travel longer
	Stall                   // processes stand still, as if stopped
	Restart                 // at From, all processes begin anew, with nothing in their memory
	ClockStep               // the wall clock is set, and set back at To
)

// String returns the kind's name, as outage or black_hole.
func (k Kind) String() string {
	names := [...]string{
		"outage", "crash", "black_hole", "brownout", "fade", "throttle", "errors", "surge", "slow_network", "stall",
		"restart", "clock_step",
	}
	if int(k) < len(names) {
		return names[k]
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// MarshalText returns the kind's name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// validate returns an error about the first value that is not allowed of fault i of s,
// which is filled in.
func (f Fault) validate(i int, s *Scenario) error {
	field := func(name string) string { return fmt.Sprintf("Faults[%d].%s", i, name) }
	most := 1.0
	if f.Kind == Surge {
		most = 100
	}
	return firstBad([]check{
		{f.Kind <= ClockStep, Error{field("Kind"), f.Kind, "one of the constants"}},
		span(field("From"), f.From, maxDuration),
		{f.To >= f.From && f.To <= maxDuration, Error{field("To"), f.To, "not before the fault begins, and at most " + maxDuration.String()}},
		count(field("Shard"), f.Shard, 0, s.Backend.Shards),
		ratio(field("Level"), f.Level, most),
		span(field("Ramp"), f.Ramp, maxDuration),
		span(field("RetryAfter"), f.RetryAfter, maxDuration),
		{f.Delay.Abs() <= maxDuration && (f.Delay >= 0 || f.Kind == ClockStep), Error{field("Delay"), f.Delay, "up to " + maxDuration.String()}},
	})
}

// capacity returns which part of the capacity is left at now.
func (f *Fault) capacity(now time.Duration) float64 {
	least := f.Level
	switch {
	case f.Kind > Fade || now < f.From: // no fault of the capacity
		return 1
	case f.Kind < Brownout:
		least = 0
	}
	switch {
	case now >= f.To+f.Ramp:
		return 1
	case now >= f.To:
		return least + (1-least)*float64(now-f.To)/float64(f.Ramp)
	case f.Kind == Fade:
		return 1 - (1-least)*float64(now-f.From)/float64(f.To-f.From)
	case f.Kind < Brownout:
		return 1 // nothing gets that far
	default:
		return least
	}
}

// schedule notes when fault i begins, ends, and changes the number of workers.
func (m *model) schedule(i int, f Fault) {
	at := func(t time.Duration) { m.agenda.add(event{at: int64(t), kind: change, op: int32(i)}) } //nolint:gosec // few faults
	at(f.From)
	at(f.To)
	steps := time.Duration(min(m.scenario.Backend.Workers, maxFaults))
	for n := range steps {
		if f.Kind == Fade {
			at(f.From + (f.To-f.From)*n/steps)
		}
		if f.Ramp > 0 && f.Kind <= Fade {
			at(f.To + f.Ramp*(n+1)/steps)
		}
	}
}

// fault puts the model in the state that all faults together mean now. Of the fault
// that e is about, what happens once happens.
func (m *model) fault(e event) {
	now := time.Duration(m.now)
	m.backend.well()
	factor, stalled := 1.0, 0
	m.set, m.backend.delay = 0, int64(m.scenario.Backend.Network)
	for i := range m.scenario.Faults {
		f := &m.scenario.Faults[i]
		m.backend.suffer(f, now)
		if now < f.From || now >= f.To {
			continue
		}
		switch f.Kind {
		case Surge:
			factor *= f.Level
		case SlowNetwork:
			m.backend.delay += int64(f.Delay)
		case Stall:
			stalled = max(1, int(math.Ceil(f.Level*float64(m.scenario.Clients.Processes))))
			m.clients.until = int64(f.To)
		case ClockStep:
			m.set += int64(f.Delay)
		default:
		}
	}
	m.clients.stalled = stalled
	m.load.change(m, factor)
	m.once(&m.scenario.Faults[e.op])
	for i := range m.backend.shards {
		m.serve(i)
	}
}

// once does what f does at the instant at which it begins.
func (m *model) once(f *Fault) {
	if int64(f.From) != m.now {
		return
	}
	switch f.Kind {
	case Crash:
		for i := range m.backend.shards {
			if f.concerns(i) {
				m.crash(i)
			}
		}
	case Restart:
		m.clients.restart(m)
	default:
	}
}

func (f *Fault) concerns(shard int) bool { return cmp.Or(f.Shard, shard+1) == shard+1 }
