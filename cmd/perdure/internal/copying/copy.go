// Package copying carries one file, stream, web page or object to a file, a
// stream or an object, through failures: the destination is complete and
// verified, or as it was before.
//
// What can be repeated is repeated by the clients, packages httpretry and
// objects. What is left for this one is a body that broke and that nobody could
// resume: it is fetched anew, if the destination can begin anew.
package copying

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/patience"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/place"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Job says what to copy where. It is used once.
type Job struct {
	Source      string // a file, -, an http or https URL, s3://bucket/key
	Destination string // a file, a directory, -, s3://bucket/key, s3://bucket/
	EndpointURL string // of an S3-compatible store; "" is what the AWS environment says

	// CustomerKey is the file with the key by which the store encrypts the objects
	// of both sides (SSE-C); "" is none.
	CustomerKey string

	Checksum string // that the bytes are to have, as package checksum reads it; "" is any
	Parallel int    // requests for a large web page at a time; 0 is 4
	NoResume bool   // begin anew what an earlier run has begun, and leave nothing for a later one

	Stdin  io.Reader // of -
	Stdout *os.File  // of -

	Policy  policy.Source  // for both sides, each of which has a preset of its own
	Breaker circuit.Config // of every breaker

	// Registry holds the breakers of the sides; nil: one of its own.
	Registry *circuit.Registry

	// Patience waits for the breaker of a side; nil: nobody does.
	Patience *patience.Patience

	// Observe and Resumed are told what happens, as in the library. Progress is
	// told how many bytes are there, and of how many (-1: not known), and Note
	// what else there is to know, as the word for an event and a sentence. All
	// but Note may be called by several goroutines, one at a time.
	Observe  func(retry.Event)
	Resumed  func(httpretry.Resumption)
	Progress func(done, total int64)
	Note     func(event, text string)
}

// A Result is what has been copied. Its texts hold no secrets.
type Result struct {
	Source, Destination string

	Bytes    int64
	Checksum string // of all of it, as "sha256:..." or "crc32:..."
	Verified string // by what, as "sha256"
	Attempts int    // requests that were sent
	Retries  int    // of those
	Resumed  int64  // bytes that an earlier run had brought
	Elapsed  time.Duration
}

// A copier is a Job under way.
type copier struct {
	*Job

	from, to place.Place
	want     checksum.Sum
	left     string // what is kept for another run, in words
	tries    int    // of all of it, in this run
	earlier  int64  // bytes of an earlier run that were of use

	upload, download *objects.Store // of the sides that are objects
	client           *http.Client   // of a source that is a web page
	again            retry.Policy   // for what the clients can't repeat

	endpoint string // of the objects; "" is AWS
	key      []byte // that CustomerKey has; nil: not read yet

	attempts, retries atomic.Int64

	telling sync.Mutex // held while Observe, Resumed or Progress runs
}

// copier returns the job as one under way.
func (j *Job) copier() *copier {
	j.Registry = cmp.Or(j.Registry, new(circuit.Registry))
	return &copier{Job: j}
}

// Run copies. The error names what failed and where; package exit knows its
// code. The destination is complete or as it was, whatever happens, but for a
// pipe, a device or standard output, where bytes that were written can't be taken
// back. A web page that can be resumed leaves a partial file beside the file that
// it was to become, and the error says so.
func (j *Job) Run(ctx context.Context) (Result, error) {
	begun := time.Now()
	c := j.copier()
	result, err := c.run(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil && c.left != "" {
		err = &keptError{err, c.left}
	}
	result.Source, result.Destination = c.from.String(), c.to.String()
	result.Attempts, result.Retries = int(c.attempts.Load()), int(c.retries.Load())
	result.Elapsed = time.Since(begun)
	return result, err
}

func (c *copier) run(ctx context.Context) (r Result, err error) {
	if c.from, c.to, err = place.Parse(c.Source, c.Destination); err != nil {
		return r, err
	}
	if c.Checksum != "" {
		if c.want, err = checksum.Parse(c.Checksum); err != nil {
			return r, setting.Bad("--checksum", c.Checksum, checksum.Want)
		}
	}
	if c.CustomerKey != "" && c.from.Kind != place.Object && c.to.Kind != place.Object {
		return r, setting.Bad("--sse-c-key", c.CustomerKey, "an object as SRC or DST: nothing else is encrypted")
	}
	if c.from.Kind == place.File {
		if err := readable(c.from.Path); err != nil {
			return r, c.explain("read", c.from, err)
		}
	}
	t, err := c.target(ctx)
	if err != nil {
		return r, c.explain("write", c.to, err)
	}
	defer t.close()
	if err := c.connect(ctx); err != nil {
		return r, err
	}
	o, err := retry.Value(ctx, &c.again, func(ctx context.Context) (outcome, error) {
		c.tries++
		return c.attempt(ctx, t)
	})
	if err != nil {
		return r, ended(err)
	}
	if err := t.commit(); err != nil {
		return r, c.explain("write", c.to, err)
	}
	r.Bytes, r.Checksum, r.Verified, r.Resumed = o.bytes, o.checksum, o.verified, c.earlier
	return r, nil
}

// target makes ready where the bytes go.
func (c *copier) target(ctx context.Context) (target, error) {
	switch c.to.Kind {
	case place.Stream:
		return sink{c, c.Stdout}, nil
	case place.Object:
		return put{c}, nil
	default:
		return c.newDraft(ctx)
	}
}

// attempt copies all of it once.
func (c *copier) attempt(ctx context.Context, t target) (outcome, error) {
	if t, ok := t.(fetcher); ok {
		return t.attempt(ctx)
	}
	in, err := c.open(ctx)
	if err != nil {
		return outcome{}, retry.Permanent(c.explain("read", c.from, err))
	}
	defer in.Close()
	o, err := t.write(ctx, in)
	broken, ours := errors.AsType[*readError](err)
	switch {
	case err == nil:
		return o, nil
	case !ours:
		return o, retry.Permanent(c.explain("write", c.to, err))
	case t.sequential() && o.bytes > 0 && mayRestart(broken.err):
		return o, retry.Permanent(&exit.Error{Code: exit.Unavailable, Err: c.explain("read", c.from, &cutError{broken.err, o.bytes})})
	case mayRestart(broken.err):
		return o, retry.Transient(c.explain("read", c.from, broken.err))
	}
	return o, retry.Permanent(c.explain("read", c.from, broken.err))
}

// mayRestart reports whether a body that broke may come whole the next time:
// if nobody has retried it already.
func mayRestart(err error) bool {
	if _, ok := errors.AsType[*retry.Error](err); ok {
		return false
	}
	for _, known := range []error{
		io.ErrUnexpectedEOF, httpretry.ErrNoValidator, httpretry.ErrChanged, httpretry.ErrWrongRange,
		objects.ErrChanged, objects.ErrChecksum, objects.ErrStalled,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	_, digest := errors.AsType[*httpretry.DigestError](err)
	p := retry.Policy{}
	class, _ := p.ClassOf(err)
	return digest || class == retry.ClassTransient
}

// observe counts the retries.
func (c *copier) observe(e retry.Event) {
	if e.Kind == retry.Retrying {
		c.retries.Add(1)
	}
	if e.Err != nil {
		e.Err = told{e.Err}
	}
	if c.Observe != nil {
		c.telling.Lock()
		defer c.telling.Unlock()
		c.Observe(e)
	}
}

// resumed tells of a body that goes on.
func (c *copier) resumed(r httpretry.Resumption) {
	if c.Resumed != nil {
		c.telling.Lock()
		defer c.telling.Unlock()
		c.Resumed(r)
	}
}

func (c *copier) note(event, text string) {
	if c.Note != nil {
		c.Note(event, text)
	}
}

// restarting is observe for the attempts that are made here. How they end is
// the clients' to tell, and the error's.
func (c *copier) restarting(e retry.Event) {
	if e.Kind == retry.Retrying || e.Kind == retry.Succeeded {
		c.observe(e)
	}
}

func (c *copier) progress(done, total int64) {
	if c.Progress != nil {
		c.telling.Lock()
		defer c.telling.Unlock()
		c.Progress(done, total)
	}
}
