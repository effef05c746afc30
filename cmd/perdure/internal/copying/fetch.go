package copying

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/partial"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/download"
	"github.com/seed-0f2c7998/perdure/retry"
)

const (
	// partSize is how many bytes of a web page one of several requests asks for:
	// little enough that a slow line loses little to a killed process.
	partSize = 4 << 20
	// saveEvery is how often at most the state of a download is saved.
	saveEvery = 200 * time.Millisecond
)

// A fetch is a web page that becomes a file: in parallel ranges if it is large,
// and in several runs if one is not enough.
type fetch struct {
	*remnant

	state download.State
	saved time.Time // when the state was

	total    atomic.Int64 // bytes of the page; -1: not known
	came     atomic.Int64 // bytes that are there
	answered atomic.Bool  // in this attempt
}

// newFetch opens the file that d is written to.
func (c *copier) newFetch(d *draft, mode fs.FileMode) (target, error) {
	f := &fetch{}
	r, err := c.newRemnant(d, func() (kept *partial.File, err error) {
		kept, f.state, err = partial.Open(d.path, identity(c.from.Text), mode)
		return kept, err
	}, mode)
	if err == nil && r.kept == nil {
		f.state = download.State{}
	}
	f.remnant = r
	return f, err
}

// identity returns a text that is the same for the same page: without what a
// signed URL has anew each time, and without secrets.
func identity(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	u.User, u.Fragment = nil, ""
	query := u.Query()
	for name := range query {
		switch lower := strings.ToLower(name); {
		case strings.HasPrefix(lower, "x-amz-"), strings.HasPrefix(lower, "x-goog-"):
			query.Del(name)
		case lower == "awsaccesskeyid", lower == "googleaccessid", lower == "expires", lower == "signature", lower == "policy", lower == "key-pair-id":
			query.Del(name)
		case lower == "sig", lower == "se", lower == "st", lower == "skt", lower == "ske": // of Azure
			query.Del(name)
		}
	}
	u.RawQuery = query.Encode()
	sum := sha256.Sum256([]byte(u.String()))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// attempt fetches what is missing, and compares what is there then. A body that
// could not go on for want of leave goes on when there is some: a request has
// waited for that itself.
func (f *fetch) attempt(ctx context.Context) (outcome, error) {
	c := f.copier
	var err error
	_ = c.Patience.Do(ctx, c.Registry.All, func(ctx context.Context) error {
		err = f.ask(ctx)
		if _, asked := errors.AsType[*url.Error](err); asked {
			return nil
		}
		return err
	})
	if err != nil {
		return outcome{}, f.failed(err)
	}
	o, err := f.finish(ctx, f.state.Size, checksum.Sum{}, f.forget)
	if err == nil && c.want.IsZero() && len(f.state.Digests) > 0 {
		o.verified = "digest"
	}
	return o, err
}

// ask fetches what is missing.
func (f *fetch) ask(ctx context.Context) error {
	c := f.copier
	before := f.begin()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.from.Text, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "perdure")
	err = download.Fetch(req, pageWriter{f}, &f.state, download.FetchOptions{
		Client:   &http.Client{Transport: pages{c.client.Transport, f}},
		Parallel: c.Parallel, PartSize: partSize,
		Progress: func(n int64) { c.progress(f.came.Add(n), f.total.Load()) }, Checkpoint: f.checkpoint,
	})
	if before.Bytes() > 0 && (before.ETag != f.state.ETag || before.LastModified != f.state.LastModified) {
		c.renewed(c.from.String() + " has changed since the earlier run: it is fetched anew")
	}
	return err
}

// begin returns the state that the attempt begins with. Of a file that is
// complete the last byte is fetched again, to know whether it is still the same.
func (f *fetch) begin() download.State {
	if n := len(f.state.Done); f.state.Complete() && n == 1 {
		f.state.Done[0].To--
		if f.state.Done[0].To == 0 {
			f.state.Done = nil
		}
	}
	f.answered.Store(false)
	f.came.Store(f.state.Bytes())
	f.total.Store(-1)
	if have := f.state.Bytes(); have > 0 {
		f.copier.goingOn(f.copier.from, have, f.state.Size)
	}
	return f.state
}

// failed says what an error means for the next attempt, and the next run.
func (f *fetch) failed(err error) error {
	c := f.copier
	if broken, ours := errors.AsType[*writeError](err); ours {
		return retry.Permanent(c.explain("write", c.to, broken.err))
	}
	_, digest := errors.AsType[*httpretry.DigestError](err)
	if digest || errors.Is(err, httpretry.ErrChanged) || errors.Is(err, httpretry.ErrWrongRange) {
		if err := f.forget(); err != nil {
			return retry.Permanent(c.explain("write", c.to, err))
		}
	}
	if errors.Is(err, httpretry.ErrWrongRange) {
		c.Parallel = -1
	}
	if _, asked := errors.AsType[*url.Error](err); !asked && mayRestart(err) { // a request has had its attempts
		return retry.Transient(c.explain("read", c.from, err))
	}
	return retry.Permanent(c.explain("read", c.from, err))
}

// forget makes the next attempt begin anew.
func (f *fetch) forget() error {
	f.state = download.State{}
	if f.kept == nil {
		return nil
	}
	return f.kept.Forget()
}

// checkpoint saves the state, unless that was just done.
func (f *fetch) checkpoint(s download.State) {
	if f.kept == nil || s.ETag == "" && s.LastModified == "" || s.Size < 0 || time.Since(f.saved) < saveEvery {
		return
	}
	_ = f.kept.Save(s) // what can't be saved is fetched again
	f.saved = time.Now()
}

// close leaves what another run can go on with, or nothing.
func (f *fetch) close() {
	resumable := (f.state.ETag != "" || f.state.LastModified != "") && f.state.Size >= 0 && f.state.Bytes() > 0
	if f.done || f.kept == nil || !resumable || f.kept.Save(f.state) != nil && !f.kept.Known() {
		f.leave(0, 0)
		return
	}
	f.leave(f.state.Bytes(), f.state.Size)
}

// A writeError is an error of the destination.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// A pageWriter writes to the file and marks its errors.
type pageWriter struct{ f *fetch }

func (w pageWriter) WriteAt(p []byte, at int64) (int, error) {
	n, err := w.f.file.WriteAt(p, at)
	if err != nil {
		err = &writeError{err}
	}
	return n, err
}

func (w pageWriter) ReadAt(p []byte, at int64) (int, error) { return w.f.file.ReadAt(p, at) }

// pages is a client that looks at the answers before their bodies are read.
type pages struct {
	http.RoundTripper

	f *fetch
}

// errEndless is an answer whose end can't be told from a break.
var errEndless = errors.New("the server tells neither a length nor the end, so a whole answer can't be told from a part of it")

func (t pages) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	switch {
	case res.StatusCode == http.StatusOK && httpretry.Unverifiable(res):
		err = errEndless
	case res.StatusCode == http.StatusOK, res.StatusCode == http.StatusPartialContent:
		err = t.f.answer(req, res)
	}
	if err != nil {
		return nil, errors.Join(err, res.Body.Close())
	}
	return res, nil
}

// answer takes from the first answer how large the page is. What is to be
// written over may be of another entity: then nothing must say any more that it
// is there.
func (f *fetch) answer(req *http.Request, res *http.Response) error {
	if f.answered.Swap(true) {
		return nil
	}
	if res.StatusCode == http.StatusPartialContent {
		_, total, _ := strings.Cut(res.Header.Get("Content-Range"), "/")
		if n, err := strconv.ParseInt(total, 10, 64); err == nil {
			f.total.Store(n)
		}
		return nil
	}
	f.total.Store(res.ContentLength)
	if req.Header.Get("Range") != "" {
		f.came.Store(0)
	}
	if f.kept == nil || !f.kept.Known() {
		return nil
	}
	if err := f.kept.Forget(); err != nil {
		return &writeError{err}
	}
	return nil
}
