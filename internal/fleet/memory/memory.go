// Package memory implements [fleet.Server] in the memory of the process, for tests. Its
// network can delay, lose, repeat and reorder messages, and cut off members; its
// server can restart and lose its data.
package memory

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/fleet"
)

// Faults configures the faults of the network. The zero Faults causes none.
type Faults struct {
	Delay     time.Duration // longest delay of a message; a later message may overtake an earlier one
	Loss      float64       // probability that a call or a response is lost, which ends the connection
	LostPush  float64       // probability that a published change is lost
	Duplicate float64       // probability that a published change is repeated
}

// A Server keeps its records in memory. The zero Server is ready for use. It is
// safe for concurrent use.
type Server struct {
	mu      sync.Mutex
	records map[string]*record
	links   map[*link]bool
	cut     map[string]bool // nodes that cannot reach the server
	away    bool
	epochs  int
	faults  Faults
	chance  *rand.Rand // nil if there are no faults
	calls   int
}

// Disturb sets the faults of the network from now on, with random numbers of seed.
func (s *Server) Disturb(f Faults, seed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.chance = f, rand.New(rand.NewPCG(seed, 0))
}

// Stop ends all connections, and accepts none until Start.
func (s *Server) Stop() { s.set(func() { s.away = true }) }

// Start accepts connections again.
func (s *Server) Start() { s.set(func() { s.away = false }) }

// Forget ends all connections and drops all records.
func (s *Server) Forget() {
	s.set(func() {
		s.records = nil
		for l := range s.links {
			l.end(errEnded)
		}
	})
}

// Cut cuts the node off from the server, or connects it again.
func (s *Server) Cut(node string, cut bool) {
	s.set(func() {
		if s.cut == nil {
			s.cut = map[string]bool{}
		}
		s.cut[node] = cut
	})
}

// set makes a change, and ends the connections that are no longer possible.
func (s *Server) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	for l := range s.links {
		if s.away || s.cut[l.member.Node] {
			l.end(errEnded)
		}
	}
}

// Calls returns how many calls were executed.
func (s *Server) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

var errEnded = errors.New("the connection has ended")

// Connect returns a connection for m. It is a Connect of [fleet.Config].
func (s *Server) Connect(_ context.Context, m fleet.Member) (fleet.Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away || s.cut[m.Node] {
		return nil, errors.New("connection refused")
	}
	ctx, end := context.WithCancelCause(context.Background()) //nolint:forbidigo // lives as long as the connection
	l := &link{server: s, member: m, ctx: ctx, end: end}
	if s.links == nil {
		s.links = map[*link]bool{}
	}
	s.links[l] = true
	return l, nil
}

// A link is a connection. The server's mutex guards what is below ctx.
type link struct {
	server *Server
	member fleet.Member
	ctx    context.Context //nolint:containedctx // done when the connection ends
	end    context.CancelCauseFunc

	changed func(fleet.View) // nil before Subscribe
}

// Close ends the connection.
func (l *link) Close() {
	l.end(errEnded)
	l.server.mu.Lock()
	defer l.server.mu.Unlock()
	delete(l.server.links, l)
}

// Subscribe implements [fleet.Server].
func (l *link) Subscribe(ctx context.Context, subscribed func(), changed func(fleet.View)) error {
	l.server.mu.Lock()
	l.changed = changed
	l.server.mu.Unlock()
	subscribed()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	}
}

// Run implements [fleet.Server].
func (l *link) Run(ctx context.Context, calls []fleet.Call) []fleet.Response {
	responses := make([]fleet.Response, len(calls))
	failed := l.travel(ctx)
	if failed == nil {
		l.server.exec(l, calls, responses)
		failed = l.travel(ctx)
	}
	if failed != nil {
		for i := range responses {
			responses[i] = fleet.Response{Err: failed}
		}
	}
	return responses
}

// travel waits as long as a message takes, and returns an error if it is lost.
func (l *link) travel(ctx context.Context) error {
	s := l.server
	s.mu.Lock()
	delay, lost := s.delay(), s.happens(s.faults.Loss)
	s.mu.Unlock()
	if lost {
		l.end(errEnded)
	}
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-l.ctx.Done():
		}
	}
	switch {
	case l.ctx.Err() != nil:
		return context.Cause(l.ctx)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return nil
}

// delay returns how long the next message takes. s.mu is held.
func (s *Server) delay() time.Duration {
	if s.chance == nil || s.faults.Delay <= 0 {
		return 0
	}
	return time.Duration(s.chance.Int64N(int64(s.faults.Delay)))
}

// happens returns true with probability p. s.mu is held.
func (s *Server) happens(p float64) bool { return s.chance != nil && s.chance.Float64() < p }

// exec executes the calls of l.
func (s *Server) exec(l *link, calls []fleet.Call, responses []fleet.Response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for i, c := range calls {
		s.calls++
		r := s.records[c.Key]
		if r == nil {
			s.epochs++
			r = newRecord("epoch-" + strconv.Itoa(s.epochs))
			if s.records == nil {
				s.records = map[string]*record{}
			}
			s.records[c.Key] = r
		}
		var more fleet.View
		changed := r.exec(c, l.member, now, &more)
		v := r.view(c.Key, now.UnixMilli())
		if changed {
			s.publish(v)
		}
		v.Budget, v.Rate = more.Budget, more.Rate
		responses[i].View = v
	}
}

// publish sends v to all subscribers. s.mu is held.
func (s *Server) publish(v fleet.View) {
	for l := range s.links {
		if l.changed == nil || l.ctx.Err() != nil || s.happens(s.faults.LostPush) {
			continue
		}
		for range 1 + map[bool]int{true: 1}[s.happens(s.faults.Duplicate)] {
			changed := l.changed
			time.AfterFunc(s.delay(), func() { changed(v) })
		}
	}
}

// ms returns d in milliseconds, rounded up, and 0 if d is negative.
func ms(d time.Duration) int64 {
	return max(int64((d+time.Millisecond-1)/time.Millisecond), 0)
}

// span returns n milliseconds, and 0 if n is negative.
func span(n int64) time.Duration { return time.Duration(max(n, 0)) * time.Millisecond }
