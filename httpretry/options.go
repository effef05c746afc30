package httpretry

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/hedge"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Options configure a [Transport]. The zero Options retry by the zero Policy.
type Options struct {
	// Policy decides which failures are retried, and when. If nil, the zero Policy does. Do not change it afterwards.
	// If its Name is empty, the operation is called http_request.
	// Its AttemptTimeout limits the time to the head of a response, not the time to read the body.
	// Its Classify, if set, precedes the general rules. Classify gets a *StatusError for each response with a status of
	// 400 or above, and the base transport's error for an attempt without a response. A Transport calls the Policy's
	// Classify up to twice for one attempt.
	Policy *retry.Policy

	// HeadTimeout limits the time to the head of the response that RoundTrip returns: all attempts, all waits and Retry-After,
	// but not the time to read the body. It counts from RoundTrip, and from each byte of the request's body that is read for
	// the first time: while the caller sends, the server cannot respond. A wait that would exceed it is not begun, and the
	// response before it is returned; an attempt that exceeds it fails with [context.DeadlineExceeded]. Gates and breakers count that
	// as they count the deadline of a caller. 0 means no limit; less than 0 is an error.
	HeadTimeout time.Duration

	// Breakers, if set, gives each key its own breaker in place of the Policy's, with the budget of this Config. The name
	// of a breaker is "http:" and the key.
	Breakers *circuit.Config

	// Registry holds the breakers of Breakers. If nil, the Transport has a registry of its own.
	Registry *circuit.Registry

	// Key returns the key of a request; requests with the same key share a breaker. If nil, [Key] is used. It is called
	// for each request, from several goroutines at once.
	Key func(*http.Request) string

	// Classify, if set, returns the class of a response, for retries and for the breaker. ClassUnknown leaves the
	// response to the Policy: its Classify, then the status. Classify is called once for each response, also for a status
	// below 400, from several goroutines at once. The response has its status and its header, but no body.
	// RetryOn and IgnoreOn of the Policy take precedence.
	Classify func(*http.Response) retry.Class

	// RetryAfter, if set, returns how long the server asks to wait in a response that is retried. If ok is false, the
	// [RetryAfter] header counts and, for a 429 or a 503, the [RateLimit] headers. RetryAfter is called once for each such
	// response, from several goroutines at once. The response has its status and its header, but no body.
	RetryAfter func(*http.Response) (wait time.Duration, ok bool)

	// AttemptHeader, if set, is the name of a request header that has the number of the attempt, from 1.
	AttemptHeader string

	// IdempotencyKeys gives each POST and PATCH without an Idempotency-Key a random one, the same for all its attempts,
	// so the request may be repeated. The server must support the IETF's Idempotency-Key draft.
	// A redirected request gets another key.
	IdempotencyKeys bool

	// Hedge, if set, sends a GET or HEAD a second time when its latency exceeds a percentile of those for its key.
	Hedge *Hedge

	// BufferLimit is how many bytes of a request body are kept in memory for a retry if the body cannot be rewound.
	// 0 means 1 MiB, less than 0 means none. A body with a GetBody or a Seek method is rewound, not kept. Of a request that is not
	// idempotent no body is kept.
	BufferLimit int64

	// SpoolLimit is how many bytes of a request body that cannot be rewound are kept in all; those beyond BufferLimit are
	// in a temporary file. 0 means 64 MiB, less than 0 means no file. A longer body is sent once: see ErrBody.
	SpoolLimit int64

	// SpoolTotal is how many bytes of the request bodies of all requests together are kept, in memory and in files. 0 means
	// no limit; less than 0 is an error. A body for which there is no room is sent once: see ErrBody.
	SpoolTotal int64

	// NoResume turns resuming off, and with it the verification of digests, StallTimeout and MinRate.
	//
	// By default the response body of a GET that breaks or stalls is resumed on another connection, if the response has a
	// strong ETag or a Last-Modified old enough to identify the representation: the caller reads one body, never a mixture
	// of two versions. If that is impossible, Read returns a *BodyError. Digests in the header (Content-Digest, Repr-Digest,
	// Content-MD5, x-amz-checksum-...) are verified: after a mismatch Read returns a *DigestError in place of io.EOF. The
	// trailer is that of the last response.
	NoResume bool

	// StallTimeout is how long a Read of the response body of a GET may return nothing before the connection counts as
	// broken. 0 means 20 s for a body that can be resumed, and no limit otherwise; less than 0 means no limit.
	StallTimeout time.Duration

	// MinRate is the minimum rate of the response body of a GET in bytes per second, averaged over 60 s; 0 means no limit. A
	// slower body counts as a connection that timed out: the body is resumed if possible, at most as often in a row as the
	// Policy allows attempts. Time between Reads does not count.
	//
	// If the Policy's MaxElapsed is below 60 s, the rate is averaged over MaxElapsed, and at least over 1 s. After
	// MaxElapsed, a body with a known end or that can be resumed must exceed 1024 bytes per second even if MinRate is 0.
	MinRate int64

	// OnResume is called before a broken body is resumed, on the goroutine that reads the body, so by several goroutines at
	// once for several bodies. If nil, slog.Default() logs the resumption at INFO.
	OnResume func(Resumption)
}

// Validate returns a [*retry.ConfigError] that names a field, its value and what is allowed, or nil.
func (o *Options) Validate() error {
	if o.Policy != nil {
		if err := o.Policy.Validate(); err != nil {
			return err
		}
	}
	if o.Breakers != nil {
		if err := o.Breakers.Validate(); err != nil {
			return err
		}
	}
	if o.HeadTimeout < 0 {
		return setting.Bad("HeadTimeout", o.HeadTimeout.String(), "positive, or 0 for no limit")
	}
	if o.SpoolTotal < 0 {
		return setting.Bad("SpoolTotal", fmt.Sprint(o.SpoolTotal), "positive (bytes), or 0 for no limit")
	}
	if o.MinRate < 0 {
		return setting.Bad("MinRate", fmt.Sprint(o.MinRate), "positive (bytes per second), or 0 for no limit")
	}
	if strings.ContainsFunc(o.AttemptHeader, notToken) {
		return setting.Bad("AttemptHeader", o.AttemptHeader, "the name of a header")
	}
	return o.Hedge.validate()
}

const (
	defaultBufferLimit = 1 << 20
	defaultSpoolLimit  = 64 << 20
)

// Key returns the server of a request as scheme://host:port.
func Key(req *http.Request) string {
	host, port := strings.ToLower(req.URL.Hostname()), req.URL.Port()
	if port == "" && req.URL.Scheme == "https" {
		port = "443"
	} else if port == "" {
		port = "80"
	}
	return req.URL.Scheme + "://" + net.JoinHostPort(host, port)
}

// A Hedge sends a GET or HEAD a second time when its latency exceeds the given percentile of the last 256 latencies for
// its key; a key needs 20 latencies first. A latency is the time to the head of a response. The first response with a status
// other than 429 and 5xx wins; the other request is canceled and its response drained. Both requests count as one attempt.
// Hedging helps with servers that are sometimes slow and harms overloaded servers: Ratio limits the second requests. When a
// Transport meets more than 1000 keys, it forgets the latencies of all keys. The zero Hedge is ready for use.
type Hedge struct {
	Percentile float64       // a request is slow above this percentile of the latencies; between 0 and 1; 0 means 0.95
	Min        time.Duration // minimum time before the second request; 0 means 10 ms
	Ratio      float64       // maximum number of second requests per first request, with a burst of 10; at most 1; 0 means 0.05
}

// validate is that of Options.
func (h *Hedge) validate() error {
	switch {
	case h == nil:
		return nil
	case !(h.Percentile >= 0 && h.Percentile < 1):
		return setting.Bad("Hedge.Percentile", fmt.Sprint(h.Percentile), "above 0 and below 1, or 0 for 0.95")
	case h.Min < 0:
		return setting.Bad("Hedge.Min", h.Min.String(), "positive, or 0 for 10ms")
	case !(h.Ratio >= 0 && h.Ratio <= 1):
		return setting.Bad("Hedge.Ratio", fmt.Sprint(h.Ratio), "above 0 and at most 1, or 0 for 0.05")
	}
	return nil
}

// hedger returns a new Hedger for a key, or nil if h is nil.
func (h *Hedge) hedger() *hedge.Hedger {
	if h == nil {
		return nil
	}
	known := new(hedge.Hedger)
	known.Percentile, known.Min, known.Ratio = h.Percentile, h.Min, h.Ratio
	if known.Percentile == 0 {
		known.Percentile = 0.95
	}
	if known.Min == 0 {
		known.Min = 10 * time.Millisecond
	}
	if known.Ratio == 0 {
		known.Ratio = 0.05
	}
	return known
}

// CheckRedirect is for [http.Client.CheckRedirect]; the clients of [Client] have it. It follows up to ten redirects and
// sends no more than necessary with them:
//
//   - A redirect has no Referer, which may be a URL with a signature or a token, unless the caller has set one.
//   - After a redirect to another scheme, host or port, requests have no fields that grant access: Authorization, Cookie, and
//     fields named as a key or a token. A [http.CookieJar] has its own rules.
//   - A redirect to a scheme other than http and https is an error.
//   - A redirect to the same scheme, host and port keeps the user and the password of the URL.
//
// CheckRedirect is safe for concurrent use.
func CheckRedirect(req *http.Request, via []*http.Request) error {
	const most = 10
	if len(via) >= most {
		return errors.New("stopped after 10 redirects")
	}
	if scheme := req.URL.Scheme; scheme != "http" && scheme != "https" {
		return retry.Permanent(fmt.Errorf("redirect to scheme %q: must be http or https", scheme))
	}
	first := via[0]
	if first.Header.Get("Referer") == "" {
		req.Header.Del("Referer")
	}
	same := Key(req) == Key(first)
	for _, r := range via {
		same = same && Key(r) == Key(first)
	}
	if same {
		if req.URL.User == nil {
			req.URL.User = first.URL.User
		}
		return nil
	}
	for name := range req.Header {
		if redact.SecretField(name) && !strings.HasSuffix(name, "Idempotency-Key") {
			delete(req.Header, name)
		}
	}
	return nil
}
