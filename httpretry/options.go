package httpretry

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/hedge"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Options say how a [Transport] treats its requests. The zero Options retry by the zero Policy.
type Options struct {
	// Policy decides what is retried, and when; nil is the zero Policy. Do not change it afterwards.
	// Without a Name, its operation is called http_request.
	// Its AttemptTimeout bounds the time to the head of an answer, not the reading of its body.
	// Its Classify, if any, is asked before the general rules; it gets a *StatusError for every response from 400 on, and
	// the base transport's error if there was no response.
	Policy *retry.Policy

	// Breakers, if set, gives each key a breaker of its own, in place of the Policy's: with this Config's budget, and
	// with the instant before which a server asked not to be called. A breaker's name is "http:" and the key.
	Breakers *circuit.Config

	// Registry holds those breakers, and forgets them as its type says; nil: one of the Transport's own.
	Registry *circuit.Registry

	// Key returns what shares a breaker; nil: [Key]. It is called for each request, by many goroutines at once.
	Key func(*http.Request) string

	// Classify, if set, returns what a response means, for retries and for the breaker alike. ClassUnknown leaves the
	// response to the Policy: its Classify, and the status. Classify is called once for each response, also for those
	// below 400, by many goroutines at once; the response has its status and its header, and no body.
	// The lists RetryOn and IgnoreOn of the Policy have the last word.
	Classify func(*http.Response) retry.Class

	// RetryAfter, if set, returns how long a response that is to be retried asks to wait; ok false leaves that to its
	// [RetryAfter] header and, for a 429 or a 503, its [RateLimit] headers. It is called as Classify is.
	RetryAfter func(*http.Response) (wait time.Duration, ok bool)

	// AttemptHeader, if set, is the name of a header that tells the server the number of the attempt, from 1.
	AttemptHeader string

	// IdempotencyKeys gives each POST and PATCH without an Idempotency-Key a random one, the same for all its attempts,
	// so that it may be repeated. The server has to know what that means: see the IETF's Idempotency-Key draft.
	// A request that is redirected gets another one.
	IdempotencyKeys bool

	// Hedge, if set, sends a GET or HEAD a second time when its answer takes longer than most of its key do.
	Hedge *Hedge

	// BufferLimit is how many bytes of an upload are kept in memory for a retry, when its reader can't be rewound;
	// 0 is 1 MiB, negative is none. Bodies with a GetBody and those that are an io.Seeker are rewound, not kept.
	BufferLimit int64

	// SpoolLimit is how many bytes of such an upload are kept in all, those beyond BufferLimit in a temporary file;
	// 0 is 64 MiB, negative is no file. A longer upload is sent once: see ErrBody.
	SpoolLimit int64

	// NoResume leaves the bodies of answers as the base transport gives them. Otherwise that of an answer to a GET goes
	// on with the rest on another connection when its own breaks or stalls, if the entity has a strong ETag or a
	// Last-Modified that identifies it: the caller sees one body, which is never put together from two versions.
	// If that can't be, Read returns a *BodyError. Digests that the answer offers (Content-Digest, Repr-Digest,
	// Content-MD5, x-amz-checksum-...) are verified: a *DigestError comes in place of the last io.EOF.
	// The trailer of the response is that of the one with which its body ended.
	NoResume bool

	// StallTimeout is how long nothing of such a body may come before its connection counts as broken;
	// 0 is 20 s for a body that can be resumed and for ever otherwise, negative is for ever.
	StallTimeout time.Duration

	// MinRate is the least bytes per second that such a body must bring, averaged over 60 s; 0 means no limit. A slower
	// one is a connection that timed out: it is resumed if it can be, at most as often in a row as the Policy allows
	// attempts. The time that the reader takes between its reads does not count.
	//
	// With a Policy's MaxElapsed, the rate is averaged over that if it is less than 60 s, but at least over 1 s; and once it has passed, a body
	// whose end is known, or that can be resumed, is held to 1024 bytes per second even if MinRate is 0.
	MinRate int64

	// OnResume is called before a broken body is resumed, on the goroutine that reads it; nil: logs to slog.Default().
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

// A Hedge sends a GET or HEAD a second time when its answer takes longer than most of the last 256 of its key did, and
// takes the answer that comes first and is none of 429 and 5xx; the other request is cancelled, and its answer
// drained. It helps against servers that are sometimes slow, and harms those that are overloaded: hence a budget.
// Both requests are one attempt. The zero Hedge is ready for use. Latencies count up to the head of an answer; after
// a thousand keys, those of all are forgotten.
type Hedge struct {
	Percentile float64       // of the latencies, beyond which a request is slow; above 0 and below 1; 0 is 0.95
	Min        time.Duration // the least time before a second request; 0 is 10 ms
	Ratio      float64       // second requests for each first one, saved up to 10; at most 1; 0 is 0.05
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
