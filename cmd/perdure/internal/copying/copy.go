// Package copying copies the bytes of one endpoint to another, through failures. Afterwards the destination is complete and
// verified, or unchanged.
//
// Requests are retried by the clients: packages httpretry and objects. This package retries bodies that broke and could not
// be resumed: it fetches them from scratch, if the destination can be rewound.
package copying

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Job describes one copy. It is used once.
type Job struct {
	Session endpoint.Session

	Source, Destination string // addresses, as package endpoint parses them
	Checksum            string // the bytes must have it, as package checksum parses it; "" allows any

	// Progress is called with the bytes that were transferred, with those of them that an earlier run has transferred, and
	// with the size; -1 means that the size is unknown. It is called by one goroutine at a time. If nil, it is not called.
	Progress func(done, earlier, total int64)
}

// A Result describes what was copied. It holds no secrets.
type Result struct {
	Source, Destination string

	Bytes    int64
	Checksum string // of all bytes, such as "crc32c:..."; "" if unknown
	Verified string // what has verified the copy, such as "crc32c"
	Attempts int    // requests that were sent, retries included
	Retries  int    // requests that were retries
	Resumed  int64  // bytes that an earlier run had transferred
	Elapsed  time.Duration
}

// Run copies. Its error names what failed and where, and has an exit code in package exit. The destination is complete or
// unchanged, except for a pipe, a device or standard output: bytes that were written to these cannot be taken back. If the
// next run can resume the copy, the error says so.
func (j *Job) Run(ctx context.Context) (r Result, err error) {
	begun := time.Now()
	from, to, err := endpoint.Parse(j.Source, j.Destination, j.Session.Stores())
	if err != nil {
		return r, err
	}
	c := &endpoint.Copy{Session: &j.Session, From: from, Progress: j.Progress}
	if j.Checksum != "" {
		if c.Want, err = checksum.Parse(j.Checksum); err != nil {
			return r, setting.Bad("--checksum", j.Checksum, checksum.Want)
		}
	}
	j.Session.Start()
	err = connect(ctx, c, to)
	var stored endpoint.Stored
	if err == nil {
		stored, err = One(ctx, c, to)
	}
	if err != nil && ctx.Err() != nil {
		err = interrupted(err, context.Cause(ctx))
	}
	r = Result{
		Source: from.String(), Destination: to.String(), Bytes: stored.Bytes, Checksum: stored.Checksum,
		Verified: stored.Verified, Resumed: c.Earlier, Elapsed: time.Since(begun),
	}
	r.Attempts, r.Retries = j.Session.Requests()
	return r, err
}

// connect connects both sides.
func connect(ctx context.Context, c *endpoint.Copy, to endpoint.Endpoint) error {
	if err := c.From.Connect(ctx, c.Session, endpoint.Source); err != nil {
		return err
	}
	if err := to.Connect(ctx, c.Session, endpoint.Destination); err != nil {
		return err
	}
	return c.Session.Unused()
}

// One copies c.From to an endpoint. Both are connected.
func One(ctx context.Context, c *endpoint.Copy, to endpoint.Endpoint) (stored endpoint.Stored, err error) {
	ctx = endpoint.Named(ctx, c.From, to)
	if c.Want.IsZero() {
		stored, err = to.CopyFrom(ctx, c.From)
		if err == nil {
			c.Arrived(stored.Bytes)
			return stored, nil
		}
		if !errors.Is(err, errors.ErrUnsupported) {
			return stored, endpoint.Explain("copy", c.From.String()+" to "+to.Where(), err)
		}
	}
	t, err := to.Create(ctx, c)
	if err != nil {
		return stored, endpoint.Explain("write", to.Where(), err)
	}
	r := run{copy: c, to: to, target: t}
	_, err = retry.Value(ctx, c.Session.Again(), func(ctx context.Context) (endpoint.Stored, error) {
		c.Tries++
		return r.attempt(ctx)
	})
	if err != nil {
		err = endpoint.Ended(err)
	} else if stored, err = t.Commit(); err != nil {
		err = r.explain(err)
	}
	if left := t.Close(); err != nil && left != "" {
		err = &resumableError{err, left}
	}
	return stored, err
}

// A run is one copy to a target.
type run struct {
	copy   *endpoint.Copy
	to     endpoint.Endpoint
	target endpoint.Target
}

// explain returns err with the side that has failed.
func (r run) explain(err error) error {
	if _, read := errors.AsType[*endpoint.ReadError](err); read {
		return endpoint.Explain("read", r.copy.From.Where(), err)
	}
	return endpoint.Explain("write", r.to.Where(), err)
}

// attempt makes one attempt to copy all bytes.
func (r run) attempt(ctx context.Context) (stored endpoint.Stored, err error) {
	if g, _ := r.copy.From.Getter(); g != nil && r.target.File() != nil {
		return stored, r.fetch(ctx, g)
	}
	in, err := r.copy.From.Open(ctx)
	if err != nil {
		return stored, retry.Permanent(endpoint.Explain("read", r.copy.From.Where(), err))
	}
	defer func() { _ = in.Close() }()
	stored, err = r.target.Put(ctx, in)
	_, read := errors.AsType[*endpoint.ReadError](err)
	switch {
	case err == nil:
		return stored, nil
	case !read || !endpoint.MayRestart(err):
		return stored, retry.Permanent(r.explain(err))
	case stored.Bytes > 0:
		code := exit.Unavailable
		if errors.Is(err, checksum.ErrMismatch) {
			code = exit.Failed
		}
		return stored, retry.Permanent(&exit.Error{Code: code, Err: r.explain(&endpoint.ReadError{Err: &truncatedError{err, stored.Bytes}})})
	}
	return stored, retry.Transient(r.explain(err))
}

// fetch fetches the missing ranges. If resuming a body was refused, because a breaker is open, it waits and tries again;
// requests wait by themselves.
func (r run) fetch(ctx context.Context, g transfer.Getter) (err error) {
	_ = r.copy.Session.Waiter.Do(ctx, r.copy.Session.Registry.All, func(ctx context.Context) error {
		err = r.target.File().Fetch(ctx, r.copy.Session.Paced(g))
		if _, requested := errors.AsType[*url.Error](err); requested {
			return nil
		}
		return err
	})
	_, requested := errors.AsType[*url.Error](err)
	_, written := errors.AsType[*transfer.WriteError](err)
	_, size := errors.AsType[*transfer.SizeError](err)
	switch {
	case err == nil:
		return nil
	case written || size:
		return retry.Permanent(endpoint.Explain("write", r.to.Where(), err))
	case requested || !endpoint.MayRestart(err) || errors.Is(err, checksum.ErrMismatch) || errors.Is(err, transfer.ErrChanged): // these were retried already
		return retry.Permanent(endpoint.Explain("read", r.copy.From.Where(), err))
	}
	return retry.Transient(endpoint.Explain("read", r.copy.From.Where(), err))
}

// A truncatedError is an input that broke after some of it was written to a stream.
type truncatedError struct {
	err   error
	bytes int64
}

func (e *truncatedError) Error() string {
	return fmt.Sprintf("it broke after %s, which are already written to a stream and cannot be taken back: %s", report.Bytes(e.bytes), endpoint.Brief(e.err))
}
func (e *truncatedError) Unwrap() error { return e.err }

// A resumableError is an error after which another run can resume the copy.
type resumableError struct {
	err  error
	left string // what is kept, as a clause
}

func (e *resumableError) Error() string { return e.err.Error() + "; " + e.left }
func (e *resumableError) Unwrap() error { return e.err }

// interrupted returns cause, with what the copy that ended with err has kept.
func interrupted(err, cause error) error {
	if resumable, ok := errors.AsType[*resumableError](err); ok {
		return &resumableError{cause, resumable.left}
	}
	return cause
}
