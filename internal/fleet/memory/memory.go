// Package memory has a [fleet.Server] in the memory of the process, for tests: with
// a network that delays, loses, repeats and reorders what goes over it, and parts
// its members, and with restarts at which the server forgets.
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

// Faults are what the network does. The zero Faults are none.
type Faults struct {
	Delay     time.Duration // of each message, up to this: later ones overtake earlier ones
	Loss      float64       // of calls before they are made, and of answers after: the connection ends
	LostPush  float64       // of changes that are published
	Duplicate float64       // of changes that are published
}

// A Server keeps its records in memory. The zero Server is ready for use. It is
// safe for concurrent use.
type Server struct {
	mu      sync.Mutex
	records map[string]*record
	links   map[*link]bool
	cut     map[string]bool // nodes that cannot reach it
	away    bool
	epochs  int
	faults  Faults
	chance  *rand.Rand // nil: there are no faults
	calls   int
}

// Disturb has the network do that from now on, by random numbers of that seed.
func (s *Server) Disturb(f Faults, seed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.chance = f, rand.New(rand.NewPCG(seed, 0))
}

// Stop ends all connections, and admits none until Start.
func (s *Server) Stop() { s.set(func() { s.away = true }) }

// Start admits connections again.
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

// Cut parts the node from the server, or joins it again.
func (s *Server) Cut(node string, cut bool) {
	s.set(func() {
		if s.cut == nil {
			s.cut = map[string]bool{}
		}
		s.cut[node] = cut
	})
}

// set makes a change, and ends the connections that it does not allow.
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

// Calls returns how many calls were made.
func (s *Server) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

var errEnded = errors.New("the connection has ended")

// Connect makes a connection for m, as fleet.Config has it.
func (s *Server) Connect(_ context.Context, m fleet.Member) (fleet.Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away || s.cut[m.Node] {
		return nil, errors.New("nobody is there")
	}
	ctx, end := context.WithCancelCause(context.Background()) //nolint:forbidigo // it ends with the connection
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
	ctx    context.Context //nolint:containedctx // it is the connection's life
	end    context.CancelCauseFunc

	changed func(fleet.View) // nil: it has not subscribed
}

// Close ends the connection.
func (l *link) Close() {
	l.end(errEnded)
	l.server.mu.Lock()
	defer l.server.mu.Unlock()
	delete(l.server.links, l)
}

// Subscribe is that of [fleet.Server].
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

// Run is that of [fleet.Server].
func (l *link) Run(ctx context.Context, calls []fleet.Call) []fleet.Response {
	answers := make([]fleet.Response, len(calls))
	failed := l.travel(ctx)
	if failed == nil {
		l.server.make(l, calls, answers)
		failed = l.travel(ctx)
	}
	if failed != nil {
		for i := range answers {
			answers[i] = fleet.Response{Err: failed}
		}
	}
	return answers
}

// travel takes the time that a message takes, and returns why it has not arrived.
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

// delay is how long the next message takes. s.mu is held.
func (s *Server) delay() time.Duration {
	if s.chance == nil || s.faults.Delay <= 0 {
		return 0
	}
	return time.Duration(s.chance.Int64N(int64(s.faults.Delay)))
}

// happens reports whether something of that probability happens. s.mu is held.
func (s *Server) happens(p float64) bool { return s.chance != nil && s.chance.Float64() < p }

// make makes the calls of l.
func (s *Server) make(l *link, calls []fleet.Call, answers []fleet.Response) {
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
		changed := r.make(c, l.member, now, &more)
		v := r.view(c.Key, now.UnixMilli())
		if changed {
			s.publish(v)
		}
		v.Budget, v.Rate = more.Budget, more.Rate
		answers[i].View = v
	}
}

// publish tells all who have subscribed. s.mu is held.
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

// ms is d in milliseconds, rounded up; not negative.
func ms(d time.Duration) int64 {
	return max(int64((d+time.Millisecond-1)/time.Millisecond), 0)
}

// span is so many milliseconds; not negative.
func span(n int64) time.Duration { return time.Duration(max(n, 0)) * time.Millisecond }
