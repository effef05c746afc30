// Package copying carries the bytes of one place to another, through failures: the destination is complete and verified,
// or as it was before.
//
// What can be repeated is repeated by the clients, packages httpretry and objects. What is left for this one is a body that
// broke and that could not be resumed: it is fetched from the beginning, if the destination can begin again.
package copying

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Job says what to copy where. It is used once.
type Job struct {
	endpoint.Session

	Source, Destination string // addresses, as package endpoint parses them
	Checksum            string // that the bytes must have, as package checksum reads it; "" allows any

	// Progress, if not nil, is called with how many bytes are there, and of how many (-1: unknown), by one goroutine at a
	// time.
	Progress func(done, total int64)
}

// A Result is what has been copied. Its texts hold no secrets.
type Result struct {
	Source, Destination string

	Bytes    int64
	Checksum string // of all bytes, as "crc32c:..."; "" is not known
	Verified string // by what, as "crc32c"
	Attempts int    // requests that were sent
	Retries  int    // of those
	Resumed  int64  // bytes that an earlier run had brought
	Elapsed  time.Duration
}

// Run copies. The error names what failed and where; package exit knows its code. The destination is complete or as it was,
// whatever happens, but for a pipe, a device or standard output, where bytes that were written can't be taken back. What
// can be resumed is left to the next run, and the error says so.
func (j *Job) Run(ctx context.Context) (r Result, err error) {
	begun := time.Now()
	from, to, err := endpoint.Parse(j.Source, j.Destination)
	if err != nil {
		return r, err
	}
	c := &endpoint.Copy{Session: &j.Session, From: from, Progress: j.Progress}
	if j.Checksum != "" {
		if c.Want, err = checksum.Parse(j.Checksum); err != nil {
			return r, setting.Bad("--checksum", j.Checksum, checksum.Want)
		}
	}
	j.Start()
	err = connect(ctx, c, to)
	var stored endpoint.Stored
	if err == nil {
		stored, err = One(ctx, c, to)
	}
	if err != nil && ctx.Err() != nil {
		err = because(err, context.Cause(ctx))
	}
	r = Result{
		Source: from.String(), Destination: to.String(), Bytes: stored.Bytes, Checksum: stored.Checksum,
		Verified: stored.Verified, Resumed: c.Earlier, Elapsed: time.Since(begun),
	}
	r.Attempts, r.Retries = j.Requests()
	return r, err
}

// connect makes both sides ready.
func connect(ctx context.Context, c *endpoint.Copy, to endpoint.Endpoint) error {
	if err := c.From.Connect(ctx, c.Session, endpoint.Source); err != nil {
		return err
	}
	if err := to.Connect(ctx, c.Session, endpoint.Destination); err != nil {
		return err
	}
	return c.Unused()
}

// One copies c.From to an endpoint; both are connected.
func One(ctx context.Context, c *endpoint.Copy, to endpoint.Endpoint) (stored endpoint.Stored, err error) {
	if c.Want.IsZero() {
		stored, err = to.CopyFrom(ctx, c.From)
		if err == nil {
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
	r := run{c, to.Where(), t}
	_, err = retry.Value(ctx, c.Again(), func(ctx context.Context) (endpoint.Stored, error) {
		c.Tries++
		return r.attempt(ctx)
	})
	if err != nil {
		err = endpoint.Ended(err)
	} else if stored, err = t.Commit(); err != nil {
		err = r.explain(err)
	}
	if left := t.Close(); err != nil && left != "" {
		err = &keptError{err, left}
	}
	return stored, err
}

// A run is one copy to a target.
type run struct {
	*endpoint.Copy

	where  string
	target endpoint.Target
}

// explain returns err with which side it is of.
func (r run) explain(err error) error {
	if _, read := errors.AsType[*endpoint.ReadError](err); read {
		return endpoint.Explain("read", r.From.Where(), err)
	}
	return endpoint.Explain("write", r.where, err)
}

// attempt copies all bytes once.
func (r run) attempt(ctx context.Context) (stored endpoint.Stored, err error) {
	if g, _ := r.From.Getter(); g != nil && r.target.File() != nil {
		return stored, r.fetch(ctx, g)
	}
	in, err := r.From.Open(ctx)
	if err != nil {
		return stored, retry.Permanent(endpoint.Explain("read", r.From.Where(), err))
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
		return stored, retry.Permanent(&exit.Error{Code: code, Err: r.explain(&endpoint.ReadError{Err: &cutError{err, stored.Bytes}})})
	}
	return stored, retry.Transient(r.explain(err))
}

// fetch fetches what is missing. A body that could not go on for want of leave goes on when there is some: a request has
// waited for that itself.
func (r run) fetch(ctx context.Context, g transfer.Getter) (err error) {
	_ = r.Waiter.Do(ctx, r.Registry.All, func(ctx context.Context) error {
		err = r.target.File().Fetch(ctx, g)
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
		return retry.Permanent(endpoint.Explain("write", r.where, err))
	case requested || !endpoint.MayRestart(err) || errors.Is(err, checksum.ErrMismatch) || errors.Is(err, transfer.ErrChanged): // these have had their attempts
		return retry.Permanent(endpoint.Explain("read", r.From.Where(), err))
	}
	return retry.Transient(endpoint.Explain("read", r.From.Where(), err))
}

// A cutError is an input that broke when some of it could not be taken back.
type cutError struct {
	err   error
	bytes int64
}

func (e *cutError) Error() string {
	return fmt.Sprintf("it broke after %d bytes, which are already written to a stream and cannot be retried: %s", e.bytes, endpoint.Brief(e.err))
}
func (e *cutError) Unwrap() error { return e.err }

// A keptError is an error after which another run has something to go on with.
type keptError struct {
	err  error
	left string // in words
}

func (e *keptError) Error() string { return e.err.Error() + "; " + e.left }
func (e *keptError) Unwrap() error { return e.err }

// because returns what a copy ended with that was ended by cause, with what is left.
func because(err, cause error) error {
	if kept, ok := errors.AsType[*keptError](err); ok {
		return &keptError{cause, kept.left}
	}
	return cause
}
