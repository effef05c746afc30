package httpretry

import (
	"context"
	"maps"
	"net/http"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry/internal/unzip"
	"github.com/seed-0f2c7998/perdure/internal/bound"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/seam"
	"github.com/seed-0f2c7998/perdure/retry"
)

// RoundTrip makes as many attempts as it takes, or as the policy allows. It does not change req.
//
// Most requests are a GET that is answered at once. For those, what retries take is made when the first attempt has
// failed; and the way there is one stretch of code, which leaves to others all that is out of the ordinary: the kernel
// has had the processor meanwhile, so that a function that is called costs several times what it does.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) { //nolint:cyclop // as said above
	l, err := &t.defaultRoute, error(nil)
	if !t.oneRoute {
		if l, err = t.routeOf(req); err != nil {
			return refuse(req, err)
		}
	}
	b, word, healthy := l.policy.Breaker, uint64(0), true
	if b != nil {
		word, healthy = seam.Of(b).Quick()
	}
	if ctx := req.Context(); !healthy || !t.needsNoPrep(req) || ctx.Err() != nil || ctx.Value(endKey{}) != nil {
		return t.operate(l, req)
	}
	sent, s := req, (*stream)(nil)
	if h := req.Header; h != nil && len(h) == 0 && t.gzip.Load() {
		own := newGzipRequest(req, http.Header{"Accept-Encoding": gzipOnly})
		sent, s = &own.request, &own.stream
	} else if !t.options.NoResume {
		sent, s = t.withGzip(req)
	}
	start := time.Now()
	res, err := t.base.RoundTrip(sent)
	if err != nil || !isPlain200(res, sent) {
		e := operation{transport: t, route: l, original: req, req: sent, stream: s, idempotent: true, attempts: 1}
		return e.retryFrom(breakers.Permit(b, word), start, res, err)
	}
	if b != nil && !seam.Of(b).Unmoved() {
		breakers.Succeed(req.Context(), breakers.Permit(b, word))
	}
	res.Request = req
	if s == nil {
		return deliver(res, s, false), nil
	}
	s.transport, s.policy, s.req = t, l.policy, sent
	if res.Uncompressed || res.ContentLength <= 0 || !s.representation.read(res) || !s.representation.hasNoChecks() {
		return deliver(res, s, sent != req), nil
	}
	s.adopt(res)
	return res, nil
}

// needsNoPrep reports whether req needs no preparation.
func (t *Transport) needsNoPrep(req *http.Request) bool {
	return t.noPrep && req.Method == http.MethodGet && req.Body == nil
}

// isPlain200 reports whether res is what most responses to req are.
func isPlain200(res *http.Response, req *http.Request) bool {
	return res != nil && res.StatusCode == http.StatusOK && res.Body != nil && res.Request == req && bound.HeaderSize(res.Header) <= bound.Header
}

// refuse returns err without any attempt.
func refuse(req *http.Request, err error) (*http.Response, error) {
	if req.Body != nil {
		req.Body.Close() // as a RoundTripper must
	}
	return nil, err
}

// operate is RoundTrip for any request, by its route.
func (t *Transport) operate(l *route, req *http.Request) (*http.Response, error) {
	e := operation{transport: t, route: l, req: req, idempotent: isIdempotent(req)}
	e.prepare()
	ctx, release := withCancel(req)
	defer release()
	res, err := retry.Value(ctx, l.policy, func(ctx context.Context) (*http.Response, error) {
		return e.attempt(ctx)
	})
	e.upload.Finish()
	return e.outcome(res, err)
}

// A gzipRequest is a copy of a request that asks for gzip, and the stream for the body of its response, in one allocation.
type gzipRequest struct {
	request http.Request
	stream  stream
}

// newGzipRequest returns one with a copy of req that has h as its header.
func newGzipRequest(req *http.Request, h http.Header) *gzipRequest {
	a := new(gzipRequest)
	a.request = *req
	a.request.Header = h
	return a
}

// gzipOnly is the Accept-Encoding that net/http adds by itself.
var gzipOnly = []string{"gzip"} //nolint:gochecknoglobals // shared by all requests, as it saves each of them one

// withGzip returns what is sent for a GET, and the stream for the body of its response. It asks for gzip where the base would
// by itself, unless the caller has other wishes: the base would take the coding off below the stream, and the rest could
// not be asked for. A base that would not gets the request as it is, and the caller the representation that it brings.
func (t *Transport) withGzip(req *http.Request) (*http.Request, *stream) {
	h := req.Header
	if h == nil || h["Accept-Encoding"] != nil || h["Range"] != nil || !t.gzip.Load() {
		return req, new(stream)
	}
	a := newGzipRequest(req, maps.Clone(h))
	a.request.Header["Accept-Encoding"] = gzipOnly
	return &a.request, &a.stream
}

// deliver returns res as the caller gets it: with a body that s carries on if it breaks, if that can be, and without the
// coding that we have asked for and the caller has not. A nil s carries nothing.
func deliver(res *http.Response, s *stream, zipped bool) *http.Response {
	carried := s != nil && s.attach(res)
	if endsAnywhere(res) && (!carried || s.check == nil) {
		res = with(res, end{unverifiable: true})
	}
	if zipped && (!carried || s.representation.encoding != "") {
		unzip.Response(res)
	}
	return res
}

// An end is what GaveUp and MayBeTruncated return for a response. It is in the context of its request, under endKey,
// where it survives whatever wraps the body.
type end struct {
	err          error
	unverifiable bool
}

type endKey struct{}

// with returns res with what is to be told of it.
func with(res *http.Response, e end) *http.Response {
	if res.Request != nil {
		res.Request = res.Request.WithContext(context.WithValue(res.Request.Context(), endKey{}, e))
	}
	return res
}

func endOf(res *http.Response) end {
	if res == nil || res.Request == nil {
		return end{}
	}
	e, _ := res.Request.Context().Value(endKey{}).(end)
	return e
}

// GaveUp returns why res is the last response to its request although its status is one that is retried: a
// [*retry.Error] with the attempts and, as its RetryAt, when to come back; or an error that is [ErrNotIdempotent] or
// [ErrBody]. Its [StatusError] is that of res. GaveUp returns nil if res is the server's own verdict: a success, or a
// status that is not retried.
//
//	res, err := client.Get(url)
//	if err == nil {
//		err = httpretry.GaveUp(res)
//	}
func GaveUp(res *http.Response) error { return endOf(res).err }

// MayBeTruncated reports whether res's body may be cut without an error from Read: the server marks its end by closing the
// connection only, as HTTP/1.0 does, and sends no digest either.
func MayBeTruncated(res *http.Response) bool { return endOf(res).unverifiable }

// endsAnywhere reports whether nothing but the end of the connection marks that of the body.
func endsAnywhere(res *http.Response) bool {
	return res.ContentLength < 0 && res.ProtoMajor == 1 && len(res.TransferEncoding) == 0 && !res.Uncompressed &&
		res.Body != http.NoBody && res.StatusCode != http.StatusSwitchingProtocols
}
