package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// A load creates operations.
type load struct {
	config    Load
	random    *rand.Rand
	processes int
	last      int64   // no operation arrives after
	factor    float64 // of a surge
	turn      uint32  // arrivals of an earlier turn were drawn for another rate
}

func newLoad(s *Scenario, random *rand.Rand) load {
	return load{config: s.Load, random: random, processes: s.Clients.Processes, last: int64(s.Duration), factor: 1}
}

// begin schedules the first operations.
func (l *load) begin(m *model) {
	for p := range l.processes {
		for c := range l.config.Clients {
			l.think(m, int32(p), uint32(c), -1) //nolint:gosec // limited by Validate
		}
	}
	l.next(m)
}

// pauseRefused is the shortest pause of a client after an operation that took no time, such as a
// refused one. Without it, the operations of one instant would never end.
const pauseRefused = int64(time.Millisecond)

// think schedules the next operation of a client of a closed loop. arrived is when its last
// operation arrived; -1 means that it is the first.
func (l *load) think(m *model, process int32, client uint32, arrived int64) {
	at := m.now + int64(float64(l.config.Think)*l.random.ExpFloat64())
	if arrived == m.now {
		at = max(at, m.now+pauseRefused)
	}
	if at < l.last {
		m.agenda.add(event{at: at, kind: thought, op: process, turn: client})
	}
}

// next schedules the next arrival of an open loop.
func (l *load) next(m *model) {
	rate := l.config.Rate * l.factor / float64(l.config.Batch)
	if rate <= 0 {
		return
	}
	at := m.now + int64(l.config.Every)
	if l.config.Every == 0 {
		at = m.now + int64(min(l.random.ExpFloat64()/rate*float64(time.Second), math.MaxInt64/2))
	}
	if at < l.last {
		m.agenda.add(event{at: at, kind: arrival, turn: l.turn})
	}
}

// arrive begins the operations that arrive now.
func (l *load) arrive(m *model, e event) {
	if e.turn != l.turn {
		return
	}
	n := l.config.Batch
	if l.config.Every > 0 {
		n = int(math.Round(l.config.Rate * l.factor * l.config.Every.Seconds()))
	}
	for range n {
		process := 0
		if l.processes > 1 {
			process = l.random.IntN(l.processes)
		}
		m.begin(process, 0)
	}
	l.next(m)
}

// change sets the factor of the rate. Random arrivals have no memory, so the next arrival is
// drawn again.
func (l *load) change(m *model, factor float64) {
	if factor == l.factor {
		return
	}
	l.factor = factor
	if l.config.Every == 0 {
		l.turn++
		l.next(m)
	}
}
