package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/fallback"
	"github.com/seed-0f2c7998/perdure/hedge"
	"github.com/seed-0f2c7998/perdure/internal/secrettest"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/policy"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/retrytest/chaos"
)

// piecesWithSecrets adds the ways of a secret through metrics, fallbacks, hedges, chaos and policy files.
func piecesWithSecrets(t *testing.T, paths map[string]func(*listener)) {
	t.Helper()
	for name, path := range map[string]func(*testing.T, *listener, string){
		"metrics": throughMetrics, "fallback": throughFallback, "hedge": throughHedge, "chaos": throughChaos, "policy": throughPolicy,
	} {
		paths[name] = func(l *listener) {
			for _, text := range secrettest.Texts() {
				path(t, l, text)
			}
		}
	}
}

// throughMetrics has the text as the names of an operation and of a key.
func throughMetrics(t *testing.T, l *listener, text string) {
	t.Helper()
	var registry metrics.Registry
	p := l.policy()
	p.Name, p.Metrics, p.Breaker = text, &registry, circuit.New(text, l.breaker())
	l.ended(retry.Do(t.Context(), &p, func(context.Context) error { return retry.Transient(errors.New(text)) }))
	registry.Watch(circuit.New("of no policy "+text, circuit.Config{}))
	for _, accept := range []string{"", "application/openmetrics-text"} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
		req.Header.Set("Accept", accept)
		page := httptest.NewRecorder()
		registry.ServeHTTP(page, req)
		l.out.Write(page.Body.Bytes())
	}
	s := registry.Snapshot()
	s.AddBreaker("another "+text, circuit.Metrics{})
	if err := s.Write(&l.out, metrics.Text); err != nil {
		t.Error(err)
	}
	fmt.Fprintf(&l.out, "%+v", s)
}

// throughFallback has the text as an operation, as the error that is replaced and as that of the fallback, without an
// observer and with one.
func throughFallback(t *testing.T, l *listener, text string) {
	t.Helper()
	for _, p := range []*fallback.Policy{nil, {Name: text}, {Name: text, Observe: func(_ context.Context, e fallback.Event) {
		fmt.Fprintf(&l.out, "%+v %#v %q %v\n", e, e.Replaced, e.Replaced, e.Err)
	}}} {
		failed := func(context.Context) error { return retry.Transient(errors.New(text)) }
		l.ended(fallback.Do(t.Context(), p, failed, func(context.Context, error) error { return nil }))
		l.ended(fallback.Do(t.Context(), p, failed, func(context.Context, error) error { return errors.New("no cache: " + text) }))
	}
}

// throughHedge has the text as an operation.
func throughHedge(t *testing.T, l *listener, text string) {
	t.Helper()
	var registry metrics.Registry
	h := hedge.Hedge[struct{}]{Name: text, After: time.Nanosecond, Metrics: &registry, Observe: func(_ context.Context, e hedge.Event) {
		fmt.Fprintf(&l.out, "%+v %#v\n", e, e)
	}}
	second := make(chan struct{})
	var begun atomic.Bool
	l.ended(hedge.Do(t.Context(), &h, func(ctx context.Context) error {
		if !begun.Swap(true) { // waits for the other attempt, so that a hedge is sent
			<-second
			<-ctx.Done()
			return ctx.Err()
		}
		close(second)
		return nil
	}))
	if err := registry.Snapshot().Write(&l.out, metrics.Text); err != nil {
		t.Error(err)
	}
}

// throughChaos has the text as the key of a rule and of a call, and in rules that are wrong.
func throughChaos(t *testing.T, l *listener, text string) {
	t.Helper()
	log, _ := l.loggers()
	i, err := chaos.New(chaos.Options{Rules: []chaos.Rule{{Percent: 100, On: text, Fault: chaos.Fault{Kind: chaos.Reset}}}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	i.Start()
	l.ended(chaos.Do(t.Context(), i, text, func(context.Context) error { return nil }))
	i.Stop()
	for _, rule := range []string{"5% 503 on=" + text, "5% 503 x on=" + text, "5% " + text, text, "5% 503 after=" + text, "seed=" + text} {
		o, err := chaos.Parse(rule)
		fmt.Fprintf(&l.out, "%v %v\n", o.Rules, err)
	}
}

// throughPolicy has the text as a name, as values and beside what is wrong in a policy file, and in its name.
func throughPolicy(t *testing.T, l *listener, text string) {
	t.Helper()
	log, _ := l.loggers()
	quoted := "'" + strings.ReplaceAll(text, "'", "''") + "'"
	path := filepath.Join(t.TempDir(), "policies.yaml")
	var set *policy.Set
	for _, file := range []string{
		"policies: {x: {max_attempts: 3}}\nstore: memory\n",
		"policies: {x: {max_attempts: " + quoted + "}}\n",
		"policies: {x: {max_attempts: 0}} # " + text + "\n# " + text + "\n",
		"policies:\n  " + quoted + ": {max_attempts: 0}\n",
		"policies: {x: {" + quoted + ": 3}}\n",
		"policies: {x: {preset: " + quoted + "}}\n",
		"policies: {x: {name: " + quoted + ", circuit_breaker: " + quoted + "}}\n",
		"store: " + quoted + "\n", "store: " + text + "\n", "- " + text + "\n", text + "\n", "policies: [" + text + "\n",
	} {
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		loaded, err := policy.Options{Log: log}.Load(path)
		fmt.Fprintf(&l.out, "%s%v %+v\n", "", err, err)
		if set == nil {
			set = loaded
		}
		if set == nil {
			t.Fatalf("the first file: %v", err)
		}
		fmt.Fprintln(&l.out, set.Reload())
		if loaded == nil {
			continue
		}
		_, err = loaded.For(text)
		fmt.Fprintln(&l.out, err)
		if p, err := loaded.For("x"); err == nil {
			fmt.Fprintln(&l.out, p.Name, p.Breaker)
		}
	}
}
