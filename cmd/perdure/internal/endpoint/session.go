package endpoint

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/wait"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Session is what the endpoints of a copy, or of many, share. The fields that are exported must not change after the
// first Connect. It is safe for concurrent use.
type Session struct {
	EndpointURL string // of an S3-compatible store; "" is what the AWS environment says

	// CustomerKey is the file with the key by which the store encrypts the objects of both sides (SSE-C); "" means none.
	CustomerKey string

	NoSignRequest bool   // requests to a store have no credentials
	RequestPayer  bool   // whoever requests, pays
	VersionID     string // of a source that is an object; "" means the present version
	MinRate       int64  // bytes per second that a body must bring, averaged over a minute; 0 means no limit

	Many     bool // places are copied: a retry says of which object it is
	Parallel int  // requests for one large file or object at a time; 0 means DefaultParallel
	NoResume bool // what an earlier run has left is dropped, and nothing is left for a later one

	Stdin, Stdout *os.File // of -

	Policy   policy.Source     // for both sides, each of which has a preset of its own
	Breaker  circuit.Config    // of every breaker; its Rate and Concurrency are of the source's requests
	RateDst  float64           // most requests per second to the destination; 0 means no limit
	Limits   []error           // of the source's requests, for each flag that has set one: what is wrong if there are none
	Registry *circuit.Registry // of the source's breakers; nil: one of its own
	Waiter   *wait.Waiter      // waits while the breaker of a side is open; nil means do not wait

	// Observe and Resumed are called with what happens, as in the library, and Note with what else there is to know, as
	// the word for an event and a sentence. They are called by one goroutine at a time.
	Observe func(context.Context, retry.Event)
	Resumed func(httpretry.Resumption)
	Note    func(event, text string)

	guarded     [2]bool // by role: requests are made of the endpoint
	breakerDst  circuit.Config
	registryDst *circuit.Registry

	stored, versioned bool // an endpoint is of a store, or a source of one that has versions

	again retry.Policy // for what the clients can't repeat

	attempts, retries atomic.Int64
	telling           sync.Mutex // held while a callback runs

	keyOnce sync.Once
	key     []byte // that CustomerKey has
	keyErr  error
}

// DefaultParallel is how many requests for one large file or object are made at a time.
const DefaultParallel = 4

// Start makes the session ready for the first Connect.
func (s *Session) Start() {
	s.Parallel = cmp.Or(s.Parallel, DefaultParallel)
	s.Registry = cmp.Or(s.Registry, new(circuit.Registry))
	s.again = retry.Policy{MaxAttempts: 1, Observe: s.restarting}
	s.breakerDst, s.registryDst = s.Breaker, s.Registry
	if s.RateDst != s.Breaker.Rate || s.Breaker.Concurrency > 0 {
		s.breakerDst.Concurrency = 0
		s.registryDst = new(circuit.Registry)
		if s.breakerDst.Rate = s.RateDst; s.RateDst == 0 {
			s.breakerDst.Burst = 0
		}
	}
}

// guards returns the Config of the breakers of one side, and where they are made.
func (s *Session) guards(as Role) (*circuit.Config, *circuit.Registry) {
	s.guarded[as] = true
	if as == Source {
		return &s.Breaker, s.Registry
	}
	return &s.breakerDst, s.registryDst
}

// Breakers returns those of both sides.
func (s *Session) Breakers() []*circuit.Breaker {
	all := s.Registry.All()
	if s.registryDst != nil && s.registryDst != s.Registry {
		all = append(all, s.registryDst.All()...)
	}
	return all
}

// Again returns the policy for what the clients can't repeat: that of the source.
func (s *Session) Again() *retry.Policy { return &s.again }

// Unused returns a usage error about what neither side of a copy has a use for. Call it when both are connected.
func (s *Session) Unused() error {
	switch {
	case len(s.Limits) > 0 && !s.guarded[Source]:
		return s.Limits[0]
	case s.RateDst != 0 && !s.guarded[Destination]:
		return setting.Bad("--rate-dst", setting.RateText(s.RateDst), "used with an object as DST")
	case s.CustomerKey != "" && !s.stored:
		return setting.Bad("--sse-c-key", s.CustomerKey, "used with an object as SRC or DST: nothing else is encrypted")
	case s.VersionID != "" && !s.versioned:
		return setting.Bad("--version-id", s.VersionID, "used with an object as SRC: nothing else has versions")
	case (s.NoSignRequest || s.RequestPayer) && !s.stored:
		name := "--no-sign-request"
		if s.RequestPayer {
			name = "--request-payer"
		}
		return setting.Bad(name, "true", "used with an object as SRC or DST")
	}
	return nil
}

// Requests returns how many requests were sent, and how many of them were retries.
func (s *Session) Requests() (sent, retries int) {
	return int(s.attempts.Load()), int(s.retries.Load())
}

// policyOf returns the policy of one side. That of the source says as well how often a body that broke is fetched again;
// that is counted by no breaker, for the requests are.
func (s *Session) policyOf(preset, name string, as Role) (*retry.Policy, error) {
	settings, err := s.Policy.Settings(preset)
	if err != nil {
		return nil, err
	}
	p := &settings.Policy
	p.Name = cmp.Or(p.Name, name)
	p.Observe = s.observe
	if as == Source {
		s.again = *p
		s.again.AttemptTimeout = 0 // that is for a response's head
		s.again.Observe = s.restarting
	}
	return p, nil
}

// observe counts the retries.
func (s *Session) observe(ctx context.Context, e retry.Event) {
	if e.Kind == retry.Retrying {
		s.retries.Add(1)
	}
	if e.Err != nil {
		e.Err = told{e.Err, s.Many}
	}
	if s.Observe != nil {
		s.telling.Lock()
		defer s.telling.Unlock()
		s.Observe(ctx, e)
	}
}

// restarting is observe for the attempts that are made in package copying. How they end is the clients' to tell, and the
// error's.
func (s *Session) restarting(ctx context.Context, e retry.Event) {
	if e.Kind == retry.Retrying || e.Kind == retry.Succeeded {
		s.observe(ctx, e)
	}
}

// resumed tells of a body that goes on.
func (s *Session) resumed(r httpretry.Resumption) {
	if s.Resumed != nil {
		s.telling.Lock()
		defer s.telling.Unlock()
		s.Resumed(r)
	}
}

func (s *Session) note(event, text string) {
	if s.Note != nil {
		s.telling.Lock()
		defer s.telling.Unlock()
		s.Note(event, text)
	}
}

// goingOn tells that so many bytes are there of an earlier run, or attempt.
func (c *Copy) goingOn(with Endpoint, bytes, size int64) {
	if c.Tries <= 1 {
		c.Earlier = bytes
	}
	c.note("continued", fmt.Sprintf("Resuming %s: %d of %d bytes already transferred", with, bytes, size))
}

// renewed tells why nothing of that is of use.
func (c *Copy) renewed(reason string) {
	c.Earlier = 0
	c.note("renewed", c.From.String()+" is copied from scratch: "+reason)
}

func (c *Copy) progress(done, total int64) {
	if c.Progress != nil {
		c.Progress(done, total)
	}
}

// A counted client counts what it sends.
type counted struct {
	send func(*http.Request) (*http.Response, error)
	n    *atomic.Int64
}

// Do is that of the SDK's clients.
func (c counted) Do(req *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.send(req)
}

func (c counted) RoundTrip(req *http.Request) (*http.Response, error) { return c.Do(req) }

// Await returns what do returns, or the cause of ctx if that ends first: to open a pipe, or to write to one, takes until
// somebody is at its other end.
func Await[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := do()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done(): // and with it, soon, the process
		return *new(T), context.Cause(ctx)
	}
}

// interruptible returns a reader of r whose Read ends with ctx, as that of a pipe or a terminal does not.
func interruptible(ctx context.Context, r io.Reader) io.ReadCloser {
	pr, pw := io.Pipe()
	stop := context.AfterFunc(ctx, func() { pw.CloseWithError(context.Cause(ctx)) })
	go func() {
		defer stop()
		_, err := io.CopyBuffer(pw, plainReader{r}, make([]byte, chunk))
		pw.CloseWithError(err)
	}()
	return pr
}

// plainReader hides the other methods of a reader.
type plainReader struct{ io.Reader }

// chunk is how many bytes are read at a time.
const chunk = 256 << 10
