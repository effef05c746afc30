package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/byterange"
	"github.com/seed-0f2c7998/perdure/internal/redact"
)

// errIgnored is a part that came as the whole.
var errIgnored = fmt.Errorf("download: the server said that it knows ranges: %w", httpretry.ErrWrongRange)

// FetchOptions say how an entity is fetched by Fetch. The zero FetchOptions are ready for use.
type FetchOptions struct {
	// Client makes the requests; nil: one with httpretry's default policy.
	Client *http.Client

	// Parallel is how many requests are made at once; 0 is 4, less than 0 is one.
	Parallel int

	// PartSize is how many bytes a request asks for, after the first; 0 is 16 MiB, less than 64 KiB is that.
	PartSize int64

	// Progress, if set, is told of each piece that was written, by several goroutines at once.
	Progress func(bytes int64)

	// Checkpoint, if set, is given the state when a part has been written, and after each PartSize bytes: that is the
	// time to save it. It is called by one goroutine at a time. The State is its own.
	Checkpoint func(State)
}

// Fetch writes to dst what req, a GET, brings, as far as s says that it is not there yet. It updates s, also when it fails.
//
// If the entity is another one than that of s, it begins anew with that: dst may then hold more than the Size of s, and
// the caller has to cut it there in the end. If the server does not tell a size and a validator, one request brings
// everything, and another run begins anew.
//
// Digests that the server offers are verified, by the transport or, if dst is an io.ReaderAt, by reading dst again.
// The error is that of the client, of dst, what [httpretry.Ended] says of the answer, a [*httpretry.StatusError], a
// [*httpretry.DigestError], or [ErrChanged].
func Fetch(req *http.Request, dst io.WriterAt, s *State, o FetchOptions) error {
	if o.Client == nil {
		o.Client = httpretry.Client(nil)
	}
	if o.Parallel == 0 {
		o.Parallel = 4
	}
	if o.PartSize == 0 {
		o.PartSize = 16 << 20
	}
	o.PartSize = max(o.PartSize, 64<<10)
	ctx, cancel := context.WithCancelCause(req.Context())
	defer cancel(nil)
	f := fetch{output: output{dst: dst, state: s, options: o}, req: req, ctx: ctx, cancel: cancel}
	return f.run()
}

// A fetch is one run of Fetch.
type fetch struct {
	output

	req    *http.Request
	ctx    context.Context //nolint:containedctx // of this one call
	cancel context.CancelCauseFunc
	parts  queue // that nobody has claimed
	next   int64 // where the body of the first answer stands; of the one goroutine that reads it
}

// run makes the first request, and others beside it.
func (f *fetch) run() error {
	if f.state.Complete() {
		return nil
	}
	res, err := f.first()
	if err != nil {
		return err
	}
	defer res.Body.Close()
	sequential := res.StatusCode == http.StatusOK
	if sequential && !f.state.resumable() {
		return f.whole(res)
	}
	parts := f.state.missing(f.options.PartSize)
	if len(parts) > 0 {
		f.next = parts[0].From
	}
	f.parts.parts = parts
	var workers sync.WaitGroup
	others := min(f.options.Parallel, len(parts)) - 1
	if sequential && res.Header.Get("Accept-Ranges") != "bytes" {
		others = 0
	}
	for range others {
		workers.Go(func() { f.stop(f.work()) })
	}
	f.stop(f.front(res.Body))
	f.stop(f.work())
	workers.Wait()
	f.stop(f.front(res.Body)) // what the server would not send as parts
	if err := context.Cause(f.ctx); err != nil {
		return err
	}
	if len(f.parts.parts) > 0 {
		return errIgnored
	}
	if sequential && others <= 0 {
		return nil // the transport has seen it all
	}
	return f.verify()
}

// stop ends all requests after a failure.
func (f *fetch) stop(err error) {
	if err != nil {
		f.cancel(err)
	}
}

// first asks for what is missing at the front: the rest of the entity of the state, or else the whole of the present one.
func (f *fetch) first() (*http.Response, error) {
	from := int64(0)
	if f.state.resumable() && len(f.state.Done) > 0 {
		from = f.state.missing(f.options.PartSize)[0].From
	}
	res, err := f.ask(from, -1)
	if err != nil {
		return nil, err
	}
	switch res.StatusCode {
	case http.StatusOK:
		switch same := f.state.resumable() && f.state.same(res) && res.ContentLength == f.state.Size; {
		case !same:
			f.state.begin(res)
		case from > 0:
			f.state.Done = nil // it does not know ranges: once more from the beginning
		}
		return res, nil
	case http.StatusPartialContent:
		if err = f.check(res, from); err == nil {
			return res, nil
		}
	case http.StatusRequestedRangeNotSatisfiable:
		err = refusal(res)
		if from > 0 { // it does not know If-Range, and has an entity that is shorter
			*f.state = State{}
			res.Body.Close()
			return f.first()
		}
	default:
		err = refusal(res)
	}
	return nil, errors.Join(err, res.Body.Close())
}

// ask requests the bytes from from up to to; to is -1 for all the rest.
func (f *fetch) ask(from, to int64) (*http.Response, error) {
	req := f.req.Clone(f.ctx)
	req.Header.Set("Accept-Encoding", "identity") // the offsets are those of the file
	switch {
	case to >= 0:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
	case from > 0:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	if req.Header.Get("Range") != "" {
		req.Header.Set("If-Range", f.state.validator())
	}
	return f.options.Client.Do(req)
}

// check returns what is wrong with a 206 that was to begin at from.
func (f *fetch) check(res *http.Response, from int64) error {
	r, ok := byterange.Parse(res.Header.Get("Content-Range"))
	switch {
	case !ok || r.Unsatisfied || r.First != from:
		return httpretry.ErrWrongRange
	case !f.state.same(res), r.Total >= 0 && r.Total != f.state.Size:
		return ErrChanged
	}
	return nil
}

// whole writes the body of an answer that no other request could go on with.
func (f *fetch) whole(res *http.Response) error {
	f.state.Done = nil
	n, err := f.write(res.Body, Range{0, -1})
	if err == nil {
		f.state.Size, f.state.Unverified = n, httpretry.Unverifiable(res)
	}
	return err
}

// front writes from the body of the first answer, for as long as nobody else has claimed what comes next.
func (f *fetch) front(body io.Reader) error {
	for f.ctx.Err() == nil {
		part, ok := f.parts.first(f.next)
		if !ok {
			return nil
		}
		if _, err := f.write(body, part); err != nil {
			return err
		}
		f.next = part.To
	}
	return nil
}

// work fetches parts from the back until there are no more, or the server does not know ranges.
func (f *fetch) work() error {
	for f.ctx.Err() == nil {
		part, ok := f.parts.last()
		if !ok {
			return nil
		}
		err := f.part(part)
		if errors.Is(err, errIgnored) {
			f.parts.giveBack(part) // it is left to the first answer
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// part fetches one part.
func (f *fetch) part(r Range) error {
	res, err := f.ask(r.From, r.To)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK: // it was to send that only if the entity has changed
		if f.state.same(res) {
			return errIgnored
		}
		return ErrChanged
	case http.StatusPartialContent:
		if err := f.check(res, r.From); err != nil {
			return err
		}
		_, err := f.write(res.Body, r)
		return err
	}
	return refusal(res)
}

// refusal returns the error that stands for an answer which is neither the whole nor a part.
func refusal(res *http.Response) error {
	if err := httpretry.Ended(res); err != nil {
		return err
	}
	return &httpretry.StatusError{Method: http.MethodGet, URL: redact.String(res.Request.URL.String()), Status: res.StatusCode}
}
