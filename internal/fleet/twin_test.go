package fleet

import (
	"strconv"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/fleet/twin"
)

// A server is the server of the model.
type server struct{ twin.Record }

// restore restores v, which was lost.
func (s *server) restore(v view) bool {
	was := twin.Record{
		Epoch: v.epoch, Gen: v.gen, State: v.state, Due: !v.until.After(present), Far: v.until.Equal(far), Manual: v.manual,
	}
	if v.manual {
		was.Overridden = v.overriddenAt.Sub(past).Milliseconds()
	}
	return s.Restore(was)
}

func (s *server) view() view {
	v := view{
		epoch: s.Epoch, gen: s.Gen, state: s.State, manual: s.Manual, until: when(s.Due || s.State != circuit.Open), lease: past,
	}
	if s.Far {
		v.until = far
	}
	if s.Overridden != 0 {
		v.overriddenAt, v.override = at(s.Overridden), number(s.Overridden)
	}
	if s.Leased {
		v.process, v.node, v.lease = s.Owner, s.Owner, future
	}
	return v
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// at returns an instant of the server's clock.
func at(n int64) time.Time { return past.Add(time.Duration(n) * time.Millisecond) }
