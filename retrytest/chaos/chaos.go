// Package chaos injects faults into the calls of a running service, to show that its retries, breakers and fallbacks work.
//
//	faults, err := chaos.FromEnv() // PERDURE_CHAOS="5% 503 after=2s on=api.example.com; 1% reset; seed=7"
//	client := &http.Client{Transport: httpretry.NewTransport(faults.Transport(nil, nil), options)}
//
// An [Injector] is off until [Injector.Start], or until a program that calls [FromEnv] has the environment variable. While
// it is off, a call costs one atomic load. It logs at WARN that it starts and stops, and once a minute how many faults it
// has injected.
//
// The faults are inside the process, where a real client has its network: put the Injector below the retries. They are
// those of package retrytest, in the same words; the servers of httptestfault and s3test inject faults in the network.
package chaos

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/redact"
)

// Variable is the environment variable that [FromEnv] reads.
const Variable = "PERDURE_CHAOS"

// Options configure an [Injector]. The zero Options inject nothing.
type Options struct {
	// Rules say which calls fail, and how.
	Rules []Rule
	// Seed chooses the calls that fail: the fault of the nth call of a key depends only on Seed, the key and n, not on time
	// or on calls of other keys.
	Seed uint64
	// Log receives the warnings; nil means slog.Default().
	Log *slog.Logger
}

// A Rule injects a fault into a share of the calls. The Rules that match the key of a call exclude each other: of "5% 503;
// 1% reset", 6 % of the calls fail. If the shares exceed 100, those of the last rules are cut.
type Rule struct {
	Percent float64 // share of the calls, above 0 and at most 100
	On      string  // the key of the calls; with a * at its end all keys that begin so; "" means all calls
	Fault   Fault
}

// String returns the text of r, as for [Parse], without the secrets in a URL.
func (r Rule) String() string {
	text := strconv.FormatFloat(r.Percent, 'g', -1, 64) + "% " + r.Fault.String()
	if r.On != "" {
		text += " on=" + redact.String(r.On)
	}
	return text
}

func (r *Rule) matches(key string) bool {
	if prefix, ok := strings.CutSuffix(r.On, "*"); ok {
		return strings.HasPrefix(key, prefix)
	}
	return r.On == "" || r.On == key
}

// Parse reads Options as text: rules, and seed=NUMBER, with a semicolon between them. A rule is a percentage, a fault as
// for [ParseFault], and on=KEY: "5% 503 after=2s on=api.example.com; 10% ok delay=300ms; seed=7".
func Parse(text string) (Options, error) {
	var o Options
	seeded := false
	for part := range strings.SplitSeq(text, ";") {
		words := strings.Fields(part)
		if len(words) == 0 {
			continue
		}
		if seed, ok := strings.CutPrefix(words[0], "seed="); ok && len(words) == 1 {
			if seeded {
				return Options{}, fmt.Errorf("chaos: seed is given twice")
			}
			seeded = true
			var err error
			if o.Seed, err = strconv.ParseUint(seed, 10, 64); err != nil {
				return Options{}, fmt.Errorf("chaos: invalid value %q for seed: must be a whole number", redact.String(seed))
			}
			continue
		}
		r, err := parseRule(words)
		if rule := strings.TrimSpace(part); err != nil && redact.String(rule) != rule { // a word alone is no longer known as a secret
			return Options{}, fmt.Errorf("chaos: invalid rule %q: must be a percentage, a fault and on=KEY", redact.String(rule))
		} else if err != nil {
			return Options{}, fmt.Errorf("chaos: rule %q: %w", rule, err)
		}
		o.Rules = append(o.Rules, r)
	}
	return o, nil
}

func parseRule(words []string) (r Rule, err error) {
	percent, ok := strings.CutSuffix(words[0], "%")
	if r.Percent, err = strconv.ParseFloat(percent, 64); !ok || err != nil {
		return r, fmt.Errorf("begins with %q: must begin with a percentage such as 5%%", words[0])
	}
	var rest []string
	if r.Fault, rest, err = parse(words[1:]); err != nil {
		return r, fmt.Errorf("%w; %s", err, allowed)
	}
	for _, word := range rest {
		key, ok := strings.CutPrefix(word, "on=")
		if !ok || key == "" {
			return r, fmt.Errorf("unknown word %q: must be on=KEY, delay=2s or, with a status, after=2s", word)
		}
		if r.On != "" {
			return r, fmt.Errorf("on is given twice: must be one key; write a rule for each")
		}
		r.On = key
	}
	return r, r.validate()
}

func (r *Rule) validate() error {
	if !(r.Percent > 0 && r.Percent <= 100) {
		return fmt.Errorf("invalid value %v for Percent: must be above 0 and at most 100", r.Percent)
	}
	return r.Fault.validate()
}

// An Injector injects faults into calls while it is on. A nil *Injector is always off, and the
// zero Injector has no rules: make one with [New]. It is safe for concurrent use.
type Injector struct {
	rules []Rule
	seed  uint64
	log   *slog.Logger

	on       atomic.Bool
	injected []atomic.Uint64 // by rule
	mu       sync.Mutex
	calls    map[string]uint64 // by key, while on
	reported time.Time         // when the counts were logged last
}

// New returns an Injector that is off. Its error names the rule, the value and what is allowed.
func New(o Options) (*Injector, error) {
	for i := range o.Rules {
		if err := o.Rules[i].validate(); err != nil {
			return nil, fmt.Errorf("chaos: Rules[%d]: %w", i, err)
		}
	}
	i := &Injector{rules: append([]Rule(nil), o.Rules...), seed: o.Seed, log: o.Log}
	i.injected = make([]atomic.Uint64, len(i.rules))
	return i, nil
}

// FromEnv returns an Injector with the Options in the environment variable PERDURE_CHAOS (see [Parse]), which is on. If the
// variable is empty or not set, the Injector is off and has no rules.
func FromEnv() (*Injector, error) {
	o, err := Parse(os.Getenv(Variable))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Variable, err)
	}
	i, err := New(o)
	if err == nil && len(o.Rules) > 0 {
		i.Start()
	}
	return i, err
}

// Start switches i on, and logs its rules at WARN. Start of a nil Injector, or of one that is on, has no effect.
func (i *Injector) Start() {
	if i == nil || i.on.Swap(true) {
		return
	}
	i.mu.Lock()
	i.reported = time.Now()
	i.mu.Unlock()
	i.warn("Chaos is ON: faults are injected into calls of this process", slog.String("rules", i.String()))
}

// Stop switches i off, and logs at WARN how many faults it has injected. Calls that have begun are not affected.
func (i *Injector) Stop() {
	if i != nil && i.on.Swap(false) {
		i.warn("Chaos is off", i.counts())
	}
}

// On reports whether i is on.
func (i *Injector) On() bool { return i != nil && i.on.Load() }

// Injected returns the number of faults injected by each rule.
func (i *Injector) Injected() []uint64 {
	if i == nil {
		return nil
	}
	counts := make([]uint64, len(i.injected))
	for n := range i.injected {
		counts[n] = i.injected[n].Load()
	}
	return counts
}

// String returns the rules and the seed, as for [Parse], without the secrets in URLs.
func (i *Injector) String() string {
	if i == nil {
		return ""
	}
	var parts []string
	for _, r := range i.rules {
		parts = append(parts, r.String())
	}
	return strings.Join(append(parts, "seed="+strconv.FormatUint(i.seed, 10)), "; ")
}

// maxKeys is the number of keys that have a sequence of their own; all others share one.
const maxKeys = 1000

// fault returns the fault of the next call of key. i is on.
func (i *Injector) fault(key string) Fault {
	i.mu.Lock()
	if i.calls == nil {
		i.calls = map[string]uint64{}
	}
	if _, known := i.calls[key]; !known && len(i.calls) >= maxKeys {
		key = ""
	}
	i.calls[key]++
	n := i.calls[key]
	i.mu.Unlock()
	h := fnv.New64a()
	_, _ = h.Write([]byte(key))
	u := 100 * rand.New(rand.NewPCG(i.seed^h.Sum64(), n)).Float64() //nolint:gosec // not a secret
	for at := range i.rules {
		if r := &i.rules[at]; r.matches(key) {
			if u -= r.Percent; u < 0 {
				i.injected[at].Add(1)
				i.remind()
				return r.Fault
			}
		}
	}
	return Fault{}
}

// remind logs the counts once a minute.
func (i *Injector) remind() {
	i.mu.Lock()
	now := time.Now()
	due := now.Sub(i.reported) >= time.Minute
	if due {
		i.reported = now
	}
	i.mu.Unlock()
	if due {
		i.warn("Chaos is ON: faults were injected", i.counts())
	}
}

func (i *Injector) counts() slog.Attr {
	var attrs []any
	for n := range i.rules {
		attrs = append(attrs, slog.Uint64(i.rules[n].String(), i.injected[n].Load()))
	}
	return slog.Group("injected", attrs...)
}

func (i *Injector) warn(text string, attrs ...any) {
	log := i.log
	if log == nil {
		log = slog.Default()
	}
	log.Warn(text, attrs...)
}

// Do is [Value] for functions that return no value.
func Do(ctx context.Context, i *Injector, key string, f func(context.Context) error) error {
	if !i.On() {
		return f(ctx)
	}
	_, err := Call(ctx, i.fault(key), func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}

// Value calls f with the fault that i has for the next call of key, such as the name of an operation. While i is off or
// nil, Value calls f.
func Value[T any](ctx context.Context, i *Injector, key string, f func(context.Context) (T, error)) (T, error) {
	if !i.On() {
		return f(ctx)
	}
	return Call(ctx, i.fault(key), f)
}

// Transport returns a RoundTripper that sends requests by base with the faults of i. If base is nil,
// http.DefaultTransport is used. key returns the key of a request; nil means the host and port of its URL.
func (i *Injector) Transport(base http.RoundTripper, key func(*http.Request) string) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	if key == nil {
		key = func(req *http.Request) string { return strings.ToLower(req.URL.Host) }
	}
	return &transport{injector: i, base: base, key: key}
}

type transport struct {
	injector *Injector
	base     http.RoundTripper
	key      func(*http.Request) string
}

// RoundTrip sends req with the fault of its key.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if !t.injector.On() {
		return t.base.RoundTrip(req)
	}
	return t.injector.fault(t.key(req)).RoundTrip(t.base, req)
}

// CloseIdleConnections closes those of the base.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
