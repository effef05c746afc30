package sim

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"time"
)

// A Fault is one thing that goes wrong, from the instant From to the instant To.
type Fault struct {
	Kind     Kind
	From, To time.Duration // since the beginning of the run; From <= To
	// Shard is the number of the only shard that fails, from 1; 0 means all shards. Surge,
	// SlowNetwork, Stall, Restart and ClockStep ignore Shard.
	Shard int
	// Level is a ratio from 0 to 1: of a Brownout and at the end of a Fade, the part of the
	// workers that remains; of a Throttle, the part of the capacity that is admitted; of
	// Errors, the part of the requests that fails; of a Stall, the part of the processes
	// that stands still, at least one process. Of a Surge, Level is the factor of the load, 0
	// to 100. Other kinds ignore Level.
	Level float64
	// Ramp is the time after To in which the workers return, linearly, after an Outage, Crash,
	// BlackHole, Brownout or Fade; 0 means at once.
	Ramp time.Duration
	// RetryAfter is the Retry-After of a Throttle; 0 means none.
	RetryAfter time.Duration
	// Delay is the time that a SlowNetwork adds to a round trip, or by which a ClockStep puts
	// the clock forward, or back if negative.
	Delay time.Duration
}

// A Kind is the kind of a [Fault].
type Kind uint8

// The kinds of faults.
const (
	Outage      Kind = iota // every request gets a 503 at once
	Crash                   // connections are refused; queued requests and those in service are lost
	BlackHole               // no request gets a response
	Brownout                // fewer workers
	Fade                    // the number of workers falls linearly
	Throttle                // a part of the capacity is admitted, the rest gets a 429
	Errors                  // a part of the requests, at random, gets a 500 at once
	Surge                   // more operations arrive
	SlowNetwork             // round trips take longer
	Stall                   // processes stand still
	Restart                 // at From, all processes restart without state
	ClockStep               // the wall clock is stepped, and stepped back at To
)

// String returns the name of the kind, such as outage or black_hole.
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

// MarshalText returns the name of the kind.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// validate returns an error about the first field of fault i of s that is not allowed. s has
// its defaults.
func (f Fault) validate(i int, s *Scenario) error {
	field := func(name string) string { return fmt.Sprintf("Faults[%d].%s", i, name) }
	most := 1.0
	if f.Kind == Surge {
		most = 100
	}
	return firstBad([]check{
		{f.Kind <= ClockStep, Error{field("Kind"), f.Kind, "one of the constants"}},
		span(field("From"), f.From, maxDuration),
		{f.To >= f.From && f.To <= maxDuration, Error{field("To"), f.To, "at least the instant at which the fault begins, and at most " + maxDuration.String()}},
		count(field("Shard"), f.Shard, 0, s.Backend.Shards),
		ratio(field("Level"), f.Level, most),
		span(field("Ramp"), f.Ramp, maxDuration),
		span(field("RetryAfter"), f.RetryAfter, maxDuration),
		{f.Delay.Abs() <= maxDuration && (f.Delay >= 0 || f.Kind == ClockStep), Error{field("Delay"), f.Delay, "up to " + maxDuration.String()}},
	})
}

// capacity returns the part of the capacity that remains at now.
func (f *Fault) capacity(now time.Duration) float64 {
	least := f.Level
	switch {
	case f.Kind > Fade || now < f.From: // does not change the capacity
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
		return 1 // requests fail before they need a worker
	default:
		return least
	}
}

// schedule adds the events at which fault i begins, ends or changes the number of workers.
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

// fault applies all faults that are active now, and what the fault of e does once.
func (m *model) fault(e event) {
	now := time.Duration(m.now)
	m.backend.restore()
	factor, stalled := 1.0, 0
	m.set, m.backend.delay = 0, int64(m.scenario.Backend.Network)
	for i := range m.scenario.Faults {
		f := &m.scenario.Faults[i]
		m.backend.apply(f, now)
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
	m.strike(&m.scenario.Faults[e.op])
	for i := range m.backend.shards {
		m.serve(i)
	}
}

// strike does what f does once, at the instant at which it begins.
func (m *model) strike(f *Fault) {
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
