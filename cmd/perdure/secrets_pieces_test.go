package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/internal/secrettest"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/policy"
	"github.com/seed-0f2c7998/perdure/redisstore"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/retrytest"
	"github.com/seed-0f2c7998/perdure/retrytest/chaos"
)

// piecesWithSecrets adds the ways of a secret through metrics, fallbacks, hedges, chaos and policy files.
func piecesWithSecrets(t *testing.T, paths map[string]func(*listener)) {
	t.Helper()
	for name, path := range map[string]func(*testing.T, *listener, string){
		"metrics": throughMetrics, "fallback": throughFallback, "hedge": throughHedge, "chaos": throughChaos, "policy": throughPolicy,
		"script": throughScript, "hoststore": throughHostStore, "redisstore": throughRedisStore,
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
	path := filepath.Join(t.TempDir(), "policies.yaml")
	var set *policy.Set
	for _, file := range policyFiles(text) {
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

// throughScript has the text as steps of a script that are wrong.
func throughScript(t *testing.T, l *listener, text string) {
	t.Helper()
	for _, step := range []string{text, "503 " + text, "503 after=" + text, "ok delay=" + text + " x2"} {
		func() {
			defer func() { fmt.Fprintln(&l.out, "panic:", recover()) }()
			retrytest.Script("ok", step)
		}()
	}
}

// throughHostStore has all texts as keys, and shows the names and bytes of all files.
func throughHostStore(t *testing.T, l *listener, text string) {
	t.Helper()
	if text != secrettest.Texts()[0] {
		return // one file has them all
	}
	dir := t.TempDir()
	log, _ := l.loggers()
	store := hoststore.OpenWithLog(dir, log)
	defer store.Close()
	c := l.breaker()
	c.Store, c.Log = store, log
	p := l.policy()
	for _, text := range secrettest.Texts() {
		p.Name, p.Breaker = text, circuit.New("key "+text, c)
		l.ended(retry.Do(t.Context(), &p, func(context.Context) error { return retry.Transient(errors.New(text)) }))
	}
	held := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			content, failed := os.ReadFile(path)
			fmt.Fprintf(&l.out, "%s %s", path, bytes.ReplaceAll(content, []byte{0}, nil))
			held, err = held+bytes.Count(content, []byte("key ")), failed
		}
		return err
	})
	if err != nil || held == 0 {
		t.Errorf("%d keys in the files, %v", held, err)
	}
}

// throughRedisStore has the text as the URL, as an address and in other options, some of which are wrong. No server listens.
func throughRedisStore(t *testing.T, l *listener, text string) {
	t.Helper()
	log, _ := l.loggers()
	all := []redisstore.Options{
		{URL: text},
		{URL: "redis://" + text},
		{Addresses: []string{text}},
		{URL: "redis://127.0.0.1:1", Node: text + "\n"},
		{URL: "redis://127.0.0.1:1", Prefix: text},
		{Addresses: []string{"127.0.0.1:1"}, Username: text},
		{Addresses: []string{"127.0.0.1:1"}, SentinelUsername: text},
	}
	for _, scheme := range []string{"redis", "rediss", "valkey", "valkeys"} {
		all = append(all, redisstore.Options{URL: scheme + "://user:" + secrettest.Password + "@127.0.0.1:1/0"})
	}
	all = append(all, redisstore.Options{URL: "unix://user:" + secrettest.Password + "@/absent/s?db=0"})
	for _, o := range all {
		o.Log, o.Sync = log, 10*time.Millisecond
		fmt.Fprintf(&l.out, "%v %+v %#v\n", o, o, o)
		store, err := redisstore.Open(o)
		if err != nil {
			l.ended(err)
			continue
		}
		said := fmt.Sprintln(store.Err(), store)
		store.Close() // which ends the goroutine that logs
		l.out.WriteString(said)
	}
}

// policyFiles returns policy files with the text as a name, as a value and beside what is wrong. The first is valid.
func policyFiles(text string) []string {
	quoted := "'" + strings.ReplaceAll(text, "'", "''") + "'"
	return []string{
		"policies: {x: {max_attempts: 3}, seen: {}}\nstore: memory\n",
		"policies: {x: {max_attempts: " + quoted + "}}\n",
		"policies: {x: {max_attempts: 0}} # " + text + "\n# " + text + "\n",
		"policies:\n  " + quoted + ": {max_attempts: 0}\n",
		"policies: {x: {" + quoted + ": 3}}\n",
		"policies: {x: {preset: " + quoted + "}}\n",
		"policies: {x: {name: " + quoted + ", circuit_breaker: " + quoted + "}}\n",
		"policies:\n  " + quoted + ": {max_attempts: 3, circuit_breaker: b}\nbreakers: {b: {failure_threshold: 3}}\n",
		"breakers:\n  " + quoted + ": {failure_threshold: 3}\npolicies: {x: {circuit_breaker: " + quoted + "}}\n",
		"breakers:\n  " + quoted + ": {failure_threshold: " + quoted + "}\n",
		"proxy: {/seen: {to: " + quoted + "}}\n", "proxy:\n  " + quoted + ": {to: http://a.test}\n", "proxy: {/seen: {to: http://a.test, policy: " + quoted + "}}\n",
		"store: " + quoted + "\n", "store: " + text + "\n", "- " + text + "\n", text + "\n", "policies: [" + text + "\n",
	}
}
