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

// Options say how a [Transport] treats its requests. The zero Options retry by the zero Policy.
type Options struct {
	// Policy decides what is retried, and when; nil is the zero Policy. Do not change it afterwards.
	// Without a Name, its operation is called http_request.
	// Its AttemptTimeout bounds the time to the head of a response, not the reading of its body.
	// Its Classify, if any, is asked before the general rules; it gets a *StatusError for every response from 400 on, and
	// the base transport's error if there was no response.
	Policy *retry.Policy

	// Breakers, if set, gives each key its own breaker in place of the Policy's, with the budget of this Config. The name
	// of a breaker is "http:" and the key.
	Breakers *circuit.Config

	// Registry holds those breakers, and evicts them as its type says. If nil, the Transport has its own.
	Registry *circuit.Registry

	// Key returns the key of a request; requests with one key share a breaker. If nil, [Key] is used. It is called for
	// each request, by many goroutines at once.
	Key func(*http.Request) string

	// Classify, if set, returns what a response means, for retries and for the breaker alike. ClassUnknown leaves the
	// response to the Policy: its Classify, and the status. Classify is called once for each response, also for those
	// below 400, by many goroutines at once; the response has its status and its header, and no body.
	// The lists RetryOn and IgnoreOn of the Policy have the last word.
	Classify func(*http.Response) retry.Class

	// RetryAfter, if set, returns how long a response that is to be retried asks to wait; ok false leaves that to its
	// [RetryAfter] header and, for a 429 or a 503, its [RateLimit] headers. It is called as Classify is.
	RetryAfter func(*http.Response) (wait time.Duration, ok bool)

	// AttemptHeader, if set, is the name of a request header that carries the number of the attempt, from 1.
	AttemptHeader string

	// IdempotencyKeys gives each POST and PATCH without an Idempotency-Key a random one, the same for all its attempts,
	// so that it may be repeated. The server has to know what that means: see the IETF's Idempotency-Key draft.
	// A request that is redirected gets another one.
	IdempotencyKeys bool

	// Hedge, if set, sends a GET or HEAD a second time when its latency exceeds a percentile of those for its key.
	Hedge *Hedge

	// BufferLimit is how many bytes of an upload are kept in memory for a retry, when its reader can't be rewound;
	// 0 means 1 MiB, a negative value none. Bodies with a GetBody and those that are an io.Seeker are rewound, not kept.
	BufferLimit int64

	// SpoolLimit is how many bytes of such an upload are kept in all, those beyond BufferLimit in a temporary file;
	// 0 means 64 MiB, a negative value no file. A longer upload is sent once: see ErrBody.
	SpoolLimit int64

	// NoResume turns resuming off. By default the body of a response to a GET that breaks or stalls is resumed on another
	// connection, if the response has a strong ETag or a Last-Modified that identifies the representation: the caller
	// reads one body, never a mixture of two versions. If that is impossible, Read returns a *BodyError. Digests in the
	// header (Content-Digest, Repr-Digest, Content-MD5, x-amz-checksum-...) are verified: Read returns a *DigestError
	// in place of io.EOF. The trailer is that of the response with which the body ended.
	NoResume bool

	// StallTimeout is how long a Read of such a body may return nothing before the connection counts as broken.
	// 0 means 20 s for a body that can be resumed, and no limit otherwise; a negative value means no limit.
	StallTimeout time.Duration

	// MinRate is the minimum rate of such a body in bytes per second, averaged over 60 s; 0 means no limit. A slower body
	// counts as a connection that timed out: it is resumed if possible, at most as often in a row as the Policy allows
	// attempts. Time between Reads does not count.
	//
	// With a MaxElapsed of the Policy below 60 s, the rate is averaged over that, and at least over 1 s. After MaxElapsed,
	// a body whose end is known or that can be resumed must exceed 1024 bytes per second even if MinRate is 0.
	MinRate int64

	// OnResume is called before a broken body is resumed, on the goroutine that reads it. If nil, slog.Default() logs it.
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
	if o.MinRate < 0 {
		return setting.Bad("MinRate", fmt.Sprint(o.MinRate), "bytes per second, or 0 for no limit")
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

// Key returns the server that a request is for: scheme://host:port.
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
// its key. The first response wins whose status is neither 429 nor 5xx; the other request is canceled and its response
// drained. Hedging helps against servers that are sometimes slow, and harms overloaded ones: hence a budget.
// Both requests are one attempt. The zero Hedge is ready for use. A latency ends with the head of a response. After
// a thousand keys all latencies are dropped.
type Hedge struct {
	Percentile float64       // of the latencies, above which a request is slow; between 0 and 1; 0 means 0.95
	Min        time.Duration // minimum time before the second request; 0 means 10 ms
	Ratio      float64       // second requests per first one, saved up to 10; at most 1; 0 means 0.05
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

// hedger returns what knows the latencies of a key.
func (h *Hedge) hedger() *hedge.Hedger {
	if h == nil {
		return nil
	}
	known := &hedge.Hedger{Percentile: h.Percentile, Min: h.Min, Ratio: h.Ratio}
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

// CheckRedirect is for the field of that name of an [http.Client]; the clients of this package have it. It follows up to
// ten redirects, of which none gets to know more than it must:
//
//   - No redirect has a Referer, which may be a URL with a signature or a token in it, unless the caller has set one.
//   - Once a redirect leads to another scheme, host or port, it and those after it have none of the fields that grant
//     access: Authorization, Cookie, and those named as a key or a token. A [http.CookieJar] has rules of its own.
//   - A redirect leads to http or https, and claims no breaker otherwise.
//   - A redirect to the same scheme, host and port keeps the user and the password of the URL.
//
// It is safe for concurrent use.
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
