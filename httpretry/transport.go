// Package httpretry makes the requests of a net/http client outlast failures.
//
// A [Transport] is a drop-in [http.RoundTripper]:
//
//	api := retry.APICall()
//	client := httpretry.Client(&api) // or: client.Transport = httpretry.NewTransport(client.Transport, httpretry.Options{Policy: &api})
//	res, err := client.Get("https://api.example.org/stations")
//
// Each request is one operation of package retry, which decides everything: there is no loop in here. What this
// package knows is HTTP: which requests may be repeated, what a status or an error of the transport means, how long
// the server asked to wait, how a body is sent again, and how a connection is kept for the next attempt.
//
// # How it ends
//
// When attempts are given up and the last one had an answer, the caller gets that answer, unread, with a nil error, as
// from any client; [Ended] says why there was no other attempt. When the last attempt had no answer, the error is
// that of [retry.Value], which the http.Client wraps in its [url.Error] as usual: a [*retry.Error] if there were
// several attempts, else the error itself.
//
// The context of the request bounds the operation: all attempts and all waits.
package httpretry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/digest"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/unzip"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/watchdog"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Options say how a [Transport] treats its requests. The zero Options retry by the zero Policy.
type Options struct {
	// Policy decides what is retried, and when; nil is the zero Policy. Do not change it afterwards.
	// Its AttemptTimeout bounds the time to the head of an answer, not the reading of its body.
	// Its Classify, if any, is asked first; it sees a *StatusError for every answer from 400 on, and the base
	// transport's error if there was no answer.
	Policy *retry.Policy

	// Breakers, if set, gives each key a breaker of its own, in place of the Policy's: with this Config's budget, and
	// with the instant before which a server asked not to be called. A breaker's name is "http:" and the key.
	Breakers *circuit.Config

	// Registry holds those breakers; nil: one of the Transport's own. A key's breaker is never forgotten.
	Registry *circuit.Registry

	// Key returns what shares a breaker; nil: [Key]. It is called for each request, by many goroutines at once.
	Key func(*http.Request) string

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
	NoResume bool

	// StallTimeout is how long nothing of such a body may come before its connection counts as broken;
	// 0 is 20 s for a body that can be resumed and for ever otherwise, negative is for ever.
	StallTimeout time.Duration

	// OnResume is called before a broken body is resumed, on the goroutine that reads it; nil: logs to slog.Default().
	OnResume func(Resumption)
}

// A DigestError is a body that is not the one which a header of its answer tells of.
type DigestError = digest.Error

const (
	defaultBufferLimit = 1 << 20
	defaultSpoolLimit  = 64 << 20
)

// Key returns the server that a request is for: scheme://host:port.
func Key(req *http.Request) string {
	host, port := req.URL.Hostname(), req.URL.Port()
	if port == "" && req.URL.Scheme == "https" {
		port = "443"
	} else if port == "" {
		port = "80"
	}
	return req.URL.Scheme + "://" + net.JoinHostPort(host, port)
}

// A Transport is an http.RoundTripper that retries. Make one with [NewTransport].
// It is safe for concurrent use, as its base is.
type Transport struct {
	base     http.RoundTripper
	options  Options
	policy   retry.Policy // with our classifier and observer
	registry *circuit.Registry

	dogs watchdog.Kennel
	gzip []string // the Accept-Encoding that the base would add by itself; nil: it would not

	mu   sync.RWMutex
	keys map[share]*retry.Policy // policy with the breaker of the key; guarded by mu
}

// A share is what requests have in common that share a breaker. It saves making Key's string for each request.
type share struct{ scheme, host, key string }

// NewTransport returns a Transport whose attempts are made by base; nil is [http.DefaultTransport].
// Options that are not valid show in the error of each request.
func NewTransport(base http.RoundTripper, o Options) *Transport {
	if base == nil {
		base = http.DefaultTransport
	}
	t := &Transport{base: base, options: o, registry: o.Registry, keys: make(map[share]*retry.Policy)}
	if o.Policy != nil {
		t.policy = *o.Policy
	}
	if t.registry == nil {
		t.registry = new(circuit.Registry)
	}
	if plain, ok := base.(*http.Transport); !o.NoResume && (!ok || !plain.DisableCompression) {
		t.gzip = []string{"gzip"}
	}
	t.policy.Classify = classifier(t.policy.Classify)
	t.policy.Observe = observer(t.policy.Observe)
	return t
}

// Client returns a client that retries by p, with [http.DefaultTransport] below; a nil p is the zero Policy.
func Client(p *retry.Policy) *http.Client {
	return &http.Client{Transport: NewTransport(nil, Options{Policy: p})}
}

// classifier returns the Classify that asks the user's and then ours.
func classifier(user func(error) retry.Class) func(error) retry.Class {
	if user == nil {
		return classOf
	}
	return func(err error) retry.Class {
		if c := user(err); c != retry.ClassUnknown {
			return c
		}
		return classOf(err)
	}
}

// observer returns the Observe that frees the connection of an unwanted answer before the wait, and then calls the user's.
func observer(user func(retry.Event)) func(retry.Event) {
	return func(e retry.Event) {
		if e.Kind == retry.Retrying {
			if answer, ok := errors.AsType[*StatusError](e.Err); ok {
				answer.discard()
			}
		}
		if user != nil {
			user(e)
			return
		}
		retry.LogTo(slog.Default())(e)
	}
}

// RoundTrip makes as many attempts as it takes, or as the policy allows. It does not change req.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	policy, err := t.policyFor(req)
	if err != nil {
		if req.Body != nil {
			req.Body.Close() // as a RoundTripper must
		}
		return nil, err
	}
	e := exchange{transport: t, policy: policy, req: req, idempotent: isIdempotent(req)}
	e.prepare()
	res, err := retry.Value(req.Context(), policy, func(ctx context.Context) (*http.Response, error) {
		return e.attempt(ctx)
	})
	e.upload.Finish()
	if err != nil {
		return e.giveUp(res, err)
	}
	e.sustain(res)
	if e.zipped {
		unzip.Response(res)
	}
	return res, nil
}

// CloseIdleConnections closes those of the base transport, if it has any.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// policyFor returns the policy for req: with the breaker of its key, if keys have one.
func (t *Transport) policyFor(req *http.Request) (*retry.Policy, error) {
	if t.options.Breakers == nil || req.URL == nil {
		return &t.policy, nil
	}
	s := share{scheme: req.URL.Scheme, host: req.URL.Host}
	if t.options.Key != nil {
		s = share{key: t.options.Key(req)}
	}
	t.mu.RLock()
	p := t.keys[s]
	t.mu.RUnlock()
	if p != nil {
		return p, nil
	}
	if t.options.Key == nil {
		return t.learn(s, Key(req))
	}
	return t.learn(s, s.key)
}

// learn makes the policy of a key at its first request.
func (t *Transport) learn(s share, key string) (*retry.Policy, error) {
	breaker, err := t.registry.Get("http:"+key, *t.options.Breakers)
	if err != nil {
		return nil, fmt.Errorf("httpretry: breaker of %s: %w", key, err)
	}
	p := t.policy
	p.Breaker = breaker
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.keys[s]; known != nil {
		return known, nil // another goroutine was faster
	}
	t.keys[s] = &p
	return &p, nil
}
