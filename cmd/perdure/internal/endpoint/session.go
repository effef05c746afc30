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
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/pages"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/request"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/wait"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Session holds the settings and the state that all endpoints of one copy, or of many, share. Exported fields must not
// change after the first Connect. A Session is safe for concurrent use.
type Session struct {
	// EndpointURL and Profile are those of both stores, EndpointURLDst and ProfileDst of the destination alone; "" means those
	// of the AWS environment, and for the destination those of both.
	EndpointURL, EndpointURLDst string
	Profile, ProfileDst         string

	// CustomerKey is the path of the key with which the store encrypts the objects of both sides (SSE-C); "" means no key.
	CustomerKey string

	NoSignRequest bool   // send requests to a store without credentials
	RequestPayer  bool   // pay for requests to requester-pays buckets
	VersionID     string // version of a source that is an object; "" means the current version
	MinRate       int64  // minimum bytes per second of a download, averaged over a minute; 0 means no limit

	Request     *request.Request // additions to the requests for a URL; nil means none
	RequestFlag string           // the flag that made Request; "" if Request is nil
	Pages       *pages.Spec      // the source is the pages of an API; nil means one response

	Settings Settings // of the objects that are written

	Bandwidth     float64 // maximum bytes per second of all bodies that are sent and received together; 0 means no limit
	BandwidthText string  // Bandwidth as given

	Parallel int  // requests for one large file or object at a time; 0 means DefaultParallel
	ModTimes bool // objects get the modification times of files as metadata
	NoResume bool // start from scratch, and keep nothing to resume from

	Stdin, Stdout *os.File // for the address -

	Policy   policy.Source     // for both sides; each has its own preset
	Breaker  circuit.Config    // for all breakers; Rate and Concurrency limit requests to the source
	RateDst  float64           // maximum requests per second to the destination; 0 means no limit
	Limits   []error           // errors about flags that limit requests to the source, if the source has no requests
	Registry *circuit.Registry // of the source's breakers; nil means a new one
	Metrics  retry.Meter       // counts the requests; nil means nothing is counted
	OnOpen   string            // as given: what an opening of a breaker runs, "" means nothing
	Waiter   *wait.Waiter      // waits while the breaker of a side is open; nil means do not wait

	// Observe is called with each event of a retry and a context that has its Subject, Resumed when a broken body is resumed, Note with the name and the text of
	// other events. They are called by one goroutine at a time. If nil, they are not called.
	Observe func(context.Context, retry.Event)
	Resumed func(httpretry.Resumption)
	Note    func(event, text string, attrs ...any)

	guarded     [2]bool // by role: the endpoint gets requests
	breakerDst  circuit.Config
	registryDst *circuit.Registry

	stored, versioned bool // an endpoint is an object; the source is one
	web               bool // the source is a URL

	again retry.Policy // for bodies, which the clients cannot retry

	bandwidth bandwidth

	attempts, retries atomic.Int64
	notifying         sync.Mutex // held while a callback runs

	keyOnce sync.Once
	key     []byte // content of CustomerKey
	keyErr  error
}

// DefaultParallel is how many requests for one large file or object are made at a time.
const DefaultParallel = 4

// Start prepares the session. Call it before the first Connect.
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

// Stores reports whether source and destination may be in different stores.
func (s *Session) Stores() bool { return s.EndpointURLDst != "" && s.EndpointURLDst != s.EndpointURL }

// guards returns the Config and the Registry of the breakers of one side.
func (s *Session) guards(as Role) (*circuit.Config, *circuit.Registry) {
	s.guarded[as] = true
	if as == Source {
		return &s.Breaker, s.Registry
	}
	return &s.breakerDst, s.registryDst
}

// Breakers returns the breakers of both sides.
func (s *Session) Breakers() []*circuit.Breaker {
	all := s.Registry.All()
	if s.registryDst != nil && s.registryDst != s.Registry {
		all = append(all, s.registryDst.All()...)
	}
	return all
}

// Again returns the policy for bodies, which the clients cannot retry. It is that of the source.
func (s *Session) Again() *retry.Policy { return &s.again }

// Unused returns a usage error about a setting that neither side uses. Call it when both are connected.
func (s *Session) Unused() error {
	if len(s.Limits) > 0 && !s.guarded[Source] {
		return s.Limits[0]
	}
	if s.RequestFlag != "" && !s.web {
		return exit.UsageError(fmt.Errorf("%s can only be used with an http or https URL as SRC", s.RequestFlag))
	}
	const object, guarded = "an object as SRC or DST", "a URL or an object as SRC or DST"
	guards := s.guarded[Source] || s.guarded[Destination]
	for _, use := range []struct {
		flag, value string
		given, used bool
		with        string
	}{
		{"--rate-dst", setting.RateText(s.RateDst), s.RateDst != 0, s.guarded[Destination], "an object as DST"},
		{"--endpoint-url-dst", s.EndpointURLDst, s.EndpointURLDst != "", s.guarded[Destination], "an object as DST"},
		{"--profile-dst", s.ProfileDst, s.ProfileDst != "", s.guarded[Destination], "an object as DST"},
		{"--bandwidth", s.BandwidthText, s.Bandwidth != 0, guards, guarded},
		{"--on-open", s.OnOpen, s.OnOpen != "", guards, guarded},
		{s.Settings.flag, s.Settings.value, s.Settings.flag != "", s.guarded[Destination], "an object as DST"},
		{"--endpoint-url", s.EndpointURL, s.EndpointURL != "", s.versioned || s.stored && s.EndpointURLDst == "", object},
		{"--profile", s.Profile, s.Profile != "", s.versioned || s.stored && s.ProfileDst == "", object},
		{"--sse-c-key", s.CustomerKey, s.CustomerKey != "", s.stored, object},
		{"--version-id", s.VersionID, s.VersionID != "", s.versioned, "an object as SRC"},
		{"--request-payer", "true", s.RequestPayer, s.stored, object},
		{"--no-sign-request", "true", s.NoSignRequest, s.stored, object},
	} {
		if use.given && !use.used {
			return setting.Bad(use.flag, use.value, "used with "+use.with)
		}
	}
	return nil
}

// request returns Request, or one without additions.
func (s *Session) request() *request.Request { return cmp.Or(s.Request, new(request.Request)) }

// Requests returns how many requests were sent, and how many of them were retries.
func (s *Session) Requests() (sent, retries int) {
	return int(s.attempts.Load()), int(s.retries.Load())
}

// policyOf returns the policy of one side. That of the source also limits how often a broken body is fetched from scratch.
// No breaker counts these attempts: it counts their requests.
func (s *Session) policyOf(preset, name string, as Role) (*retry.Policy, error) {
	settings, err := s.Policy.Settings(preset)
	if err != nil {
		return nil, err
	}
	p := &settings.Policy
	p.Observe, p.Metrics = s.observe, s.Metrics
	if p.Name == "" {
		p.Name = name
		p.Observe = func(ctx context.Context, e retry.Event) {
			if operation, ok := ctx.Value(operationKey{}).(string); ok {
				e.Operation = operation
			}
			s.observe(ctx, e)
		}
	}
	if as == Source {
		s.again = *p
		s.again.AttemptTimeout = 0                           // it limits the wait for a response's header
		s.again.Observe, s.again.Metrics = s.restarting, nil // requests are counted
	}
	return p, nil
}

// observe counts retries and calls Observe.
func (s *Session) observe(ctx context.Context, e retry.Event) {
	if e.Kind == retry.Retrying {
		s.retries.Add(1)
	}
	if e.Err != nil {
		ctx = withSubjectOf(ctx, e.Err)
		e.Err = briefError{e.Err}
	}
	if s.Observe != nil {
		s.notifying.Lock()
		defer s.notifying.Unlock()
		s.Observe(ctx, e)
	}
}

// restarting is observe for the attempts of package copying, without their end: clients and the error report that.
func (s *Session) restarting(ctx context.Context, e retry.Event) {
	if e.Kind == retry.Retrying || e.Kind == retry.Succeeded {
		s.observe(ctx, e)
	}
}

// resumed calls Resumed.
func (s *Session) resumed(r httpretry.Resumption) {
	if s.Resumed != nil {
		s.notifying.Lock()
		defer s.notifying.Unlock()
		s.Resumed(r)
	}
}

// note calls Note.
func (s *Session) note(event, text string, attrs ...any) {
	if s.Note != nil {
		s.notifying.Lock()
		defer s.notifying.Unlock()
		s.Note(event, text, attrs...)
	}
}

// resumed notes that bytes of an earlier run or attempt are resumed, or why none are.
func (c *Copy) resumed(with Endpoint, r transfer.Resumption) {
	if r.Bytes == 0 {
		c.restarted(r.Reason)
		return
	}
	if c.Tries <= 1 {
		c.Earlier = r.Bytes
	}
	c.Session.note("continued", fmt.Sprintf("Resuming %s: %s already transferred", with, part(r.Bytes, r.Size)), "bytes", r.Bytes, "total", r.Size)
}

// part returns how many bytes of a copy are done, for people.
func part(bytes, size int64) string { return report.Bytes(bytes) + " of " + report.Bytes(size) }

// restarted notes why the copy starts from scratch.
func (c *Copy) restarted(reason string) {
	c.Earlier = 0
	c.Session.note("renewed", c.From.String()+" is copied from scratch: "+reason)
}

func (c *Copy) progress(done, total int64) {
	if c.Progress != nil {
		c.Progress(done, c.Earlier, total)
	}
}

// Arrived reports the progress of a copy that the store has made by itself.
func (c *Copy) Arrived(size int64) { c.progress(size, size) }

// A counted client counts the requests of a session, and the bytes that it sends for the bandwidth.
type counted struct {
	send    func(*http.Request) (*http.Response, error)
	session *Session
}

// Do implements the HTTPClient of the AWS SDK.
func (c counted) Do(req *http.Request) (*http.Response, error) {
	c.session.attempts.Add(1)
	if c.session.Bandwidth > 0 && req.Body != nil {
		req = req.WithContext(req.Context()) // a copy
		req.Body = c.session.pace(req.Context(), req.Body)
	}
	return c.send(req)
}

func (c counted) RoundTrip(req *http.Request) (*http.Response, error) { return c.Do(req) }

// Await returns the result of do, or the cause of ctx if ctx ends first. Opening a pipe, and writing to one, blocks until the
// other end is ready.
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
	case <-ctx.Done(): // the process ends soon, and the goroutine with it
		return *new(T), context.Cause(ctx)
	}
}

// interruptible returns a reader of r whose Read returns when ctx ends. A Read of a pipe or a terminal does not.
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
